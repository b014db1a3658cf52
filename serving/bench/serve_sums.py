"""The sums of the serving benchmark: medians, percentiles, lost and mixed-up answers, operations."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_OWN = 0.02
"""Difference in probability that the company of other texts in a batch may cause in a quantised model."""


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median of some runs, and the interval from the lowest to the highest."""
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
        "runs": len(values),
    }


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of all do not exceed; ``None`` of no values."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None


def latencies(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, p99 and the longest, in milliseconds."""

    def milliseconds(share: float) -> float | None:
        value = percentile(seconds, share)
        return None if value is None else round(1000 * value, 2)

    return {"p50": milliseconds(0.5), "p99": milliseconds(0.99), "most": milliseconds(1.0)}


def mixed_up(
    texts: Sequence[int],
    scores: NDArray[np.float64],
    known: NDArray[np.float64],
    lengths: Sequence[int],
    ends: Sequence[int],
) -> int:
    """Answers that are not those of the text that was sent.

    An answer is its own text's if its windows end where the text ends, and no other text's scores are clearly nearer.

    Args:
        texts: Per answer the place of the text in ``known``.
        scores: Per answer its scores, shape (answers, labels).
        known: The scores of every text, judged alone, shape (texts, labels).
        lengths: Characters of every text.
        ends: Per answer the end of its last window.
    """
    wrong = 0
    for text, row, end in zip(texts, scores, ends, strict=True):
        gaps = np.abs(known - row).max(axis=1)
        wrong += bool(end != lengths[text] or gaps[text] > gaps.min() + _OWN)
    return wrong


def outcome(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What became of each request.

    Args:
        records: One a request: ``status`` (0 if no answer came), ``same_id`` (whether the answer bore its request's
            id), ``seconds`` from the planned moment.

    Returns:
        Requests by status, those lost, those whose answer bore another request's id, and latencies of judged ones.
    """
    statuses = Counter(str(record["status"]) for record in records)
    return {
        "requests": len(records),
        "statuses": dict(sorted(statuses.items())),
        "lost": statuses.get("0", 0),
        "other_ids": sum(bool(record["status"]) and not record["same_id"] for record in records),
        "judged": latencies([record["seconds"] for record in records if record["status"] == 200]),
        "all": latencies([record["seconds"] for record in records if record["status"]]),
    }


def int8_operations(weights: Sequence[int]) -> int:
    """Operations a token of int8 matrix products: a multiplication and an addition for each weight."""
    return 2 * sum(weights)


def share_of_rate(tokens_per_second: float, operations: int, rate: float) -> float:
    """Share of the machine's rate of int8 operations a second that a model reaches on tokens of texts, not padding."""
    return round(tokens_per_second * operations / rate, 4)
