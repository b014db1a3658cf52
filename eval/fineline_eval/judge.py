"""Judge one suite with the classifier and with the floors, on the same rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fineline.errors import DataError
from fineline_eval.decisions import Decisions, decide
from fineline_eval.floor import Flags, floor_flags
from fineline_eval.metrics import FUNCTIONS, metrics_of, share
from fineline_eval.report import SliceResult, SuiteResult
from fineline_eval.scoring import Scorer
from fineline_eval.suites import Suite
from fineline_training.records import Record

_METRICS = tuple(FUNCTIONS)


class Judged(NamedTuple):
    """A suite's result, and the decisions behind it."""

    result: SuiteResult
    decisions: Decisions


def _slices(
    suite: Suite, rows: Sequence[Record], truth: NDArray[np.bool_], flagged: NDArray[np.bool_], floors: Flags
) -> tuple[SliceResult, ...]:
    """The lawful rows of each slice, and apart from them its others: many functions hold both."""
    if not suite.slices:
        return ()
    names = np.array([row.meta.get(suite.slices, "") for row in rows])
    results = []
    for name in sorted(set(names.tolist()) - {""}):
        for lawful in (True, False):
            chosen = np.flatnonzero((names == name) & (truth != lawful)).tolist()
            if not chosen:
                continue
            clusters = [rows[i].pair for i in chosen]
            results.append(
                SliceResult(
                    name=name,
                    lawful=lawful,
                    flagged=share(flagged[chosen], clusters),
                    floors={floor: share(flags[chosen], clusters) for floor, flags in floors.items()},
                )
            )
    return tuple(results)


def judge_suite(suite: Suite, rows: Sequence[Record], train: Sequence[Record], scorer: Scorer) -> Judged:
    """Judge one suite.

    Args:
        suite: What counts as positive, and how it is sliced.
        rows: Its rows.
        train: Rows the floors may learn from.
        scorer: Scores rows with the bundle under test.

    Raises:
        DataError: The suite has no row.
    """
    if not rows:
        raise DataError("suite_empty", f"Suite '{suite.id}' has no row; check its files with 'fineline data status'.")
    truth = np.array([suite.truth(row) for row in rows], dtype=np.bool_)
    probabilities = scorer.probabilities(suite.id, rows)
    flagged = scorer.flags(probabilities, suite.labels)
    langs = sorted({row.lang for row in rows})
    floors, floor_rows = floor_flags(suite, train, [row.text for row in rows], langs, scorer.cache)
    clusters = [row.pair for row in rows]
    lawful = [index for index, row in enumerate(rows) if suite.is_lawful_case(row)]
    names = [clusters[i] for i in lawful]
    result = SuiteResult(
        id=suite.id,
        title=suite.title,
        source=suite.source,
        langs=tuple(langs),
        n=len(rows),
        target=suite.target,
        headline=suite.headline,
        metrics=metrics_of(truth, flagged, clusters, _METRICS),
        floors={name: metrics_of(truth, flags, clusters, _METRICS) for name, flags in floors.items()},
        floor_rows=floor_rows,
        slices=_slices(suite, rows, truth, flagged, floors),
        lawful_flagged=share(flagged[lawful], names) if lawful else None,
        lawful_flagged_floors={name: share(flags[lawful], names) for name, flags in floors.items()} if lawful else None,
    )
    decisions = decide(
        suite.id,
        rows,
        truth=truth,
        flagged=flagged,
        reached=scorer.reached(probabilities),
        clusters=clusters,
        slices=[row.meta.get(suite.slices, "") for row in rows],
    )
    return Judged(result, decisions)
