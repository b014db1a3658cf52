"""Likely label errors of a store: ranked for review, and left in or set aside.

The record holds ids and figures. What is set aside stays in the store with its votes, marked in the row's ``meta``; the
training does not see that label of that row.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from fineline.bundle import load_bundle
from fineline.errors import DataError
from fineline_training.labels import tasks
from fineline_training.labels.confident import FOLDS, LEAST, cross_predict, rank_doubts, too_few
from fineline_training.labels.deal import deal
from fineline_training.labels.features import text_features
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import SET_ASIDE, LabelledRow, settled


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A mark that is hard to believe.

    Attributes:
        id: Of the row.
        given: The mark, 0 or 1.
        probability: Of a yes, from a model that was not fitted on the row.
        quality: cleanlab's score of the mark, 0 to 1; a low one is doubtful.
        issue: Whether it is among the errors that cleanlab estimates.
    """

    id: str
    given: int
    probability: float
    quality: float
    issue: bool


@dataclass(frozen=True, kw_only=True)
class LabelDoubts:
    """Ranked marks of one label.

    Attributes:
        label: Its id.
        rows: Rows that know it.
        positive: Those with a 1.
        ranked: All of them, the most doubtful first; empty where one class has too few rows.
    """

    label: str
    rows: int
    positive: int
    ranked: tuple[Suspect, ...]

    @property
    def issues(self) -> tuple[Suspect, ...]:
        """The errors that cleanlab estimates."""
        return tuple(suspect for suspect in self.ranked if suspect.issue)


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What a cleaning found and did: the dated record, review files, doubts by label, marks that were set aside."""

    record: Path
    files: list[Path]
    labels: tuple[LabelDoubts, ...]
    set_aside: int


def find_doubts(
    rows: Sequence[LabelledRow],
    labels: Sequence[str],
    *,
    bundle: Path | None = None,
    folds: int = FOLDS,
    seed: int = 0,
    threads: int | None = None,
    on_rows: Callable[[int], None] = lambda count: None,
) -> tuple[LabelDoubts, ...]:
    """Rank the marks of each label.

    A mark is what the votes settled on; a tie is none. Marks that were set aside are not looked at again.

    Args:
        rows: Rows of the store.
        labels: Labels to look at.
        bundle: Bundle whose features the classifier reads; the shipped one if ``None``.
        folds: Parts the rows are cut into; each is predicted from the others.
        seed: Seed of the cut.
        threads: Threads the bundle may use.
        on_rows: Told the number of rows after each chunk that was read.
    """
    known = [settled(row).labels for row in rows]
    used = [row for row, record in enumerate(known) if any(label in record for label in labels)]
    places = {row: place for place, row in enumerate(used)}
    texts, contexts = [rows[row].text for row in used], [rows[row].context for row in used]
    features = text_features(bundle, texts, contexts, threads=threads, on_rows=on_rows)
    found = []
    for label in labels:
        at = [row for row in used if label in known[row]]
        truth = np.array([known[row][label] for row in at], dtype=np.int8)
        ranked: tuple[Suspect, ...] = ()
        if not too_few(truth):
            probabilities = cross_predict(features[[places[row] for row in at]], truth, folds=folds, seed=seed)
            ranked = tuple(
                Suspect(
                    id=rows[at[doubt.row]].id,
                    given=int(truth[doubt.row]),
                    probability=round(doubt.probability, 4),
                    quality=round(doubt.quality, 4),
                    issue=doubt.issue,
                )
                for doubt in rank_doubts(truth, probabilities)
            )
        found.append(LabelDoubts(label=label, rows=len(at), positive=int(truth.sum()), ranked=ranked))
    return tuple(found)


def clean(
    store: LabelStore,
    labels: Sequence[str],
    *,
    bundle: Path | None = None,
    reviewers: Sequence[str] = (),
    drop: bool = False,
    folds: int = FOLDS,
    seed: int = 0,
    threads: int | None = None,
    on_rows: Callable[[int], None] = lambda count: None,
) -> Cleaning:
    """Find likely errors, deal them for review, set them aside if told to, and leave the record.

    Args:
        store: The store.
        labels: Labels to look at.
        bundle: As ``find_doubts``.
        reviewers: Who labels the doubtful rows anew; each gets rows they have not seen, the most doubtful first.
        drop: Set the estimated errors aside; else they stay as they are.
        folds: As ``find_doubts``.
        seed: As ``find_doubts``.
        threads: As ``find_doubts``.
        on_rows: As ``find_doubts``.

    Raises:
        DataError: Names are not usable, or no label has enough rows of both classes.
        BundleError: The bundle cannot be loaded.
    """
    tasks.check_people(reviewers)
    if folds < 2 or folds > LEAST:
        raise DataError("clean_folds", f"--folds {folds}: give 2 to {LEAST}.")
    rows = store.rows()
    doubts = find_doubts(rows, labels, bundle=bundle, folds=folds, seed=seed, threads=threads, on_rows=on_rows)
    if not any(entry.ranked for entry in doubts):
        raise DataError(
            "clean_rows", f"{store.path}: no label has {LEAST} rows with and {LEAST} without it; label more rows first."
        )
    worst: dict[str, float] = {}
    for entry in doubts:
        for suspect in entry.issues:
            worst[suspect.id] = min(suspect.quality, worst.get(suspect.id, 1.0))
    by_id = {row.id: row for row in rows}
    taken = tasks.barred(rows, tasks.holders(store)) if reviewers else {}
    dealt = deal(dict.fromkeys(worst if reviewers else (), 1), reviewers, taken, seed=f"{seed} clean")
    ranked = {person: sorted(keys, key=lambda key: (worst[key], key)) for person, keys in dealt.rows.items()}
    aside = _aside(doubts) if drop else {}
    record = store.write_record(
        "clean",
        {
            "labels": list(labels),
            "rows": store.digest(),
            "model": load_bundle(bundle).model_id,
            "method": f"cleanlab by label; logistic regression on the model's features, {folds} folds, seed {seed}",
            "action": "set aside" if drop else "left",
            "found": [
                {
                    "label": entry.label,
                    "rows": entry.rows,
                    "positive": entry.positive,
                    "ranked": bool(entry.ranked),
                    "issues": [asdict(suspect) for suspect in entry.issues],
                }
                for entry in doubts
            ],
            "dealt": {tasks.REVIEW: ranked},
            "nobody_free": sorted(dealt.left),
        },
    )
    if aside:
        with store.locked():
            store.replace_rows([_marked(row, aside.get(row.id, ())) for row in store.rows()])
    return Cleaning(
        record=record,
        files=tasks.write_tasks(store, record, ranked, by_id, labels),
        labels=doubts,
        set_aside=sum(map(len, aside.values())),
    )


def _aside(doubts: Sequence[LabelDoubts]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in doubts:
        for suspect in entry.issues:
            found.setdefault(suspect.id, []).append(entry.label)
    return found


def _marked(row: LabelledRow, labels: Sequence[str]) -> LabelledRow:
    if not labels:
        return row
    return replace(row, meta={**row.meta, SET_ASIDE: ",".join(sorted(row.set_aside.union(labels)))})
