"""Confident learning: which votes a model that has not seen them finds hard to believe.

Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", as cleanlab computes it, one
label at a time. The probabilities come from a linear classifier on the served model's features, fitted on the other
folds: it takes seconds, and it has not learned the errors by heart as a fine-tuned model would have.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fineline.calibration import calibrated
from fineline_training.calibrate import fit_platt

FOLDS = 5
LEAST = 10
"""Rows of each class below which a label's errors cannot be told from its rare cases."""
_STRENGTH = 0.001
"""Inverse of the ridge penalty, strong because a few hundred rows meet a thousand features."""


class Doubt(NamedTuple):
    """One vote and how far it is to be believed.

    Attributes:
        row: Its place in the arrays.
        probability: Of a yes, as the other folds predict it.
        quality: cleanlab's score of the given label, 0 to 1; a low one is doubtful.
        issue: Whether cleanlab counts it among the errors it estimates.
    """

    row: int
    probability: float
    quality: float
    issue: bool


def cross_predict(
    features: NDArray[np.float32], truth: NDArray[np.int8], *, folds: int = FOLDS, seed: int = 0
) -> NDArray[np.float64]:
    """Probability of a yes for each row from a classifier that was fitted on the other folds.

    Args:
        features: Shape (rows, features).
        truth: 0 or 1, shape (rows,); each class has at least ``folds`` rows.
        folds: Parts the rows are cut into.
        seed: Seed of the cut.
    """
    logits = np.empty(len(truth), dtype=np.float32)
    cut = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    for fitted, judged in cut.split(features, truth):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=2000))
        logits[judged] = model.fit(features[fitted], truth[fitted]).decision_function(features[judged])
    # The strong penalty draws all logits to zero; how far apart the classes are decides what cleanlab calls an error.
    return calibrated(logits[:, None].astype(np.float32), [fit_platt(logits.astype(np.float64), truth)])[:, 0]


def rank_doubts(truth: NDArray[np.int8], probabilities: NDArray[np.float64]) -> list[Doubt]:
    """All rows, the most doubtful first: the errors that cleanlab estimates, then the others, each by quality.

    Args:
        truth: 0 or 1, shape (rows,), both classes present.
        probabilities: Of a yes, from ``cross_predict``, shape (rows,).
    """
    given = truth.astype(np.int64)
    both = np.stack([1 - probabilities, probabilities], axis=1)
    # Adjusted for how confident the model is of each class: else every yes of a rare label would rank above any no.
    quality = get_label_quality_scores(given, both, adjust_pred_probs=True)
    issues = find_label_issues(given, both, n_jobs=1)
    doubts = [
        Doubt(row, float(probabilities[row]), float(quality[row]), bool(issues[row])) for row in range(len(given))
    ]
    return sorted(doubts, key=lambda doubt: (not doubt.issue, doubt.quality, doubt.row))


def too_few(truth: Sequence[int] | NDArray[np.int8]) -> bool:
    """Whether one class has too few rows for its errors to be told."""
    yes = int(np.sum(truth))
    return min(yes, len(truth) - yes) < LEAST
