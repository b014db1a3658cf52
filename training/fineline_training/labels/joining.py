"""Rows of several files and annotators brought together: one row a text, with everybody's votes.

A text is the same if its characters and its context are. What cannot stand together is refused with both places named:
one id with two texts, and one annotator who says two things about one text. Of two rows of one import nobody can tell
which is right, so both go; what is in the store already stays.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fineline_training.labels.team_gates import Placed
from fineline_training.labels.votes import SET_ASIDE, LabelledRow
from fineline_training.records import UNDETERMINED

ANOTHER_TEXT = "its id stands at another text"
CONTRADICTION = "contradicts another row of the same text and annotator"


class Conflict(NamedTuple):
    """A row that cannot stand beside another.

    Attributes:
        file: File of the row.
        line: Its line.
        reason: ``ANOTHER_TEXT`` or ``CONTRADICTION``.
        other: Place of the other row, and the labels in question.
    """

    file: str
    line: int
    reason: str
    other: str


@dataclass(frozen=True, kw_only=True)
class Joined:
    """What an import gives the store.

    Attributes:
        rows: New rows, and stored rows that got more votes.
        new: How many of them are new.
        added: Rows that gave votes to a text that another row has.
        repeated: Rows that say nothing new.
        conflicts: Rows that are refused.
    """

    rows: list[LabelledRow]
    new: int
    added: int
    repeated: int
    conflicts: list[Conflict]


class _Member(NamedTuple):
    """A row with its place in words; ``placed`` is none for one in the store."""

    where: str
    row: LabelledRow
    placed: Placed | None


def _statements(row: LabelledRow) -> Iterable[tuple[tuple[str, str], Any]]:
    """Who says what about which label; decisions and shares have nobody's name."""
    for name, given in row.votes.items():
        for label, mark in given.items():
            yield (f"vote of {name}", label), mark
    for label, mark in row.labels.items():
        yield ("decided", label), mark
    for label, share in row.soft.items():
        yield ("share", label), share


def _contradictions(members: Sequence[_Member]) -> dict[int, Conflict]:
    """Place in ``members`` of every new row that contradicts another one, and the refusal that says so."""
    said: dict[tuple[str, str], list[tuple[int, Any]]] = defaultdict(list)
    for number, member in enumerate(members):
        for key, value in _statements(member.row):
            said[key].append((number, value))
    found: dict[int, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    for (_, label), entries in said.items():
        for number, value in entries:
            other = next((place for place, mark in entries if mark != value), None)
            if other is not None:
                found[number][other].add(label)
    conflicts = {}
    for number, others in found.items():
        if placed := members[number].placed:
            where = [f"{members[place].where}, on {', '.join(sorted(on))}" for place, on in sorted(others.items())]
            conflicts[number] = Conflict(placed.file, placed.line, CONTRADICTION, "; ".join(where))
    return conflicts


def _merged(row: LabelledRow, more: LabelledRow) -> LabelledRow:
    """One row with the votes of both; what else they say comes from the first that says it."""
    votes = {name: dict(given) for name, given in row.votes.items()}
    answered = set(more.labels) - set(row.labels)
    for name, given in more.votes.items():
        answered |= given.keys() - votes.get(name, {}).keys()
        votes[name] = votes.get(name, {}) | dict(given)
    meta = {**more.meta, **row.meta}
    if row.set_aside & answered:
        # Somebody looked at what was set aside: it counts as any other row does.
        meta[SET_ASIDE] = ",".join(sorted(row.set_aside - answered))
    return replace(
        row,
        lang=more.lang if row.lang == UNDETERMINED else row.lang,
        votes=votes,
        labels={**row.labels, **more.labels},
        soft={**row.soft, **more.soft},
        pair=row.pair or more.pair,
        split=row.split or more.split,
        meta=meta,
    )


def join(rows: Iterable[Placed], held: Iterable[LabelledRow] = ()) -> Joined:
    """Bring rows together with each other and with those of a store.

    Args:
        rows: Rows of the import, in the order of the files.
        held: Rows of the store.

    Returns:
        What the store gains, and what is refused.
    """
    owner: dict[str, _Member] = {}
    texts: dict[tuple[str, str | None], list[_Member]] = defaultdict(list)
    conflicts: list[Conflict] = []
    for row in held:
        member = _Member(f"the store ({row.origin})", row, None)
        owner[row.id] = member
        texts[row.text, row.context].append(member)
    for placed in rows:
        member = _Member(f"{placed.file} line {placed.line}", placed.row, placed)
        first = owner.setdefault(placed.row.id, member)
        if (first.row.text, first.row.context) != (placed.row.text, placed.row.context):
            conflicts.append(Conflict(placed.file, placed.line, ANOTHER_TEXT, first.where))
        else:
            texts[placed.row.text, placed.row.context].append(member)
    result: list[LabelledRow] = []
    new = added = repeated = 0
    for members in texts.values():
        opposed = _contradictions(members)
        conflicts += opposed.values()
        kept = [member for number, member in enumerate(members) if number not in opposed]
        if all(member.placed is None for member in kept):
            continue
        whole, first_read = kept[0].row, kept[0].placed is not None
        changed = first_read
        for member in kept[1:]:
            larger = _merged(whole, member.row)
            if larger == whole:
                repeated += 1
            else:
                added, changed, whole = added + 1, True, larger
        new += first_read
        if changed:
            result.append(replace(whole, origin=kept[0].where) if first_read else whole)
    return Joined(rows=result, new=new, added=added, repeated=repeated, conflicts=sorted(conflicts))
