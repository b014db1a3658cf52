"""Metrics from counts, with bootstrap intervals over clusters.

Every metric here is a function of the confusion counts, so a resample is a weighted sum of counts: 1,000 resamples of a
suite cost one matrix product. Rows of one minimal pair or template are drawn together (cluster bootstrap), because they
are not independent; without that the intervals would be too narrow.

A bootstrap says nothing where its draws are all alike. A share of 0 or 1 therefore gets the exact binomial bound
(Clopper and Pearson 1934) with clusters as trials, and other values that rest on one cluster get no interval.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
CONFIDENCE = 0.95
SMALL_CELL = 30
"""Cells with fewer rows are marked: their interval is wide and their value moves with a handful of rows."""
_SEED = 7

Counts = NDArray[np.float64]
"""Shape (..., 4): true positives, false positives, false negatives, true negatives."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A value with its 95 % interval.

    Attributes:
        value: Point estimate; NaN where it is not defined (no row of the class it needs).
        low: Lower end.
        high: Upper end.
        n: Rows it is about: positive ones for recall, flagged ones for precision, lawful ones for ``lawful_flagged``.
    """

    value: float
    low: float
    high: float
    n: int


def _ratio(top: Counts, bottom: Counts) -> Counts:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def _f1(tp: Counts, fp: Counts, fn: Counts) -> Counts:
    return _ratio(2 * tp, 2 * tp + fp + fn)


def recall(c: Counts) -> Counts:
    """Share of positive rows flagged."""
    return _ratio(c[..., 0], c[..., 0] + c[..., 2])


def precision(c: Counts) -> Counts:
    """Share of flagged rows that are positive."""
    return _ratio(c[..., 0], c[..., 0] + c[..., 1])


def lawful_flagged(c: Counts) -> Counts:
    """Share of negative rows flagged."""
    return _ratio(c[..., 1], c[..., 1] + c[..., 3])


def f1(c: Counts) -> Counts:
    """F1 of the flagged class."""
    return _f1(c[..., 0], c[..., 1], c[..., 2])


def accuracy(c: Counts) -> Counts:
    """Share of rows judged right."""
    return _ratio(c[..., 0] + c[..., 3], c.sum(axis=-1))


def macro_f1(c: Counts) -> Counts:
    """Mean of the F1 of both classes."""
    return (f1(c) + _f1(c[..., 3], c[..., 2], c[..., 1])) / 2


def weighted_f1(c: Counts) -> Counts:
    """F1 of both classes weighted by their rows (scikit-learn's ``average="weighted"``)."""
    positives, negatives = c[..., 0] + c[..., 2], c[..., 1] + c[..., 3]
    both = f1(c) * positives + _f1(c[..., 3], c[..., 2], c[..., 1]) * negatives
    return _ratio(both, positives + negatives)


FUNCTIONS: Mapping[str, Callable[[Counts], Counts]] = {
    "accuracy": accuracy,
    "weighted_f1": weighted_f1,
    "macro_f1": macro_f1,
    "f1": f1,
    "precision": precision,
    "recall": recall,
    "lawful_flagged": lawful_flagged,
}
_ALL_CELLS = (0, 1, 2, 3)
_SHARES = {"accuracy": _ALL_CELLS, "recall": (0, 2), "precision": (0, 1), "lawful_flagged": (1, 3)}
"""Metrics that are the share of some rows, with the cells that hold those rows."""


def cluster_sums(cells: Counts, clusters: Sequence[str]) -> Counts:
    """Sum of the rows of each cluster, shape (clusters, ...); rows with an empty cluster name stand alone."""
    names = [name or f"#{row}" for row, name in enumerate(clusters)]
    _, index = np.unique(names, return_inverse=True)
    sums = np.zeros((index.max() + 1 if len(names) else 0, *cells.shape[1:]))
    np.add.at(sums, index, cells)
    return sums


def confusion(truth: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> Counts:
    """The cell of each row, shape (rows, 4)."""
    cells = np.stack([truth & flagged, ~truth & flagged, truth & ~flagged, ~truth & ~flagged], axis=1)
    return cells.astype(np.float64)


def cluster_counts(truth: NDArray[np.bool_], flagged: NDArray[np.bool_], clusters: Sequence[str]) -> Counts:
    """Confusion counts of each cluster, shape (clusters, 4)."""
    return cluster_sums(confusion(truth, flagged), clusters)


def _weights(clusters: int) -> NDArray[np.int64]:
    """How often each cluster is drawn in each resample, shape (resamples, clusters); the same each time."""
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES)


def _metric(value: float, draws: Counts, rows: int) -> Metric:
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return Metric(value=value, low=float("nan"), high=float("nan"), n=rows)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Metric(value=round(value, 4), low=round(float(low), 4), high=round(float(high), 4), n=rows)


def with_interval(function: Callable[[Counts], Counts], counts: Counts) -> Metric:
    """A metric with its percentile bootstrap interval; NaN for the ends where there is but one cluster to draw.

    Args:
        function: One of ``FUNCTIONS``, or another function of summed counts.
        counts: Shape (clusters, cells).
    """
    rows = round(counts.sum())
    if not len(counts):
        return Metric(value=float("nan"), low=float("nan"), high=float("nan"), n=0)
    value = float(function(counts.sum(axis=0)))
    if len(counts) == 1:
        return Metric(value=round(value, 4), low=float("nan"), high=float("nan"), n=rows)
    return _metric(value, function(_weights(len(counts)) @ counts), rows)


def _told(found: Metric) -> Metric:
    """The metric without its interval where all draws are alike: they say nothing of what was not drawn."""
    return replace(found, low=float("nan"), high=float("nan")) if found.low == found.high else found


def _named(name: str, counts: Counts) -> Metric:
    """A metric of ``FUNCTIONS``, with the number of rows it is about and, at 0 and 1, the exact bound."""
    about = counts[:, _SHARES.get(name, _ALL_CELLS)].sum(axis=1)
    found = replace(with_interval(FUNCTIONS[name], counts), n=round(about.sum()))
    trials = int(np.count_nonzero(about))
    if name not in _SHARES or not trials:
        return _told(found)
    if 0 < found.value < 1:
        return found if trials > 1 else replace(found, low=float("nan"), high=float("nan"))
    reach = round(1 - ((1 - CONFIDENCE) / 2) ** (1 / trials), 4)
    low, high = (0.0, reach) if found.value == 0 else (round(1 - reach, 4), 1.0)
    return replace(found, low=low, high=high)


def difference_with_interval(function: Callable[[Counts], Counts], old: Counts, new: Counts) -> Metric:
    """New minus old on the same rows; each resample draws the same clusters of both (paired bootstrap).

    Args:
        function: One of ``FUNCTIONS``.
        old: Shape (clusters, 4).
        new: The same rows and clusters, shape (clusters, 4).
    """
    value = float(function(new.sum(axis=0)) - function(old.sum(axis=0)))
    weights = _weights(len(new))
    return _metric(value, function(weights @ new) - function(weights @ old), int(new.sum()))


def resampled(function: Callable[[NDArray[np.int64]], float], clusters: Sequence[str]) -> Metric:
    """A metric that is no function of counts, with its percentile bootstrap interval over clusters.

    Args:
        function: Given how often each row is drawn, shape (rows,), the metric; NaN where it is not defined.
        clusters: Name of each row's cluster; rows with an empty one stand alone.
    """
    names = [name or f"#{row}" for row, name in enumerate(clusters)]
    _, index = np.unique(names, return_inverse=True)
    value = function(np.ones(len(names), dtype=np.int64))
    draws = np.array([function(weights[index]) for weights in _weights(int(index.max()) + 1)])
    return _told(_metric(value, draws, len(names)))


def metrics_of(
    truth: NDArray[np.bool_], flagged: NDArray[np.bool_], clusters: Sequence[str], names: Sequence[str]
) -> dict[str, Metric]:
    """Several metrics of ``FUNCTIONS`` on the same rows."""
    counts = cluster_counts(truth, flagged, clusters)
    return {name: _named(name, counts) for name in names}


def share(hits: NDArray[np.bool_], clusters: Sequence[str]) -> Metric:
    """Share of rows that are true, with its interval."""
    return _named("recall", cluster_counts(np.ones(len(hits), dtype=np.bool_), hits, clusters))


def mean(values: NDArray[np.float64], clusters: Sequence[str]) -> Metric:
    """Mean of the rows' values, with its interval."""
    nothing = np.zeros(len(values))
    # A share in parts: each row counts as ``value`` of a hit and ``1 - value`` of a miss.
    return with_interval(recall, cluster_sums(np.stack([values, nothing, 1 - values, nothing], axis=1), clusters))
