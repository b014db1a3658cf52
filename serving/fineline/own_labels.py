"""A team's own labels, from files that say of one label what ``taxonomy.toml`` says of ours."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fineline.config import build, read_toml
from fineline.errors import ConfigError
from fineline.taxonomy import (
    CROSSWALKS,
    GROUPS,
    OPENAI_CATEGORIES,
    OWN_GROUP,
    STATE_INTEREST,
    Label,
    LabelEntry,
    check_group,
    load_taxonomy,
)

OWN_ACTIONS = ("review", "block")
_FILLED = ("name_en", "name_zh", "definition", "definition_zh", "flag", "flag_zh", "never_flag", "never_flag_zh")
_CROSS = re.compile(r"[=~]\S+")
_OWN_ID = re.compile("[a-z][a-z0-9_]{0,39}(/[a-z0-9_]{1,40})?")
_TAKEN_IDS = {"all", "any", "none", "lawful", *OPENAI_CATEGORIES}
"""Words that files and answers use beside label ids."""


@dataclass(frozen=True, kw_only=True)
class _OwnEntry(LabelEntry):
    """A label as a team states it."""

    action: str


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
    check_group(label, (*GROUPS, OWN_GROUP), where)
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
