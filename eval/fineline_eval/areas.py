"""Areas under the curve for one group among others, after Borkan et al. 2019 (arXiv 1903.04561).

They need no threshold: each is the share of (lawful, flagged) pairs of rows that the scores order rightly.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fineline_eval.metrics import Counts, Metric, with_interval

_BINS = 200
"""Scores are compared by bins of equal frequency; two scores of one bin count as a tie."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Auc:
    """Three areas of one group; ``n`` counts the group's own rows, not the background.

    Attributes:
        subgroup: The group's lawful against its hostile text.
        bpsn: Its lawful text against hostile text on others; low when naming the group raises the score.
        bnsp: Its hostile text against lawful text on others; low when attacks on the group are missed.
    """

    subgroup: Metric
    bpsn: Metric
    bnsp: Metric


class Areas:
    """Areas of groups among the same rows.

    Args:
        scores: Shape (rows,).
        truth: Whether a row is hostile, shape (rows,).
        clusters: Rows that are drawn together have the same name, shape (rows,).
    """

    def __init__(self, scores: NDArray[np.float64], truth: Mask, clusters: NDArray[np.str_]) -> None:
        edges = np.quantile(scores, np.linspace(0, 1, _BINS + 1)[1:-1])
        self._cells = np.searchsorted(edges, scores, side="right") + _BINS * truth
        self._truth, self._clusters = truth, clusters

    def _counts(self, chosen: Mask) -> Counts:
        """Rows of each cluster by bin, lawful bins first, shape (clusters, 2 bins)."""
        names, index = np.unique(self._clusters[chosen], return_inverse=True)
        counts = np.bincount(index * 2 * _BINS + self._cells[chosen], minlength=len(names) * 2 * _BINS)
        return counts.reshape(len(names), 2 * _BINS).astype(np.float64)

    def _sides(self, inside: Mask) -> tuple[Mask, Mask]:
        """Rows that BPSN and BNSP compare: one verdict inside the group, the other one outside."""
        bpsn = inside ^ self._truth
        return bpsn, ~bpsn

    def lowest(self, inside: Mask) -> float:
        """The lower one of BPSN and BNSP without its interval, which is what takes time."""
        return float(min(_area(self._counts(side).sum(axis=0)) for side in self._sides(inside)))

    def of(self, inside: Mask) -> Auc:
        """Areas of the rows inside against all others."""

        def area(chosen: Mask, own: Mask) -> Metric:
            return replace(with_interval(_area, self._counts(chosen)), n=int(own.sum()))

        bpsn, bnsp = self._sides(inside)
        return Auc(
            subgroup=area(inside, inside),
            bpsn=area(bpsn, bpsn & inside),
            bnsp=area(bnsp, bnsp & inside),
        )


def _area(counts: Counts) -> Counts:
    """Area from counts of shape (..., 2 bins); NaN without rows of both classes."""
    lawful, hostile = counts[..., :_BINS], counts[..., _BINS:]
    below = np.cumsum(lawful, axis=-1) - lawful / 2
    pairs = np.asarray(lawful.sum(axis=-1) * hostile.sum(axis=-1))
    wins = (hostile * below).sum(axis=-1)
    return np.asarray(np.divide(wins, pairs, out=np.full_like(pairs, np.nan), where=pairs > 0))
