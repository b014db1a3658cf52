"""How a foreign export names things: its fields, and its own words for labels, each with the labels it means."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fineline.config import build, read_toml
from fineline.errors import ConfigError
from fineline_training.personal import find_personal
from fineline_training.rowfiles import RowError

ALL = ("all",)
_MARKS = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}
_MARKS |= {"1.0": 1, "0.0": 0}  # what a table program makes of whole numbers in a column with gaps


@dataclass(frozen=True, kw_only=True)
class FieldMap:
    """Names in a file; by default ours.

    Attributes:
        text: Field that is judged.
        context: Field with what the text answers.
        id: Field with the row's id.
        lang: Field with the language code.
        labels: Field, question or choice with the labels.
        annotator: Field with who labelled the row.
        known: Labels that annotators looked at, so that one which a list does not name is 0: ids, or ``all``.
        names: The file's word for a label, to the ids it means; no id at all for a word such as "fine".
    """

    text: str = "text"
    context: str = "context"
    id: str = "id"
    lang: str = "lang"
    labels: str = "labels"
    annotator: str = "annotator"
    known: tuple[str, ...] = ()
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_map(path: Path | None, ids: Sequence[str], **given: Any) -> FieldMap:
    """Read a mapping file.

    Args:
        path: A TOML file with the fields of ``FieldMap``, or none.
        ids: Label ids there are.
        **given: Fields that options name; they outrank the file's, unless they are empty.

    Raises:
        ConfigError: A key is unknown, or something is no label id.
    """
    table = (read_toml(path) if path else {}) | {key: value for key, value in given.items() if value}
    where = path.name if path else "options"
    fields = build(FieldMap, table, where)
    named = [] if fields.known == ALL else list(fields.known)
    named += [label for meant in fields.names.values() for label in meant]
    if unknown := [label for label in named if label not in ids]:
        raise ConfigError(
            "import_map_label",
            f"{where}: '{unknown[0]}' is no label; give an id of the taxonomy, or name your own label's file with "
            "--own-label.",
        )
    return fields


def person(value: object) -> str:
    """An annotator's name as records may hold it: a mail address or phone number becomes a short digest."""
    if isinstance(value, dict):
        value = next((value[key] for key in ("id", "username", "email") if value.get(key) is not None), "")
    name = str(value).strip()
    if not find_personal(name):
        return name
    return f"person-{hashlib.sha256(name.casefold().encode()).hexdigest()[:8]}"


def _words(value: object) -> list[str]:
    """The words of an answer, which may be one, a list, or either of them in a cell or in a ``choices`` object."""
    if isinstance(value, dict) and set(value) == {"choices"}:
        value = value["choices"]
    if isinstance(value, str):
        if value.startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                raise RowError("the labels are not valid JSON") from None
        else:
            value = value.split(";")
    words = value if isinstance(value, list) else [value]
    if not all(isinstance(word, str | int) for word in words):
        raise RowError("the labels are neither words nor a list of words")
    return [word for word in (str(word).strip() for word in words) if word]


def _mark(value: object) -> int:
    mark = _MARKS.get(str(value).strip().lower())
    if mark is None:
        raise RowError("a label's value is neither 0 or 1, true or false, nor yes or no")
    return mark


def answer(value: object, fields: FieldMap, ids: Sequence[str], known: object = None) -> dict[str, int]:
    """What an answer says of our labels.

    Args:
        value: Words for what holds (``["hate"]``, ``"a;b"``), or ``{word: 0|1}``.
        fields: Names in the file.
        ids: Label ids there are.
        known: What the row itself says was looked at; outranks ``fields.known``.

    Raises:
        RowError: A word means no label, or it is not clear what was looked at.
    """
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError("the labels are not valid JSON") from None
    if isinstance(value, dict) and set(value) != {"choices"}:
        marks: dict[str, int] = {}
        for place, (word, mark) in enumerate(value.items(), 1):
            for label in _meant(word, place, fields, ids) if mark is not None else ():
                marks[label] = max(marks.get(label, 0), _mark(mark))
        return marks
    holds = [label for place, word in enumerate(_words(value), 1) for label in _meant(word, place, fields, ids)]
    checked = fields.known if known is None else known
    if isinstance(checked, str):
        checked = (checked,)
    if not isinstance(checked, list | tuple) or not checked:
        raise RowError('a list of labels needs the labels that were looked at: "known" in the row, or --known')
    if unknown := [place for place, label in enumerate(checked, 1) if tuple(checked) != ALL and label not in ids]:
        raise RowError(f"entry {unknown[0]} of 'known' is not a label id")
    return dict.fromkeys(ids if tuple(checked) == ALL else checked, 0) | dict.fromkeys(holds, 1)


def _meant(word: str, place: int, fields: FieldMap, ids: Sequence[str]) -> Sequence[str]:
    if word in fields.names:
        return fields.names[word]
    if word in ids:
        return (word,)
    raise RowError(f"entry {place} of the labels is not in the taxonomy; name what it means in a mapping file")


def wide(row: Mapping[str, Any], fields: FieldMap, ids: Sequence[str]) -> dict[str, Any] | None:
    """The columns of a table that has one a label, as ``{word: mark}``; ``None`` where there is none."""
    found = {key: value for key, value in row.items() if key in fields.names or key in ids}
    return {key: value for key, value in found.items() if value not in (None, "")} if found else None
