"""The labels as frozen objects: ours from ``taxonomy.toml``, a team's own from files that say the same of one label.

Nothing else in the project states what a label is. ``load_taxonomy`` gives ours; ``Taxonomy.extended`` adds a team's,
as a bundle that was trained on them has them. Corpus, public sources and evaluation suites know ours alone.
"""

import re
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

OWN_ACTIONS = ("review", "block")
_TOP_KEYS = {"version", "principle", "principle_zh", "never_flag_any", "never_flag_any_zh", "label"}
_FILLED = ("name_en", "name_zh", "definition", "definition_zh", "flag", "flag_zh", "never_flag", "never_flag_zh")
_CROSS = re.compile(r"[=~]\S+")
_OWN_ID = re.compile("[a-z][a-z0-9_]{0,39}(/[a-z0-9_]{1,40})?")
_TAKEN_IDS = {"all", "any", "none", "lawful", *OPENAI_CATEGORIES}
"""Words that files and answers use beside label ids."""


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
class _Entry:
    """A label as ``taxonomy.toml`` states it."""

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
        values = vars(self) | {
            "name_en": self.name.en,
            "name_zh": self.name.zh,
            "crosswalk": dict(vars(self.crosswalk)),
        }
        return Label(**{name: value for name, value in values.items() if name != "name"})


@dataclass(frozen=True, kw_only=True)
class _OwnEntry(_Entry):
    """A label as a team states it."""

    action: str


def _check_overlaps(taxonomy: Taxonomy, where: str) -> None:
    for label in taxonomy:
        if unknown := set(label.overlaps) - set(taxonomy.ids):
            raise ConfigError(
                "taxonomy_overlap", f"{where}: label '{label.id}' overlaps with unknown '{min(unknown)}'."
            )


def _check_group(label: Label, groups: Sequence[str], where: str) -> None:
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
    labels = tuple(build(_Entry, row, f"{where}: label '{row.get('id', '?')}'").label() for row in table["label"])
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
        _check_group(label, GROUPS, where)
    _check_overlaps(taxonomy, where)
    return taxonomy


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy that ships with the package."""
    return read_taxonomy(TAXONOMY_FILE)


def check_own_id(label_id: str, where: str) -> None:
    """Check that a team may call a label so; an id of ours is its new definition.

    Raises:
        ConfigError: It is not of the shape of an id, or a word that files and answers use beside ids.
    """
    if label_id not in load_taxonomy().ids and (not _OWN_ID.fullmatch(label_id) or label_id in _TAKEN_IDS):
        raise ConfigError(
            "own_label_id",
            f"{where}: the id of a label has small letters, digits and '_', one '/' at most, begins with a letter, and "
            "is no category of the OpenAI API, nor all, any, none or lawful; choose another.",
        )


def own_label(table: Any, where: str) -> Label:
    """Read a team's label, from its file or from a bundle.

    Args:
        table: The parsed table, in the shape of ``Label.as_table``.
        where: File, for messages.

    Raises:
        ConfigError: A key is unknown, missing or not filled in, or a value is none of those allowed.
    """
    label = build(_OwnEntry, table, where).label()
    check_own_id(label.id, where)
    _check_group(label, (*GROUPS, OWN_GROUP), where)
    if label.action not in OWN_ACTIONS or (label.id in STATE_INTEREST and label.action != "review"):
        raise ConfigError(
            "own_label_action",
            f"{where}: action must be {' or '.join(OWN_ACTIONS)}; of the state-interest labels it is review.",
        )
    for name in _FILLED:
        value = getattr(label, name)
        lines = (value,) if isinstance(value, str) else value
        if not lines or any(len(line.strip().splitlines()) != 1 for line in lines):
            raise ConfigError(
                "own_label_empty",
                f"{where}: '{name.replace('name_', 'name.')}' is not filled in; write text on one line.",
            )
    crosses = [entry for name in CROSSWALKS for entry in label.crosswalk[name]]
    unknown = {entry[1:] for entry in label.crosswalk["openai"]} - set(OPENAI_CATEGORIES)
    if unknown or not all(_CROSS.fullmatch(entry) for entry in crosses):
        raise ConfigError(
            "own_label_crosswalk",
            f"{where}: an entry of 'crosswalk' is '=' or '~' and a category of that taxonomy; see taxonomy.toml.",
        )
    return label


def read_own_labels(paths: Iterable[Path]) -> tuple[Label, ...]:
    """Read a team's label files, one label a file.

    Raises:
        ConfigError: One is not filled in or breaks the rules of ``own_label``, two have the same id, or one of our ids
            is in another group or says what ours says.
    """
    found: dict[str, Label] = {}
    for path in paths:
        label = own_label(read_toml(path), path.name)
        if label.id in found:
            raise ConfigError("taxonomy_duplicate", f"{path.name}: another file has the id '{label.id}' too.")
        ours = next((each for each in load_taxonomy() if each.id == label.id), None)
        if ours and ours.group != label.group:
            raise ConfigError(
                "taxonomy_group", f"{path.name}: '{label.id}' is in group '{ours.group}'; leave it there."
            )
        if ours and replace(label, action=None) == ours:
            raise ConfigError(
                "own_label_unchanged",
                f"{path.name}: '{label.id}' is as Fineline defines it; change it, or leave it out.",
            )
        found[label.id] = label
    return tuple(found.values())
