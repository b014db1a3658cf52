"""Spot checks: rows drawn at random, labelled anew by somebody who has not seen them, and the error rate they bound."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fineline.errors import DataError
from fineline.scan.intervals import Share, clopper_pearson
from fineline_training.labels import tasks
from fineline_training.labels.deal import deal, spread
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow, settled

OPEN_LIMIT = 0.1
"""Highest share of drawn marks that may stay open: above it the check says little (guide, section on doubt)."""


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Rows drawn for a check: the dated record, the task files, the rows they were drawn from and their number."""

    record: Path
    files: list[Path]
    population: int
    drawn: int


@dataclass(frozen=True, kw_only=True)
class LabelErrors:
    """Errors of one label, or of one annotator.

    Attributes:
        name: Label id or annotator.
        missed: Marks of 0 that the check found to be 1.
        invented: Marks of 1 that it found to be 0.
        open: Marks that the check could not decide, which are left out.
        rate: Share of wrong marks with the exact 95 % interval (Clopper and Pearson); ``None`` without a decided mark.
    """

    name: str
    missed: int
    invented: int
    open: int
    rate: Share | None


@dataclass(frozen=True, kw_only=True)
class SpotCheck:
    """The result of a check: its record, errors by label and by annotator, and ids of rows with an error."""

    record: Path
    labels: tuple[LabelErrors, ...]
    people: tuple[LabelErrors, ...]
    wrong: tuple[str, ...]


def draw(store: LabelStore, labels: Sequence[str], reviewers: Sequence[str], size: int, seed: int = 0) -> Draw:
    """Draw rows at random, each with the same chance, and write the checkers' files.

    Only rows that a checker has not seen can be dealt to them; rows that all of them have seen are not drawn from.

    Args:
        store: The store.
        labels: Labels to check; a row is drawn from if it knows one.
        reviewers: Who checks.
        size: Rows to draw; all of them if there are fewer.
        seed: Another one draws another sample.

    Raises:
        DataError: Names or the size are not usable, or no row is left to check.
    """
    tasks.check_people(reviewers)
    if size < 1:
        raise DataError("spotcheck_size", f"--size {size}: draw at least one row.")
    rows = {row.id: row for row in store.rows()}
    taken = tasks.barred(rows.values(), tasks.holders(store))
    given = {key: _marks(row, labels) for key, row in rows.items()}
    population = {key: "" for key in rows if given[key] and set(reviewers) - taken[key]}
    if not population:
        raise DataError(
            "spotcheck_nobody",
            f"{store.path}: every labelled row was seen by these people already; name somebody who has not labelled.",
        )
    chosen = spread(population, size, f"{seed} spotcheck")
    dealt = deal(dict.fromkeys(chosen, 1), reviewers, taken, seed=f"{seed} spotcheck")
    record = store.write_record(
        "draw",
        {
            "labels": list(labels),
            "seed": seed,
            "rows": store.digest(),
            "population": len(population),
            "drawn": len(chosen),
            "dealt": {tasks.CHECK: dealt.rows},
            "given": {key: given[key] for key in sorted(chosen)},
        },
    )
    files = tasks.write_tasks(store, record, dealt.rows, rows, labels)
    return Draw(record=record, files=files, population=len(population), drawn=len(chosen))


def _marks(row: LabelledRow, labels: Sequence[str]) -> dict[str, int]:
    known = settled(row).labels
    return {label: known[label] for label in labels if label in known}


