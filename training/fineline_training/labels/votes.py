"""A row that people labelled, who said what, and what it says in the end.

Every annotator's answer is kept, because a disagreement tells how clear a text is: it becomes a soft label, the share
of those who said yes, and is not averaged away before anybody has looked at it.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fineline_training.records import Record, label_marks, parse_row
from fineline_training.rowfiles import RowError

Votes = Mapping[str, Mapping[str, int]]
SET_ASIDE = "set_aside"
"""Entry of ``meta``: labels, comma separated, that a cleaning set aside; the votes stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow:
    """One row of a team's label file.

    Attributes:
        id: The team's id, or a digest of text and context.
        text: The text that is judged.
        context: What the text answers; read, never judged.
        lang: Language code; ``und`` where the file does not say.
        source: Where the row comes from, in the team's words.
        votes: Annotator to label id to 0 or 1; a label that an annotator did not look at is absent.
        labels: Labels that are decided (by a review, or by a file that names no annotator); they outrank the votes.
        soft: Label id to the share of annotators who said 1, where a file gives shares instead of votes.
        pair: Id shared by the rows of one contrast set.
        split: ``train``, ``dev`` or ``test``; empty where the training may choose.
        meta: What else the team wants to keep.
        origin: Import, file and line it was first read from.
    """

    id: str
    text: str
    context: str | None = None
    lang: str
    source: str
    votes: Votes = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    soft: Mapping[str, float] = field(default_factory=dict)
    pair: str = ""
    split: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""

    @property
    def known(self) -> frozenset[str]:
        """Labels that somebody looked at."""
        return frozenset(self.labels).union(self.soft, *self.votes.values())

    @property
    def set_aside(self) -> frozenset[str]:
        """Labels that a cleaning set aside as likely errors."""
        listed = self.meta.get(SET_ASIDE, "")
        return frozenset(listed.split(",")) if listed else frozenset()

    def shares(self) -> dict[str, float]:
        """Share of annotators who said 1, by label that anybody voted on."""
        marks: dict[str, list[int]] = defaultdict(list)
        for given in self.votes.values():
            for label, mark in given.items():
                marks[label].append(mark)
        return {label: sum(marks[label]) / len(marks[label]) for label in sorted(marks)}


class UnansweredError(RowError):
    """A row on which nobody has answered yet: nothing is wrong with it."""


def row_id(text: str, context: str | None) -> str:
    """Id of a row that came without one: a digest of context and text."""
    return hashlib.sha256(f"{context or ''}\x1f{text}".encode()).hexdigest()[:16]


def settled(row: LabelledRow) -> Record:
    """What a row says in the end.

    A decided label is what was decided. Otherwise the majority gives 0 or 1, a tie leaves the label unknown, and where
    annotators differ ``soft`` holds the share of those who said 1, in a tie too; the same where a row came with a share
    instead of votes. A label that was set aside is unknown.

    Returns:
        The row as training reads it; ``meta`` holds its id.
    """
    voted = {label: share for label, share in row.shares().items() if label not in row.labels}
    shares = voted | dict(row.soft)
    labels = {label: int(share > 0.5) for label, share in shares.items() if share != 0.5} | dict(row.labels)
    soft = {label: share for label, share in voted.items() if 0 < share < 1} | dict(row.soft)
    return Record(
        text=row.text,
        context=row.context,
        lang=row.lang,
        labels={label: mark for label, mark in labels.items() if label not in row.set_aside},
        soft={label: share for label, share in soft.items() if label not in row.set_aside},
        source=row.source,
        pair=row.pair,
        split=row.split or "train",
        meta={**row.meta, "id": row.id},
    )


def _votes(value: object, ids: Sequence[str]) -> dict[str, dict[str, int]]:
    if not isinstance(value, dict):
        raise RowError("'votes' must map annotators to {label id: 0|1}")
    if not all(isinstance(name, str) and name for name in value):
        raise RowError("an annotator in 'votes' has no name")
    return {name: label_marks(given, "votes", ids) for name, given in value.items() if given is not None}


def parse_labelled(row: object, *, ids: Sequence[str], source: str = "", origin: str = "") -> LabelledRow:
    """Turn one decoded row of our schema, or of a record file, into a labelled row.

    Args:
        row: A mapping with ``text`` and ``votes``, ``labels`` or ``soft``.
        ids: Label ids that the row may use.
        source: Source of rows that name none.
        origin: Where it was read, for rows that do not say.

    Raises:
        UnansweredError: The row says nothing about any label.
        RowError: The row breaks the schema; the message is the reason and holds no text.
    """
    if not isinstance(row, dict):
        raise RowError("the row is not an object")
    votes = _votes(row.get("votes") or {}, ids)
    record = parse_row(
        {**row, "labels": row["labels"] if row.get("labels") is not None else {}}, source=source, ids=ids
    )
    if not (record.labels or record.soft or any(votes.values())):
        raise UnansweredError("nobody has answered yet")
    key, written = row.get("id"), row.get("origin")
    if not isinstance(key, str | int | None) or isinstance(key, bool):
        raise RowError("'id' must be a string or a number")
    return LabelledRow(
        id=row_id(record.text, record.context) if key in (None, "") else str(key),
        text=record.text,
        context=record.context,
        lang=record.lang,
        source=record.source,
        votes=votes,
        labels=record.labels,
        soft=record.soft,
        pair=record.pair,
        split=record.split if row.get("split") else "",
        meta=record.meta,
        origin=written if isinstance(written, str) and written else origin,
    )


def as_labelled(row: LabelledRow) -> dict[str, Any]:
    """Turn a row into the mapping a file holds; empty fields are left out, and the same row gives the same bytes."""
    votes = {name: dict(sorted(given.items())) for name, given in sorted(row.votes.items())}
    values = {name: getattr(row, name) for name in LabelledRow.__slots__}
    values |= {"votes": votes, "labels": dict(row.labels), "soft": dict(row.soft), "meta": dict(row.meta)}
    return {name: value for name, value in values.items() if value or name == "votes"}
