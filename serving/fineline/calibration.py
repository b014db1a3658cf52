"""Logits to probabilities, per label."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LARGEST = 60.0
"""Log-odds beyond it do not change a probability in double precision, and would overflow."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Platt scaling of one label: probability = sigmoid(scale x logit + shift)."""

    scale: float
    shift: float


def calibrated(logits: NDArray[np.float32], entries: Sequence[Calibration]) -> NDArray[np.float64]:
    """Probabilities, float64, of logits of shape (rows, labels); strictly increasing in each logit."""
    scale = np.array([entry.scale for entry in entries])
    shift = np.array([entry.shift for entry in entries])
    return np.asarray(1 / (1 + np.exp(-np.clip(scale * logits + shift, -_LARGEST, _LARGEST))), dtype=np.float64)
