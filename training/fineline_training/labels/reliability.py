"""Krippendorff's alpha and Cohen's kappa of yes-or-no votes, with bootstrap intervals over rows.

A row matters only by its pattern: how many people said no and how many yes (alpha), or which of four answers a pair
gave (kappa). Drawing rows with replacement is therefore one multinomial draw of how often each pattern comes, so that
a thousand resamples of a large store take a few milliseconds; a library that reads every row would take minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A coefficient of agreement.

    Attributes:
        rows: Rows that at least two people voted on.
        value: The coefficient, 1 for full agreement, 0 for what chance gives; ``None`` where all votes are alike or
            no row has two, so that there is nothing to measure.
        low: Lower end of the 95 % percentile bootstrap interval.
        high: Upper end.
    """

    rows: int
    value: float | None
    low: float | None
    high: float | None


def _alphas(patterns: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Alpha of each row of ``counts``, shape (draws, patterns), over patterns of shape (patterns, 2): no, yes."""
    no, yes = patterns.T
    disputed = counts @ (no * yes / (no + yes - 1))
    all_no, all_yes = counts @ no, counts @ yes
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - (all_no + all_yes - 1) * disputed / (all_no * all_yes), dtype=np.float64)


def _kappas(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Kappa of tables of shape (draws, 4): both no, only the second yes, only the first yes, both yes."""
    neither, second, first, both = counts.T
    rows = counts.sum(axis=1)
    observed = (neither + both) / rows
    chance = ((first + both) * (second + both) + (neither + second) * (neither + first)) / rows**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((observed - chance) / (1 - chance), dtype=np.float64)


def _draws(counts: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    rows = int(counts.sum())
    return np.random.default_rng(seed).multinomial(rows, counts / rows, size=RESAMPLES)


def _estimate(rows: int, value: float, drawn: NDArray[np.float64]) -> Estimate:
    if not np.isfinite(value):
        return Estimate(rows=rows, value=None, low=None, high=None)
    low, high = np.percentile(drawn[np.isfinite(drawn)], _PERCENTILES)
    return Estimate(rows=rows, value=float(value), low=float(low), high=float(high))


def alpha(votes: Sequence[Sequence[int]], seed: int = 0) -> Estimate:
    """Nominal alpha of any number of people, of whom each votes on some rows (Krippendorff 2004, chapter 11).

    Args:
        votes: Per row the votes it was given, 0 or 1; rows with fewer than two say nothing and are left out.
        seed: Seed of the bootstrap.
    """
    pairs = [(len(row) - sum(row), sum(row)) for row in votes if len(row) > 1]
    if not pairs:
        return Estimate(rows=0, value=None, low=None, high=None)
    patterns, counts = np.unique(np.array(pairs, dtype=np.int64), axis=0, return_counts=True)
    value = _alphas(patterns, counts[None])[0]
    return _estimate(len(pairs), value, _alphas(patterns, _draws(counts, seed)))


def kappa(first: Sequence[int], second: Sequence[int], seed: int = 0) -> Estimate:
    """Kappa of two people on the rows that both voted on (Cohen 1960).

    Args:
        first: One person's votes, 0 or 1.
        second: The other's on the same rows.
        seed: Seed of the bootstrap.
    """
    if not first:
        return Estimate(rows=0, value=None, low=None, high=None)
    answers = 2 * np.array(first, dtype=np.int64) + np.array(second, dtype=np.int64)
    counts = np.bincount(answers, minlength=4)
    return _estimate(len(first), _kappas(counts[None])[0], _kappas(_draws(counts, seed)))
