"""Two evaluations on the same rows: which slices became better or worse, beyond what chance explains.

Rows are matched by digest, and each resample draws the same clusters for both sides (paired bootstrap), so that what is
hard about a row does not widen the interval of the difference. Both sides are held to the new side's truth.

An interval that leaves zero out makes a slice better or worse. Among a hundred gated slices a few look worse by chance
alone, so the comparison fails only on those whose interval, widened for that number, still leaves zero out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fineline.errors import ConfigError
from fineline_eval.decisions import Decisions
from fineline_eval.gates import Gates
from fineline_eval.metrics import CONFIDENCE, FUNCTIONS, SMALL_CELL, Metric, cluster_counts, difference_with_interval

LEAST_CHANGED = 6
"""Clusters that must have changed: five that all changed one way still happen by chance in 3 % (sign test)."""
LEAST_MATCHED = 0.9
"""Share of the old side's rows of a part that the new side must have judged, too."""
BY_CHANCE = (1 - CONFIDENCE) / 2
"""Share of measures that look worse by chance alone between equally good models."""
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
        gate: Name of the gate that guards the measure, ``""`` for none.
    """

    measure: str
    n: int
    old: float
    new: float
    change: float
    low: float
    high: float
    outcome: Outcome
    gate: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All slices of two evaluations.

    Attributes:
        differences: One for each measure that is defined on both sides.
        thin: Parts of which the new side judged too few of the old side's rows.
        lost: ``<part>/label=<label>`` that the old side has positive rows of, and the new side none.
        matched: Rows judged by both sides.
        unmatched: Rows that one side did not judge.
    """

    differences: tuple[Difference, ...]
    thin: tuple[str, ...]
    lost: tuple[str, ...]
    matched: int
    unmatched: int


def _slices(old: Decisions, new: Decisions) -> Iterator[tuple[str, Mask, Mask, Mask, Mask, tuple[str, ...]]]:
    """Name, rows, truth, old flags, new flags, and metrics of each slice of a part."""
    every = np.ones(len(new.keys), dtype=np.bool_)
    both = new.truth.any() and not new.truth.all()
    yield "all", every, new.truth, old.flagged, new.flagged, _METRICS if both else _METRICS[1:]
    for kind, values in (("slice", new.slices), ("lang", new.langs)):
        names = sorted(set(values.tolist()) - {""})
        if kind == "lang" and len(names) < 2:
            continue
        for name in names:
            yield f"{kind}={name}", values == name, new.truth, old.flagged, new.flagged, _METRICS[1:]
    for label, (known, positive, reached) in new.labels.items():
        if label in old.labels and (known & positive).any():
            yield f"label={label}", known, positive, old.labels[label][2], reached, _METRICS[1:]


def _outcome(change: Metric, changed: int, lower_is_better: bool) -> Outcome:
    # Resamples of few rows, or of few that changed, are nearly all alike: their interval is far too sure.
    if change.n < SMALL_CELL or changed < LEAST_CHANGED or not (change.low > 0 or change.high < 0):
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
            changed = int((before != after).any(axis=1).sum())
            gate = gates.of(measure)
            yield Difference(
                measure=measure,
                n=change.n,
                old=round(float(function(before.sum(axis=0))), 4),
                new=round(float(function(after.sum(axis=0))), 4),
                change=change.value,
                low=change.low,
                high=change.high,
                outcome=_outcome(change, changed, gates.is_lower_better(measure)),
                gate=gate.name if gate is not None else "",
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


def _lost(old: Decisions, new: Decisions) -> Iterator[str]:
    """Labels that some row of the old side holds, and no row of the new one."""

    def held(side: Decisions) -> set[str]:
        return {label for label, (known, positive, _) in side.labels.items() if (known & positive).any()}

    yield from (f"{old.part}/label={label}" for label in sorted(held(old) - held(new)))


def shared_parts(
    old: Mapping[str, Decisions], new: Mapping[str, Decisions]
) -> tuple[dict[str, Decisions], dict[str, Decisions], tuple[str, ...]]:
    """Both sides with the parts that both judged, and the names of the others."""
    both = [name for name in old if name in new]
    left = tuple(sorted(set(old) ^ set(new)))
    return {name: old[name] for name in both}, {name: new[name] for name in both}, left


def compare(old: Mapping[str, Decisions], new: Mapping[str, Decisions], gates: Gates) -> Comparison:
    """Compare two evaluations slice by slice.

    Args:
        old: Decisions of the old side, by part.
        new: Decisions of the new side, by part.
        gates: Say which metrics should be low.

    Raises:
        ConfigError: A part was judged by one side only, or the sides have no row in common.
    """
    if alone := [f"{name} ({'old' if name in old else 'new'} side only)" for name in sorted(set(old) ^ set(new))]:
        raise ConfigError(
            "compare_parts", f"Judged by one side only: {', '.join(alone)}; evaluate both on the same suites."
        )
    differences: list[Difference] = []
    thin: list[str] = []
    lost: list[str] = []
    matched = 0
    for name, before in old.items():
        after = new[name]
        _, left, right = np.intersect1d(before.keys, after.keys, assume_unique=True, return_indices=True)
        lost += _lost(before, after)
        if len(left) < LEAST_MATCHED * len(before.keys):
            thin.append(name)
        if len(left):
            matched += len(left)
            differences += _part(_chosen(before, left), _chosen(after, right), gates)
    if not matched:
        raise ConfigError(
            "compare_rows", "The two evaluations have no row in common; evaluate both on the same suites."
        )
    rows = sum(len(part.keys) for side in (old, new) for part in side.values())
    return Comparison(
        differences=tuple(differences),
        thin=tuple(thin),
        lost=tuple(lost),
        matched=matched,
        unmatched=rows - 2 * matched,
    )


def gated(comparison: Comparison) -> tuple[Difference, ...]:
    """The differences of gated measures."""
    return tuple(d for d in comparison.differences if d.gate)


def beyond_chance(comparison: Comparison) -> tuple[Difference, ...]:
    """Gated measures that are worse beyond what chance explains among all gated ones: what a comparison fails on.

    Bonferroni on the bootstrap's own width: the interval is taken for that of a normal distribution and widened, so
    that between equally good models about 2.5 % of comparisons fail at most, however many measures are gated.
    """
    found = gated(comparison)
    one, every = (NormalDist().inv_cdf(1 - BY_CHANCE / count) for count in (1, max(1, len(found))))
    return tuple(d for d in found if d.outcome is Outcome.WORSE and abs(d.change) > every / one * (d.high - d.low) / 2)


def comparison_table(comparison: Comparison, title: str, *, every: bool) -> Table:
    """Worse first, then better, then undecided; of the undecided only gated measures unless ``every``."""
    table = Table("", "measure", "n", "old, %", "new, %", "change (95 % interval)", "gate", title=title)
    failed = beyond_chance(comparison)
    for outcome in Outcome:
        for d in comparison.differences:
            if d.outcome is outcome and (every or d.gate or outcome is not Outcome.UNDECIDED):
                change = f"{100 * d.change:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})"
                values = (f"{100 * d.old:.1f}", f"{100 * d.new:.1f}")
                gate = d.gate
                if d.gate and d.outcome is Outcome.WORSE:
                    gate += ": fails" if d in failed else ": not beyond chance"
                table.add_row(outcome, d.measure, f"{d.n:,}", *values, change, gate)
    return table
