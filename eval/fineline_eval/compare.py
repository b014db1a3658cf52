"""Two evaluations on the same rows: which slices became better or worse, beyond what chance explains.

Rows are matched by digest, and each resample draws the same clusters for both sides (paired bootstrap), so that what is
hard about a row does not widen the interval of the difference. Both sides are held to the new side's truth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fineline.errors import ConfigError
from fineline_eval.decisions import Decisions
from fineline_eval.gates import Gates
from fineline_eval.metrics import FUNCTIONS, SMALL_CELL, Metric, cluster_counts, difference_with_interval

_METRICS = ("macro_f1", "recall", "lawful_flagged")

Mask = NDArray[np.bool_]


class Outcome(StrEnum):
    """What the interval of a difference says."""

    WORSE = "worse"
    BETTER = "better"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One measure on the rows that both sides judged.

    Attributes:
        measure: ``<part>/<slice>/<metric>``, named as in a report's measures.
        n: Rows the metric is about: positive ones for recall, lawful ones for ``lawful_flagged``.
        old: Value of the old side.
        new: Value of the new side.
        change: New minus old.
        low: Lower end of the 95 % interval of the change.
        high: Its upper end.
        outcome: Whether the interval leaves zero out, and on which side.
    """

    measure: str
    n: int
    old: float
    new: float
    change: float
    low: float
    high: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All slices of two evaluations.

    Attributes:
        differences: One for each measure that is defined on both sides.
        absent: Parts that only the old side has.
        matched: Rows judged by both sides.
        unmatched: Rows that one side did not judge.
    """

    differences: tuple[Difference, ...]
    absent: tuple[str, ...]
    matched: int
    unmatched: int


def _slices(old: Decisions, new: Decisions) -> Iterator[tuple[str, Mask, Mask, Mask, Mask, tuple[str, ...]]]:
    """Name, rows, truth, old flags, new flags, and metrics of each slice of a part."""
    every = np.ones(len(new.keys), dtype=np.bool_)
    yield "all", every, new.truth, old.flagged, new.flagged, _METRICS
    for kind, values in (("slice", new.slices), ("lang", new.langs)):
        names = sorted(set(values.tolist()) - {""})
        if kind == "lang" and len(names) < 2:
            continue
        for name in names:
            yield f"{kind}={name}", values == name, new.truth, old.flagged, new.flagged, _METRICS[1:]
    for label, (known, positive, reached) in new.labels.items():
        if label in old.labels and (known & positive).any():
            yield f"label={label}", known, positive, old.labels[label][2], reached, _METRICS[1:]


def _outcome(change: Metric, clusters: int, lower_is_better: bool) -> Outcome:
    # Few rows, or one cluster, give resamples that are all alike: their interval says nothing.
    if change.n < SMALL_CELL or clusters < 2 or not (change.low > 0 or change.high < 0):
        return Outcome.UNDECIDED
    return Outcome.BETTER if (change.high < 0) == lower_is_better else Outcome.WORSE


def _part(old: Decisions, new: Decisions, gates: Gates) -> Iterator[Difference]:
    for name, rows, truth, old_flags, new_flags, metrics in _slices(old, new):
        for metric in metrics:
            function = FUNCTIONS[metric]
            wanted = rows & {"recall": truth, "lawful_flagged": ~truth}.get(metric, rows)
            clusters = [str(cluster) for cluster in new.clusters[wanted]]
            before = cluster_counts(truth[wanted], old_flags[wanted], clusters)
            after = cluster_counts(truth[wanted], new_flags[wanted], clusters)
            if not len(after):
                continue
            change = difference_with_interval(function, before, after)
            if np.isnan(change.value):
                continue
            measure = f"{new.part}/{name}/{metric}"
            yield Difference(
                measure=measure,
                n=change.n,
                old=round(float(function(before.sum(axis=0))), 4),
                new=round(float(function(after.sum(axis=0))), 4),
                change=change.value,
                low=change.low,
                high=change.high,
                outcome=_outcome(change, len(after), gates.is_lower_better(measure)),
            )


def _chosen(part: Decisions, rows: NDArray[np.int64]) -> Decisions:
    return Decisions(
        part=part.part,
        keys=part.keys[rows],
        clusters=part.clusters[rows],
        slices=part.slices[rows],
        langs=part.langs[rows],
        truth=part.truth[rows],
        flagged=part.flagged[rows],
        labels={label: (a[rows], b[rows], c[rows]) for label, (a, b, c) in part.labels.items()},
    )


def compare(old: Mapping[str, Decisions], new: Mapping[str, Decisions], gates: Gates) -> Comparison:
    """Compare two evaluations slice by slice.

    Args:
        old: Decisions of the old side, by part.
        new: Decisions of the new side, by part.
        gates: Say which metrics should be low.

    Raises:
        ConfigError: The sides have no row in common.
    """
    differences: list[Difference] = []
    matched = 0
    for name in old:
        if name not in new:
            continue
        _, left, right = np.intersect1d(old[name].keys, new[name].keys, assume_unique=True, return_indices=True)
        if len(left):
            matched += len(left)
            differences += _part(_chosen(old[name], left), _chosen(new[name], right), gates)
    if not matched:
        raise ConfigError(
            "compare_rows", "The two evaluations have no row in common; evaluate both on the same suites."
        )
    rows = sum(len(part.keys) for side in (old, new) for part in side.values())
    return Comparison(
        differences=tuple(differences),
        absent=tuple(name for name in old if name not in new),
        matched=matched,
        unmatched=rows - 2 * matched,
    )


def gated_worse(comparison: Comparison, gates: Gates) -> list[tuple[str, str]]:
    """Gate and sentence of each gated measure that became worse."""
    return [
        (gate.name, f"{d.measure} {d.old:.4f} to {d.new:.4f}, change {d.change:+.4f} ({d.low:+.4f} to {d.high:+.4f})")
        for d in comparison.differences
        if d.outcome is Outcome.WORSE and (gate := gates.of(d.measure)) is not None
    ]


def comparison_table(comparison: Comparison, gates: Gates, title: str, *, every: bool) -> Table:
    """Worse first, then better, then undecided; of the undecided only gated measures unless ``every``."""
    table = Table("", "measure", "n", "old, %", "new, %", "change (95 % interval)", "gate", title=title)
    for outcome in Outcome:
        for d in comparison.differences:
            gate = gates.of(d.measure)
            if d.outcome is outcome and (every or gate is not None or outcome is not Outcome.UNDECIDED):
                change = f"{100 * d.change:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
                values = (f"{100 * d.old:.1f}", f"{100 * d.new:.1f}")
                table.add_row(outcome, d.measure, f"{d.n:,}", *values, change, gate.name if gate else "")
    return table
