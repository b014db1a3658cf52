"""How statements about groups become labels.

Three honest forms: one ground is known (label 1), the ground is known only to be one of several (``any_of``), or no
group is demeaned (every ground 0). A positive ground says nothing about the other grounds: they stay unknown.
"""

from collections.abc import Iterable, Mapping
from functools import cache

from fineline.taxonomy import load_taxonomy

ETHNICITY = "discrimination/ethnicity"
RELIGION = "discrimination/religion"
NATIONALITY = "discrimination/nationality"
REGION = "discrimination/region"
SEX = "discrimination/sex"
AGE = "discrimination/age"
OCCUPATION = "discrimination/occupation"
HEALTH = "discrimination/health"
OTHER = "discrimination/other"
ORIGIN = (ETHNICITY, NATIONALITY)


@cache
def grounds() -> tuple[str, ...]:
    """Ids of the nine grounds of discrimination."""
    return load_taxonomy().group("discrimination")


def lawful() -> dict[str, int]:
    """Labels of a text that breaks no rule: all 21 are 0."""
    return dict.fromkeys(load_taxonomy().ids, 0)


def no_group_hate() -> dict[str, int]:
    """Labels of a text that demeans no group; ethnic hatred implies a ground, so it is 0 as well."""
    return dict.fromkeys((*grounds(), "ethnic_hatred"), 0)


def any_of(labels: Iterable[str]) -> dict[str, str]:
    """The ``meta`` entry that says at least one of these labels holds."""
    return {"any_of": ",".join(dict.fromkeys(labels))}


def positive(options: Iterable[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Labels and meta of a hateful row: one possible ground is a label, several are ``any_of``, none is any ground."""
    found = tuple(dict.fromkeys(options)) or grounds()
    return ({found[0]: 1}, {}) if len(found) == 1 else ({}, any_of(found))


def options(groups: Iterable[str], table: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Possible grounds of the named groups; a group outside the table could be any ground."""
    return [ground for group in groups for ground in table.get(group, grounds())]
