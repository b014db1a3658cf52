"""Reliability: do probabilities mean what they say, and do the sure verdicts err less than the doubtful ones?

On the held-back authored frames, on which calibration and thresholds were chosen: what is shown is the best case. No
model call: the probabilities of those rows are there already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_eval.metrics import Metric, mean, share
from fineline_training.arrays import label_arrays
from fineline_training.records import Record

CALIBRATION_BINS = 10
COVERAGES = tuple(step / 20 for step in range(1, 21))
"""Shares of the rows, surest first, at which risk is reported."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Rows whose probability falls into one bin: what was said and what was found.

    Attributes:
        start: Lower edge; bins are a tenth wide.
        predicted: Mean probability.
        observed: Share of positive rows.
        n: Rows.
    """

    start: float
    predicted: float
    observed: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Calibration of one label, of one language (all labels together), or of everything.

    Attributes:
        name: Label id, language code, or ``all``.
        n: Judgements: pairs of row and label whose truth is known.
        positives: Those that hold.
        calibration_error: Expected calibration error.
        brier: Mean squared difference between probability and truth (Brier 1950).
        bins: Bins that hold a row.
    """

    name: str
    n: int
    positives: int
    calibration_error: float
    brier: Metric
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class CoveragePoint:
    """Share of wrong verdicts among the surest share of the rows."""

    coverage: float
    risk: Metric


@dataclass(frozen=True, kw_only=True)
class ReliabilityReport:
    """Calibration and selective risk.

    Attributes:
        calibration_error: Class-wise: mean over the labels that have a positive row (Kull et al. 2019).
        overall: All labels and languages together.
        curve: Risk by coverage (El-Yaniv and Wiener 2010); the last point is the share of all verdicts that are wrong.
        curve_area: Mean risk over all coverages, 0 at best (Geifman and El-Yaniv 2017).
    """

    calibration_error: float
    overall: Reliability
    labels: tuple[Reliability, ...]
    langs: tuple[Reliability, ...]
    curve: tuple[CoveragePoint, ...]
    curve_area: float


def reliability_bins(probabilities: NDArray[np.float64], truth: Mask) -> tuple[ReliabilityBin, ...]:
    """Ten bins of equal width, without the empty ones; both arguments of shape (rows,)."""
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return tuple(
        ReliabilityBin(
            start=index / CALIBRATION_BINS,
            predicted=round(float(probabilities[bins == index].mean()), 6),
            observed=round(float(truth[bins == index].mean()), 6),
            n=int((bins == index).sum()),
        )
        for index in np.unique(bins).tolist()
    )


def calibration_error(probabilities: NDArray[np.float64], truth: Mask) -> float:
    """Expected calibration error with ten equal-width bins (Guo et al. 2017); NaN without a row."""
    if not len(probabilities):
        return float("nan")
    gaps = [part.n * abs(part.predicted - part.observed) for part in reliability_bins(probabilities, truth)]
    return round(sum(gaps) / len(probabilities), 4)


def reliability_of(name: str, probabilities: NDArray[np.float64], truth: Mask, clusters: Sequence[str]) -> Reliability:
    """Calibration of some judgements.

    Args:
        name: What they share.
        probabilities: Calibrated, shape (judgements,).
        truth: Shape (judgements,).
        clusters: Frame of each; they are drawn together.
    """
    return Reliability(
        name=name,
        n=len(truth),
        positives=int(truth.sum()),
        calibration_error=calibration_error(probabilities, truth),
        brier=mean((probabilities - truth) ** 2, clusters),
        bins=reliability_bins(probabilities, truth),
    )


def sureness(probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far a verdict is from turning: log-odds between the label nearest to (or most beyond) its threshold and it.

    Args:
        probabilities: Calibrated, shape (rows, labels).
        thresholds: Shape (labels,).

    Returns:
        Shape (rows,), not negative.
    """
    # Clipped: a label that cannot be reached (threshold above 1) must not make every verdict equally sure.
    p, t = (np.clip(values, 1e-9, 1 - 1e-9) for values in (probabilities, thresholds))
    return np.asarray(np.abs((np.log(p / (1 - p)) - np.log(t / (1 - t))).max(axis=1)))


def risk_coverage(
    sure: NDArray[np.float64], wrong: Mask, clusters: Sequence[str]
) -> tuple[tuple[CoveragePoint, ...], float]:
    """The risk-coverage curve and the area under it; all arguments have one entry a row."""
    order = np.argsort(-sure, kind="stable")
    wrong, names = wrong[order], [clusters[i] for i in order.tolist()]
    curve = []
    for coverage in COVERAGES:
        kept = max(1, round(coverage * len(wrong)))
        curve.append(CoveragePoint(coverage=coverage, risk=share(wrong[:kept], names[:kept])))
    return tuple(curve), round(float((np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean()), 4)


def evaluate_reliability(
    rows: Sequence[Record], probabilities: NDArray[np.float64], flagged: Mask, thresholds: Mapping[str, float]
) -> ReliabilityReport:
    """Calibration and selective risk on the held-back authored frames.

    Args:
        rows: Authored development rows.
        probabilities: Calibrated, shape (rows, labels), columns in the order of the taxonomy.
        flagged: Whether the policy flags a row by any label, shape (rows,).
        thresholds: The policy's thresholds; infinite for a label that the bundle lacks.

    Raises:
        DataError: There is no row.
    """
    if not rows:
        raise DataError("reliability_rows", "No held-back authored row to judge calibration on; check the corpus.")
    ids = load_taxonomy().ids
    table, _ = label_arrays(rows, ids)
    known, truth = table >= 0, table == 1
    frames = np.array([row.meta.get("frame", "") for row in rows], dtype=np.str_)
    langs = np.array([row.lang for row in rows], dtype=np.str_)

    def part(name: str, cells: Mask) -> Reliability:
        index = np.nonzero(cells)[0]
        return reliability_of(name, probabilities[cells], truth[cells], frames[index].tolist())

    labels = tuple(part(label, known & (np.arange(len(ids)) == column)) for column, label in enumerate(ids))
    errors = [label.calibration_error for label in labels if label.positives]
    wrong = flagged != np.array([row.unlawful for row in rows])
    limits = np.array([thresholds[label] for label in ids])
    curve, area = risk_coverage(sureness(probabilities, limits), wrong, frames.tolist())
    return ReliabilityReport(
        calibration_error=round(float(np.mean(errors)), 4) if errors else float("nan"),
        overall=part("all", known),
        labels=labels,
        langs=tuple(part(lang, known & (langs == lang)[:, None]) for lang in np.unique(langs).tolist()),
        curve=curve,
        curve_area=area,
    )
