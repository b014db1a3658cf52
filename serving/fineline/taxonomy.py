"""The labels as frozen objects, read from ``taxonomy.toml``.

Nothing else in the project states what a label of ours is; ``own_labels`` reads a team's. ``load_taxonomy`` gives ours;
``Taxonomy.extended`` adds a team's, as a bundle that was trained on them has them. Corpus, public sources and
evaluation suites know ours alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from fineline.config import build, read_toml
from fineline.errors import ConfigError

TAXONOMY_FILE = Path(__file__).with_name("taxonomy.toml")
GROUPS = ("prohibited", "discrimination", "rights")
OWN_GROUP = "own"
"""Group of a team's label that belongs to none of ours."""

CROSSWALKS = ("ail", "lg3", "openai")
OPENAI_CATEGORIES = tuple(
    "harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm self-harm/instructions "
    "self-harm/intent sexual sexual/minors violence violence/graphic".split()
)
"""Categories of the OpenAI moderation API, which the crosswalk ``openai`` names."""

STATE_INTEREST = frozenset({"subversion", "national_security", "secession"})
"""Labels that a person decides on, never a score."""

_TOP_KEYS = {"version", "principle", "principle_zh", "never_flag_any", "never_flag_any_zh", "label"}


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label.

    Attributes:
        id: Stable id; a ground of discrimination is ``discrimination/<ground>``.
        group: ``prohibited``, ``discrimination`` or ``rights``; a team's label may also be in ``own``.
        name_en: English name.
        name_zh: Chinese name.
        clauses: Clauses it comes from, text and article.
        definition: One sentence, English.
        definition_zh: The same in Chinese.
        flag: What is flagged.
        flag_zh: The same in Chinese.
        never_flag: What is never flagged.
        never_flag_zh: The same in Chinese.
        overlaps: Labels whose truth a row that names only this label leaves unknown.
        crosswalk: Categories of other taxonomies, each ``=id`` (close) or ``~id`` (partly).
        action: A team's label only: what policies that do not name it do with it, ``review`` or ``block``.
    """

    id: str
    group: str
    name_en: str
    name_zh: str
    clauses: tuple[str, ...]
    definition: str
    definition_zh: str
    flag: tuple[str, ...]
    flag_zh: tuple[str, ...]
    never_flag: tuple[str, ...]
    never_flag_zh: tuple[str, ...]
    overlaps: tuple[str, ...]
    crosswalk: Mapping[str, tuple[str, ...]]
    action: str | None = None

    @property
    def rule(self) -> str:
        """The plain rule that accompanies a verdict."""
        return f"{self.name_en}: {self.definition}"

    def as_table(self) -> dict[str, Any]:
        """The label as its file states it: plain data, for JSON; ``own_label`` reads it back."""
        table: dict[str, Any] = {"id": self.id, "group": self.group, "name": {"en": self.name_en, "zh": self.name_zh}}
        for name, value in vars(self).items():
            if value is not None and not name.startswith("name_"):
                table[name] = list(value) if isinstance(value, tuple) else value
        return table | {"crosswalk": {name: list(entries) for name, entries in self.crosswalk.items()}}


@dataclass(frozen=True, kw_only=True)
class Taxonomy:
    """All labels, in the order of the classifier's outputs."""

    version: str
    principle: str
    principle_zh: str
    never_flag_any: tuple[str, ...]
    never_flag_any_zh: tuple[str, ...]
    labels: tuple[Label, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Label ids in output order."""
        return tuple(label.id for label in self.labels)

    @property
    def own(self) -> tuple[Label, ...]:
        """Labels that a team added or defined anew."""
        return tuple(label for label in self.labels if label.action is not None)

    def group(self, name: str) -> tuple[str, ...]:
        """Ids of the labels in one group."""
        return tuple(label.id for label in self.labels if label.group == name)

    def extended(self, labels: Iterable[Label]) -> "Taxonomy":
        """This taxonomy with a team's labels.

        A label of a new id comes behind those that are here. One of an id that is here already is another definition of
        it and takes its place, so that the order of the outputs stays.

        Raises:
            ConfigError: An id stands twice among the labels, or an overlap names no label.
        """
        given = tuple(labels)
        added = {label.id: label for label in given}
        kept = tuple(added.pop(label.id, label) for label in self.labels)
        if len({label.id for label in given}) != len(given):
            raise ConfigError("taxonomy_duplicate", "Two own labels have the same id; ids must be unique.")
        whole = replace(self, labels=(*kept, *added.values()))
        _check_overlaps(whole, "own labels")
        return whole

    def __getitem__(self, label_id: str) -> Label:
        for label in self.labels:
            if label.id == label_id:
                return label
        raise KeyError(label_id)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class _Names:
    en: str
    zh: str


@dataclass(frozen=True, kw_only=True)
class _Crosswalk:
    ail: tuple[str, ...]
    lg3: tuple[str, ...]
    openai: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LabelEntry:
    """A label as a file states it."""

    id: str
    group: str
    name: _Names
    clauses: tuple[str, ...]
    definition: str
    definition_zh: str
    flag: tuple[str, ...]
    flag_zh: tuple[str, ...]
    never_flag: tuple[str, ...]
    never_flag_zh: tuple[str, ...]
    overlaps: tuple[str, ...]
    crosswalk: _Crosswalk

    def label(self) -> Label:
        """It as the rest of the package knows it."""
        values = vars(self) | {
            "name_en": self.name.en,
            "name_zh": self.name.zh,
            "crosswalk": dict(vars(self.crosswalk)),
        }
        return Label(**{name: value for name, value in values.items() if name != "name"})


def _check_overlaps(taxonomy: Taxonomy, where: str) -> None:
    for label in taxonomy:
        if unknown := set(label.overlaps) - set(taxonomy.ids):
            raise ConfigError(
                "taxonomy_overlap", f"{where}: label '{label.id}' overlaps with unknown '{min(unknown)}'."
            )


def check_group(label: Label, groups: Sequence[str], where: str) -> None:
    """Check the group of a label.

    Raises:
        ConfigError: It is none of ``groups``.
    """
    if label.group not in groups:
        raise ConfigError(
            "taxonomy_group", f"{where}: label '{label.id}': group '{label.group}' is not one of {', '.join(groups)}."
        )


def read_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy file.

    Raises:
        ConfigError: A key is unknown or missing, an id stands twice, or an overlap names no label.
    """
    where = path.name
    table = read_toml(path)
    if wrong := _TOP_KEYS ^ set(table):
        raise ConfigError("taxonomy_key", f"{where}: key '{min(wrong)}' is unknown or missing.")
    labels = tuple(build(LabelEntry, row, f"{where}: label '{row.get('id', '?')}'").label() for row in table["label"])
    ids = [label.id for label in labels]
    if len(set(ids)) != len(ids):
        raise ConfigError("taxonomy_duplicate", f"{where}: a label id stands twice; ids must be unique.")
    taxonomy = Taxonomy(
        version=table["version"],
        principle=table["principle"],
        principle_zh=table["principle_zh"],
        never_flag_any=tuple(table["never_flag_any"]),
        never_flag_any_zh=tuple(table["never_flag_any_zh"]),
        labels=labels,
    )
    for label in labels:
        check_group(label, GROUPS, where)
    _check_overlaps(taxonomy, where)
    return taxonomy


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy that ships with the package."""
    return read_taxonomy(TAXONOMY_FILE)
