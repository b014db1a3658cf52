"""The annotators' files: rows dealt to people, written for them to fill in, read back, and never dealt twice.

A task file is a label file of one person with the marks left open, so that a filled one is imported as it is:

    {"id": "a7", "source": "forum", "lang": "en", "context": null, "text": "...", "votes": {"ann": {"spam": null}}}

It shows nobody else's answer. As long as the file stands in the store's ``tasks/``, its rows are in that person's
hands; deleting it takes them back.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineline.errors import DataError
from fineline.files import write_text
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow
from fineline_training.rowfiles import raw_rows

DEALING = ("assign", "draw", "clean")
"""Kinds of records that deal rows."""
LABEL, REVIEW, CHECK = "label", "review", "check"
"""What rows are dealt for: an answer; a look at a doubtful row; a blind check of rows drawn at random."""
_NAME = re.compile(r"\w[\w.-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A row of a filled task file; ``marks`` hold 0 or 1 by label, without the labels left open."""

    text: str
    context: str | None
    person: str
    marks: Mapping[str, int]


def check_people(names: Sequence[str]) -> tuple[str, ...]:
    """Check names, which become names of files.

    Raises:
        DataError: A name has other characters than letters, digits, dot, dash and underscore, or stands twice.
    """
    if bad := [number for number, name in enumerate(names, 1) if not _NAME.fullmatch(name)]:
        raise DataError(
            "person_name", f"Person {bad[0]}: a name has letters, digits, '.', '-' and '_' only; give a short name."
        )
    # One file system in two takes "Ann" and "ann" for one file.
    if len({name.casefold() for name in names}) != len(names):
        raise DataError("person_twice", "A person is named twice; name everybody once.")
    return tuple(names)


def voters(row: LabelledRow, labels: Iterable[str]) -> frozenset[str]:
    """People who answered for one of the labels."""
    wanted = set(labels)
    return frozenset(name for name, given in row.votes.items() if wanted & set(given))


def holders(store: LabelStore) -> dict[str, frozenset[str]]:
    """Row id to the people in whose task files it stands."""
    held: dict[str, set[str]] = defaultdict(set)
    for kind in DEALING:
        for record in store.records(kind):
            for dealt in record.get("dealt", {}).values():
                for person, rows in dealt.items():
                    if (store.tasks / record["record"] / f"{person}.jsonl").exists():
                        for row in rows:
                            held[row].add(person)
    return {row: frozenset(people) for row, people in held.items()}


def reviews(store: LabelStore) -> frozenset[tuple[str, str]]:
    """Row id and person of every review that was dealt, returned or not."""
    return frozenset(
        (row, person)
        for kind in DEALING
        for record in store.records(kind)
        for person, rows in record.get("dealt", {}).get(REVIEW, {}).items()
        for row in rows
    )


def barred(rows: Iterable[LabelledRow], held: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Row id to the people who may not have it: whoever voted on any label of it, or has it in a task file."""
    return {row.id: frozenset(row.votes) | held.get(row.id, frozenset()) for row in rows}


def write_tasks(
    store: LabelStore,
    record: Path,
    dealt: Mapping[str, Sequence[str]],
    rows: Mapping[str, LabelledRow],
    labels: Sequence[str],
) -> list[Path]:
    """Write each person's file.

    Args:
        store: The store.
        record: The record that says who was dealt what; the folder of the files has its name.
        dealt: Person to row ids, in the order in which they are to be read.
        rows: Row id to row.
        labels: Labels that are asked for.

    Returns:
        The files, of those who have rows.
    """
    files = []
    for person, ids in dealt.items():
        if ids:
            files.append(store.tasks / record.stem / f"{person}.jsonl")
            write_text(files[-1], "".join(_line(rows[row], person, labels) for row in ids))
    return files


def _line(row: LabelledRow, person: str, labels: Sequence[str]) -> str:
    shown = {"id": row.id, "source": row.source, "lang": row.lang, "context": row.context, "text": row.text}
    return json.dumps({**shown, "votes": {person: dict.fromkeys(labels)}}, ensure_ascii=False) + "\n"


def read_filled(path: Path, labels: Sequence[str]) -> dict[str, Filled]:
    """Read a filled task file.

    Args:
        path: The file.
        labels: Labels that may be marked.

    Returns:
        Row id to row.

    Raises:
        DataError: The file cannot be read, or a line is not one of a task file; the message names it by its number.
    """
    found: dict[str, Filled] = {}
    for number, row in raw_rows(path):
        where = f"{path.name} line {number}"
        try:
            key, filled = _filled(row)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError("task_row", f"{where}: is no row of a task file; keep id, text and votes.") from None
        if not all(label in labels and type(mark) is int and mark in (0, 1) for label, mark in filled.marks.items()):
            raise DataError("task_mark", f"{where}: marks are 0, 1 or null, under labels of the store.")
        if key in found:
            raise DataError("task_twice", f"{where}: this row stands twice; keep one.")
        found[key] = filled
    return found


def _filled(row: Any) -> tuple[str, Filled]:
    ((person, marks),) = row["votes"].items()
    given = {label: mark for label, mark in marks.items() if mark is not None}
    return str(row["id"]), Filled(text=row["text"], context=row.get("context"), person=person, marks=given)
