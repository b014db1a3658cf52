"""Logits to probabilities and thresholds, on development rows and on the artefact that is served.

Calibration is Platt scaling per label (Platt 1999): ``p = sigmoid(scale x logit + shift)`` with a mild pull towards the
identity, so that a label with few development rows is not bent by them. Every row counts once: a weight a source would
let the few rows of a small one, all of them positive for a label, set the scale of that label (training/LOG.md).
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from fineline.calibration import Calibration
from fineline.policy import Policy

PULL = 2.0
"""Weight, in rows, of the pull of scale towards 1 and shift towards 0."""
LOWEST, HIGHEST = 0.05, 0.97
"""Thresholds stay inside this range: outside it a few development rows would decide."""
LEAST_BETA, HALVINGS = 1 / 64, 24
"""Smallest beta tried, as a share of the policy's, and how often the interval to it is halved."""


def fit_platt(logits: NDArray[np.float64], truth: NDArray[np.int8]) -> Calibration:
    """Fit one label on its known rows, each shape (rows,); the identity where only one class is present."""
    if len(set(truth.tolist())) < 2:
        return Calibration(scale=1.0, shift=0.0)
    signs = np.where(truth == 1, 1.0, -1.0)

    def loss(parameters: NDArray[np.float64]) -> float:
        scale, shift = np.exp(parameters[0]), parameters[1]
        rows = np.logaddexp(0, -signs * (scale * logits + shift))
        return float(rows.sum() + PULL * (parameters[0] ** 2 + parameters[1] ** 2))

    best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-5, "fatol": 1e-7}).x
    return Calibration(scale=round(float(np.exp(best[0])), 6), shift=round(float(best[1]), 6))


def calibrate(logits: NDArray[np.float32], labels: NDArray[np.int8], ids: Sequence[str]) -> dict[str, Calibration]:
    """Calibrate every label on the rows that know it.

    Args:
        logits: Shape (rows, labels), from the artefact that will be served.
        labels: Shape (rows, labels); 1, 0, or -1 for unknown.
        ids: Label ids in column order.
    """
    fitted = {}
    for column, label in enumerate(ids):
        known = labels[:, column] >= 0
        fitted[label] = fit_platt(logits[known, column].astype(np.float64), labels[known, column])
    return fitted


def best_threshold(probabilities: NDArray[np.float64], truth: NDArray[np.int8], beta: float) -> float:
    """Threshold with the highest expected F-beta on one label's known rows; 0.5 where no row is positive.

    Of calibrated probabilities that is ``F / (1 + beta^2)``, with the highest F-beta ``F`` that any cut reaches (Lipton
    et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure"; Zhao et al. 2013 for any beta). The cut
    itself would do on these rows, but the curve is flat around it: between two artefacts of one model it moved by up to
    1.3 in log-odds (training/LOG.md). It never rises with beta.
    """
    positives = int((truth == 1).sum())
    if not positives:
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    sorted_p = probabilities[order]
    hits = np.cumsum(truth[order] == 1)
    flagged = np.arange(1, len(order) + 1)
    # Only between different scores can a cut stand.
    can_cut = np.append(sorted_p[:-1] > sorted_p[1:], True)
    best = np.max(np.where(can_cut, hits / (flagged + beta**2 * positives), 0.0))
    return float(np.clip(best, LOWEST, HIGHEST))


def choose_thresholds(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int8],
    ids: Sequence[str],
    policy: Policy,
    *,
    counted: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Thresholds of one policy: the best F-beta a label, with one beta for all labels.

    The beta is the policy's, or the largest below it that keeps the share of lawful rows flagged by any label within
    the policy's limit. A common beta asks each label for what it can give: a label that tells acts apart keeps its
    recall, one that cannot is held back. A common shift of all thresholds cost 0.10 of macro-F1 (training/LOG.md).
    Lawful rows are those that are known to break no rule at all.

    Args:
        probabilities: Calibrated, shape (rows, labels).
        labels: Shape (rows, labels); 1, 0, or -1.
        ids: Label ids in column order.
        policy: Its ``beta`` and ``max_lawful_flagged``.
        counted: Rows that count to the share of lawful text, bool, shape (rows,); all where ``None``.

    Returns:
        Threshold by label; ``HIGHEST`` for all where no beta keeps the limit.
    """
    known = [labels[:, column] >= 0 for column in range(len(ids))]
    lawful = probabilities[(labels == 0).all(axis=1) & (True if counted is None else counted)]

    def chosen(share: float) -> NDArray[np.float64]:
        beta = policy.beta * share
        best = [best_threshold(probabilities[k, c], labels[k, c], beta) for c, k in enumerate(known)]
        # Rounded up, because rounding down could reach a lawful row again.
        return np.ceil(np.array(best) * 1e4 - 1e-6) / 1e4

    def keeps(thresholds: NDArray[np.float64]) -> bool:
        flagged = (lawful >= thresholds).any(axis=1)
        return not len(lawful) or bool(flagged.mean() <= policy.max_lawful_flagged)

    thresholds = chosen(1.0)
    if not keeps(thresholds):
        # No threshold rises with beta, so the share of lawful rows flagged does not fall: the interval can be halved.
        # In steps of 7 % of beta, two nearly equal models lay more than a point of recall apart (training/LOG.md).
        low, high, thresholds = LEAST_BETA, 1.0, chosen(LEAST_BETA)
        if not keeps(thresholds):
            thresholds = np.full(len(ids), HIGHEST)
        else:
            for _ in range(HALVINGS):
                middle = float(np.sqrt(low * high))
                found = chosen(middle)
                if keeps(found):
                    low, thresholds = middle, found
                else:
                    high = middle
    return {label: float(value) for label, value in zip(ids, thresholds, strict=True)}


def threshold_table(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int8],
    ids: Sequence[str],
    policies: Mapping[str, Policy],
    *,
    own: Collection[str] = (),
    counted: NDArray[np.bool_] | None = None,
) -> dict[str, dict[str, float]]:
    """Thresholds of every policy, by policy name.

    Labels of a team (``own``) are chosen each for itself: its rows know little but that label, so no row would be known
    to be lawful, and what they flag must not move the thresholds of the others. Their lawful rows are those known not
    to have the label. ``counted`` is that of ``choose_thresholds``.
    """
    columns = [[c for c, label in enumerate(ids) if label not in own]]
    columns += [[c] for c, label in enumerate(ids) if label in own]
    table: dict[str, dict[str, float]] = {}
    for name, policy in policies.items():
        found: dict[str, float] = {}
        for part in filter(None, columns):
            known = (labels[:, part] >= 0).any(axis=1)
            chosen = [ids[c] for c in part]
            found |= choose_thresholds(
                probabilities[known][:, part],
                labels[known][:, part],
                chosen,
                policy,
                counted=None if counted is None else counted[known],
            )
        table[name] = {label: found[label] for label in ids}
    return table
