"""Logits to probabilities and thresholds, on development rows and on the artefact that is served.

Calibration is Platt scaling per label (Platt 1999): ``p = sigmoid(scale x logit + shift)`` with a mild pull towards the
identity, so that a label with few development rows is not bent by them. Each source has the same weight for a label,
because a large noisy set would otherwise set the scale for everyone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from fineline.calibration import Calibration
from fineline.policy import Policy

PULL = 2.0
"""Weight, in rows, of the pull of scale towards 1 and shift towards 0."""
LOWEST, HIGHEST = 0.05, 0.97
"""Thresholds stay inside this range: outside it a few development rows would decide."""


def source_weights(sources: Sequence[str]) -> NDArray[np.float64]:
    """Row weights that give each source the same total, with mean 1."""
    counts = Counter(sources)
    return np.array([len(sources) / (len(counts) * counts[source]) for source in sources])


def fit_platt(logits: NDArray[np.float64], truth: NDArray[np.int8], weights: NDArray[np.float64]) -> Calibration:
    """Fit one label on its known rows, each shape (rows,); the identity where only one class is present."""
    if len(set(truth.tolist())) < 2:
        return Calibration(scale=1.0, shift=0.0)
    signs = np.where(truth == 1, 1.0, -1.0)

    def loss(parameters: NDArray[np.float64]) -> float:
        scale, shift = np.exp(parameters[0]), parameters[1]
        rows = np.logaddexp(0, -signs * (scale * logits + shift)) * weights
        return float(rows.sum() + PULL * (parameters[0] ** 2 + parameters[1] ** 2))

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-7}).x
    return Calibration(scale=round(float(np.exp(best[0])), 6), shift=round(float(best[1]), 6))


def calibrate(
    logits: NDArray[np.float32], labels: NDArray[np.int8], sources: Sequence[str], ids: Sequence[str]
) -> dict[str, Calibration]:
    """Calibrate every label on the rows that know it.

    Args:
        logits: Shape (rows, labels), from the artefact that will be served.
        labels: Shape (rows, labels); 1, 0, or -1 for unknown.
        sources: Source of each row.
        ids: Label ids in column order.
    """
    fitted = {}
    for column, label in enumerate(ids):
        known = labels[:, column] >= 0
        weights = source_weights([source for source, k in zip(sources, known, strict=True) if k])
        fitted[label] = fit_platt(logits[known, column].astype(np.float64), labels[known, column], weights)
    return fitted


def best_threshold(
    probabilities: NDArray[np.float64], truth: NDArray[np.int8], weights: NDArray[np.float64], beta: float
) -> float:
    """Threshold with the highest F-beta on one label's known rows; 0.5 where no row is positive."""
    if not (truth == 1).any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    hits = np.cumsum((truth[order] == 1) * weights[order])
    flagged = np.cumsum(weights[order])
    score = (1 + beta**2) * hits / (flagged + beta**2 * hits[-1])
    # Only between different scores can a threshold stand; halfway keeps it away from either row.
    sorted_p = probabilities[order]
    can_cut = np.append(sorted_p[:-1] > sorted_p[1:], True)
    best = int(np.argmax(np.where(can_cut, score, -1)))
    below = sorted_p[best + 1] if best + 1 < len(sorted_p) else 0.0
    return float(np.clip((sorted_p[best] + below) / 2, LOWEST, HIGHEST))


def choose_thresholds(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int8],
    sources: Sequence[str],
    ids: Sequence[str],
    policy: Policy,
) -> dict[str, float]:
    """Thresholds of one policy.

    First the best F-beta a label, then one common shift in log-odds, the smallest that keeps the share of lawful rows
    flagged by any label within the policy's limit. Lawful rows are those that are known to break no rule at all.

    Args:
        probabilities: Calibrated, shape (rows, labels).
        labels: Shape (rows, labels); 1, 0, or -1.
        sources: Source of each row.
        ids: Label ids in column order.
        policy: Its ``beta`` and ``max_lawful_flagged``.
    """
    thresholds = np.empty(len(ids))
    for column in range(len(ids)):
        known = labels[:, column] >= 0
        weights = source_weights([source for source, k in zip(sources, known, strict=True) if k])
        thresholds[column] = best_threshold(probabilities[known, column], labels[known, column], weights, policy.beta)
    lawful = probabilities[(labels == 0).all(axis=1)]
    odds = np.log(thresholds / (1 - thresholds))
    for shift in np.arange(0.0, 6.5, 0.05):  # far enough to bring LOWEST up to HIGHEST
        moved = np.clip(1 / (1 + np.exp(-(odds + shift))), LOWEST, HIGHEST)
        if not len(lawful) or (lawful >= moved).any(axis=1).mean() <= policy.max_lawful_flagged:
            break
    # Rounded up, because rounding down could reach a lawful row again.
    return {label: float(value) for label, value in zip(ids, np.ceil(moved * 1e4 - 1e-6) / 1e4, strict=True)}


def threshold_table(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int8],
    sources: Sequence[str],
    ids: Sequence[str],
    policies: Mapping[str, Policy],
) -> dict[str, dict[str, float]]:
    """Thresholds of every policy, by policy name."""
    return {name: choose_thresholds(probabilities, labels, sources, ids, policy) for name, policy in policies.items()}
