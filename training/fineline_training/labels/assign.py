"""Who labels and who reviews what: rows for a first answer, a share for a second one, and rows that need a third eye.

Nobody gets a row that they have labelled or reviewed or that stands in a task file of theirs, so that labelling and
review of a row are never in one hand (Article 8 of the Interim Measures asks for checked annotation; the guide says
how). A review goes to a row that one person alone flagged, or on which the votes are tied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fineline.errors import DataError
from fineline_training.labels import tasks
from fineline_training.labels.deal import Dealt, deal, spread
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow, row_id
from fineline_training.records import Refusal, parse_row
from fineline_training.rowfiles import RowError, raw_rows


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What was dealt.

    Attributes:
        record: The dated record.
        files: The task files.
        first: Rows dealt for a first answer.
        second: Answers dealt beyond the first.
        review: Rows dealt for a review.
        left: Rows for which nobody, or one person too few, was free.
        refused: Rows of the file of texts that could not be read.
        known: Texts of the file that are in the store or were dealt before.
    """

    record: Path
    files: list[Path]
    first: int
    second: int
    review: int
    left: int
    refused: list[Refusal]
    known: int


def read_texts(path: Path) -> tuple[list[LabelledRow], list[Refusal]]:
    """Read texts that nobody has labelled yet, such as ``fineline labels suggest`` writes.

    Args:
        path: A file that ``rowfiles`` can read; ``text`` and, where they are, ``id``, ``context``, ``lang`` and
            ``source`` are read.

    Returns:
        Rows, each id once, and a refusal for every other row.

    Raises:
        DataError: The file cannot be read.
    """
    rows: dict[str, LabelledRow] = {}
    refused = []
    for number, raw in raw_rows(path):
        try:
            row = _text_row(raw, path.name.split(".")[0])
            if row.id in rows:
                raise RowError("this id stands above already")
            rows[row.id] = row
        except RowError as error:
            refused.append(Refusal(path.name, number, str(error)))
    return list(rows.values()), refused


def _text_row(raw: object, source: str) -> LabelledRow:
    if isinstance(raw, RowError):
        raise raw
    given = raw if isinstance(raw, dict) else {}
    record = parse_row({**given, "labels": {}, "soft": {}}, source=source)
    key = str(given.get("id") or row_id(record.text, record.context))
    return LabelledRow(
        id=key, text=record.text, context=record.context, lang=record.lang, source=record.source, pair=record.pair
    )


def _answers(row: LabelledRow, labels: Sequence[str], held: frozenset[str]) -> int:
    """Answers that a row has or will have; a label decided by people who are not named counts as one."""
    return max(len(tasks.voters(row, labels) | held), int(bool(row.known & set(labels))))


def _doubtful(row: LabelledRow, labels: Sequence[str]) -> bool:
    """Whether a yes on one of the labels is one person's alone, or the votes on it are tied."""
    for label in labels:
        marks = [given[label] for given in row.votes.values() if label in given]
        if label not in row.labels and (marks == [1] or (marks and sum(marks) * 2 == len(marks))):
            return True
    return False


def _group(row: LabelledRow, labels: Sequence[str]) -> str:
    """Language, and whether somebody flagged it, nobody did, or nobody looked yet."""
    marks = [given[label] for given in row.votes.values() for label in labels if label in given]
    marks += [row.labels[label] for label in labels if label in row.labels]
    return f"{row.lang} {max(marks) if marks else '-'}"