def judge(store: LabelStore, files: Sequence[Path]) -> SpotCheck:
    """Compare filled files with what the rows said when they were drawn.

    Args:
        store: The store.
        files: The filled files of one draw: everybody's.

    Raises:
        DataError: The files are not those of one draw, not whole, changed, or too much of them is open.
    """
    filled: dict[str, tasks.Filled] = {}
    for file in files:
        for key, entry in tasks.read_filled(file, store.taxonomy.ids).items():
            if key in filled:
                raise DataError("spotcheck_twice", f"{file.name}: a row of it stands in another file too.")
            filled[key] = entry
    drawn = _draw_of(store, filled)
    rows = {row.id: row for row in store.rows()}
    changed = [key for key, entry in filled.items() if key not in rows or _altered(entry, rows[key])]
    if changed:
        raise DataError(
            "spotcheck_changed",
            f"{len(changed)} rows (the first is {changed[0]}) have another text than the store; keep texts as drawn.",
        )
    pairs = [
        (key, label, mark, filled[key].marks.get(label))
        for key, given in drawn["given"].items()
        for label, mark in given.items()
    ]
    still_open = sum(found is None for *_, found in pairs)
    if still_open > OPEN_LIMIT * len(pairs):
        raise DataError(
            "spotcheck_open",
            f"{still_open} of {len(pairs)} marks are open; fill them in, or sharpen the guide and draw again.",
        )
    labels = tuple(
        _errors(label, [(mark, found) for _, name, mark, found in pairs if name == label]) for label in drawn["labels"]
    )
    wrong = sorted({key for key, _, mark, found in pairs if found is not None and mark != found})
    people = _people(rows, filled, drawn)
    record = store.write_record(
        "spotcheck",
        {
            "draw": drawn["record"],
            "checkers": sorted({entry.person for entry in filled.values()}),
            "population": drawn["population"],
            "drawn": drawn["drawn"],
            "files": [file.name for file in files],
            "method": "share of wrong marks; exact 95 % interval of Clopper and Pearson",
            "labels": [asdict(entry) for entry in labels],
            "people": [asdict(entry) for entry in people],
            "wrong": wrong,
        },
    )
    return SpotCheck(record=record, labels=labels, people=people, wrong=tuple(wrong))


def _altered(entry: tasks.Filled, row: LabelledRow) -> bool:
    return (entry.text, entry.context or None) != (row.text, row.context)


def _draw_of(store: LabelStore, filled: Mapping[str, tasks.Filled]) -> dict[str, Any]:
    """The draw that the files belong to: the one that dealt these rows, all of them, to those who filled them."""
    people = {key: entry.person for key, entry in filled.items()}
    nearest, shared = None, 0
    for record in store.records("draw"):
        dealt = {key: person for person, keys in record["dealt"][tasks.CHECK].items() for key in keys}
        if dealt == people:
            return record
        if len(dealt.items() & people.items()) > shared:
            nearest, shared = record, len(dealt.items() & people.items())
    if nearest is None:
        raise DataError("spotcheck_rows", f"{store.path}: no draw has these rows; draw with 'spotcheck --size' first.")
    raise DataError(
        "spotcheck_rows",
        f"The files hold {len(people)} rows, {shared} of them of the {nearest['drawn']} of {nearest['record']}; give "
        "the file of every checker, with all its rows and the name as it was.",
    )


def _errors(name: str, pairs: Sequence[tuple[int, int | None]]) -> LabelErrors:
    decided = [(mark, found) for mark, found in pairs if found is not None]
    missed, invented = (sum(pair == wrong for pair in decided) for wrong in ((0, 1), (1, 0)))
    return LabelErrors(
        name=name,
        missed=missed,
        invented=invented,
        open=len(pairs) - len(decided),
        rate=clopper_pearson(missed + invented, len(decided)) if decided else None,
    )


def _people(
    rows: Mapping[str, LabelledRow], filled: Mapping[str, tasks.Filled], drawn: Mapping[str, Any]
) -> tuple[LabelErrors, ...]:
    """Errors of each annotator's own votes on the drawn rows; the checkers' are the measure."""
    pairs: dict[str, list[tuple[int, int | None]]] = {}
    for key, entry in filled.items():
        for person, marks in rows[key].votes.items():
            if person != entry.person:
                pairs.setdefault(person, []).extend(
                    (marks[label], entry.marks.get(label)) for label in drawn["labels"] if label in marks
                )
    return tuple(_errors(person, pairs[person]) for person in sorted(pairs))
