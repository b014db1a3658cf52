"""The labels as frozen objects, read from ``taxonomy.toml``; nothing else in the project states what a label is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fineline.config import read_toml
from fineline.errors import ConfigError

TAXONOMY_FILE = Path(__file__).with_name("taxonomy.toml")
GROUPS = ("prohibited", "discrimination", "rights")
CROSSWALKS = ("ail", "lg3", "openai")
_TOP_KEYS = {"version", "principle", "principle_zh", "never_flag_any", "never_flag_any_zh", "label"}


@dataclass(frozen=True, kw_only=True)
class Label:
    """One label.

    Attributes:
        id: Stable id; a ground of discrimination is ``discrimination/<ground>``.
        group: ``prohibited``, ``discrimination`` or ``rights``.
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

    @property
    def rule(self) -> str:
        """The plain rule that accompanies a verdict."""
        return f"{self.name_en}: {self.definition}"


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

    def group(self, name: str) -> tuple[str, ...]:
        """Ids of the labels in one group."""
        return tuple(label.id for label in self.labels if label.group == name)

    def __getitem__(self, label_id: str) -> Label:
        for label in self.labels:
            if label.id == label_id:
                return label
        raise KeyError(label_id)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)


def _label(row: Mapping[str, Any], where: str) -> Label:
    expected = {
        "id", "group", "name", "clauses", "definition", "definition_zh", "flag", "flag_zh",
        "never_flag", "never_flag_zh", "overlaps", "crosswalk",
    }  # fmt: skip
    if wrong := expected ^ set(row):
        raise ConfigError(
            "taxonomy_key", f"{where}: label '{row.get('id', '?')}': key '{min(wrong)}' is unknown or missing."
        )
    for key, names in (("name", {"en", "zh"}), ("crosswalk", set(CROSSWALKS))):
        if wrong := names ^ set(row[key]):
            raise ConfigError(
                "taxonomy_key", f"{where}: label '{row['id']}': '{key}.{min(wrong)}' is unknown or missing."
            )
    if row["group"] not in GROUPS:
        raise ConfigError(
            "taxonomy_group", f"{where}: label '{row['id']}': group '{row['group']}' is not one of {GROUPS}."
        )
    return Label(
        id=row["id"],
        group=row["group"],
        name_en=row["name"]["en"],
        name_zh=row["name"]["zh"],
        clauses=tuple(row["clauses"]),
        definition=row["definition"],
        definition_zh=row["definition_zh"],
        flag=tuple(row["flag"]),
        flag_zh=tuple(row["flag_zh"]),
        never_flag=tuple(row["never_flag"]),
        never_flag_zh=tuple(row["never_flag_zh"]),
        overlaps=tuple(row["overlaps"]),
        crosswalk={name: tuple(row["crosswalk"].get(name, ())) for name in CROSSWALKS},
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
    labels = tuple(_label(row, where) for row in table["label"])
    ids = [label.id for label in labels]
    if len(set(ids)) != len(ids):
        raise ConfigError("taxonomy_duplicate", f"{where}: a label id stands twice; ids must be unique.")
    for label in labels:
        if unknown := set(label.overlaps) - set(ids):
            raise ConfigError(
                "taxonomy_overlap", f"{where}: label '{label.id}' overlaps with unknown '{min(unknown)}'."
            )
    return Taxonomy(
        version=table["version"],
        principle=table["principle"],
        principle_zh=table["principle_zh"],
        never_flag_any=tuple(table["never_flag_any"]),
        never_flag_any_zh=tuple(table["never_flag_any_zh"]),
        labels=labels,
    )


@cache
def load_taxonomy() -> Taxonomy:
    """The taxonomy that ships with the package."""
    return read_taxonomy(TAXONOMY_FILE)