def assign(
    store: LabelStore,
    labels: Sequence[str],
    annotators: Sequence[str],
    *,
    double: float = 0.2,
    reviewers: Sequence[str] = (),
    texts: Path | None = None,
    seed: int = 0,
) -> Assignment:
    """Deal rows to annotators and reviewers, write their files, and leave the record.

    Args:
        store: The store.
        labels: Labels to ask for.
        annotators: Who labels.
        double: Share of all rows that two people label; rows that have two answers count.
        reviewers: Who reviews; the same people may do both, on different rows.
        texts: File of texts to label for the first time.
        seed: Seed of the draw.

    Raises:
        DataError: Names are not usable, one person is to label twice, a share is none, or there is nothing to deal.
    """
    tasks.check_people(annotators)
    tasks.check_people(reviewers)
    if not 0 <= double <= 1:
        raise DataError("double_share", f"--double {double}: give a share from 0 to 1.")
    if double and len(annotators) == 1:
        raise DataError("double_people", "Double annotation needs two annotators; name another, or give --double 0.")
    fresh, refused = read_texts(texts) if texts else ([], [])
    stored = {row.id: row for row in store.rows()}
    held = tasks.holders(store)
    given = len(fresh)
    there = {(row.text, row.context) for row in stored.values()}
    fresh = [_renamed(row, stored.get(row.id)) for row in fresh if (row.text, row.context) not in there]
    fresh = [row for row in fresh if row.id not in held]
    known = given - len(fresh)
    rows = stored | {row.id: row for row in fresh}
    no_one: frozenset[str] = frozenset()
    answers = {key: _answers(row, labels, held.get(key, no_one)) for key, row in rows.items()}
    wanted = {row.id: 1 for row in fresh}
    missing = round(double * len(rows)) - sum(count > 1 for count in answers.values())
    single = {key: _group(rows[key], labels) for key, count in answers.items() if count < 2}
    for key in spread(single, max(0, missing), f"{seed} double"):
        wanted[key] = wanted.get(key, 0) + 1
    taken = tasks.barred(rows.values(), held)
    labelling = deal(wanted, annotators, taken, seed=f"{seed} label")
    taken = _with(taken, labelling)
    settling = {key for key, row in stored.items() if held.get(key, no_one) - set(row.votes)}
    doubtful = {key: 1 for key in stored.keys() - wanted.keys() - settling if _doubtful(stored[key], labels)}
    review = deal(doubtful if reviewers else {}, reviewers, taken, seed=f"{seed} review")
    everyone = {person: [*labelling.rows.get(person, ()), *review.rows.get(person, ())] for person in
                dict.fromkeys([*annotators, *reviewers])}  # fmt: skip
    if not any(everyone.values()):
        raise DataError(
            "assign_nothing",
            f"{store.path}: nothing to deal: no new text, enough rows with two answers, and none to review whom these "
            "people have not seen; give --texts, or other people.",
        )
    first = len({key for given in labelling.rows.values() for key in given if key not in stored})
    counts = {"file": texts.name if texts else "", "new": len(fresh), "known": known, "refused": len(refused)}
    record = store.write_record(
        "assign",
        {
            "labels": list(labels),
            "seed": seed,
            "double": double,
            "rows": len(rows),
            "two_answers": sum(count > 1 for count in answers.values()),
            "texts": counts if texts else None,
            "dealt": {tasks.LABEL: labelling.rows, tasks.REVIEW: review.rows},
            "nobody_free": sorted({*labelling.left, *review.left}),
        },
    )
    return Assignment(
        record=record,
        files=tasks.write_tasks(store, record, everyone, rows, labels),
        first=first,
        second=sum(map(len, labelling.rows.values())) - first,
        review=sum(map(len, review.rows.values())),
        left=len({*labelling.left, *review.left}),
        refused=refused,
        known=known,
    )


def _renamed(row: LabelledRow, other: LabelledRow | None) -> LabelledRow:
    """A row whose id stands at another text in the store, under the id that its text gives it."""
    return replace(row, id=row_id(row.text, row.context)) if other else row


def _with(taken: Mapping[str, frozenset[str]], dealt: Dealt) -> dict[str, frozenset[str]]:
    result = dict(taken)
    for person, rows in dealt.rows.items():
        for row in rows:
            result[row] = result.get(row, frozenset()) | {person}
    return result
