"""Shares of a corpus or a sample with their 95 % intervals."""

import math
from dataclasses import dataclass
from statistics import NormalDist

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True, kw_only=True)
class Share:
    """A share with its interval.

    Attributes:
        hits: Items counted.
        n: Items looked at.
        value: Their ratio.
        low: Lower end.
        high: Upper end.
    """

    hits: int
    n: int
    value: float
    low: float
    high: float


def wilson(hits: int, n: int) -> Share:
    """Share with the Wilson score interval (Wilson 1927), which stays inside 0 to 1 and is sound for rare hits.

    Args:
        hits: Items counted, at most ``n``.
        n: Items looked at, at least 1.
    """
    value = hits / n
    middle = (value + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(value * (1 - value) / n + Z * Z / (4 * n * n))
    # At no hit and at all hits the end is 0 or 1 exactly, which rounding would miss by a hair.
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == n else middle + half
    return Share(hits=hits, n=n, value=value, low=low, high=high)


def clopper_pearson(hits: int, n: int) -> Share:
    """Share with the exact interval (Clopper and Pearson 1934), which covers at least as often as it says.

    Used where a bound of the standard is judged on a sample: it errs against the one who wants to pass.

    Args:
        hits: Items counted, at most ``n``.
        n: Items looked at, at least 1.
    """
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Share(hits=hits, n=n, value=hits / n, low=low, high=high)
