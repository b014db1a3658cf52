"""A matrix product in int8 with scales fixed at export, so that no text's scores depend on its neighbours.

Some channels of a transformer are tens of times larger than the rest, and one scale for all would leave the rest a few
levels. So large channels are divided and their weights multiplied by the same number, which changes no product (Xiao et
al. 2023, "SmoothQuant", eq. 4), and after that one scale fits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fineline_training.ranges import Range

STRENGTH = 0.8
"""SmoothQuant's alpha: 0 leaves the activations as they are, 1 makes all channels equally large. By experiment
(training/LOG.md)."""

_SMALLEST = 1e-3
"""Channels that were never seen above this are treated as if they had been."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
    """How activations become levels 0 to 255: ``x / divisor / scale + zero``, rounded and clipped.

    Attributes:
        divisor: float32, shape (channels,).
        scale: Of the divided activations.
        zero: Level of an activation of 0.
    """

    divisor: NDArray[np.float32]
    scale: np.float32
    zero: np.uint8


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8Weights:
    """Weights in 255 levels a column.

    Attributes:
        levels: int8, shape (inputs, outputs).
        steps: Weight that a level stands for, float32, shape (outputs,).
    """

    levels: NDArray[np.int8]
    steps: NDArray[np.float32]


def divisors(weight: NDArray[np.float32], seen: Range) -> NDArray[np.float32]:
    """What each channel of the input is divided by.

    Args:
        weight: Shape (inputs, outputs).
        seen: Range of each input.

    Returns:
        float32, shape (inputs,); their geometric mean is 1.
    """
    large = np.maximum(seen.magnitude, _SMALLEST)
    weights = np.maximum(np.abs(weight).max(axis=1), _SMALLEST)
    raw = STRENGTH * np.log(large) - (1 - STRENGTH) * np.log(weights)
    found: NDArray[np.float32] = np.exp(raw - raw.mean()).astype(np.float32)
    return found


def activation_levels(seen: Range, divisor: NDArray[np.float32]) -> Levels:
    """Fix the levels of a matrix's input.

    Args:
        seen: Range of each channel before the division.
        divisor: From ``divisors``.
    """
    low, high = min(0.0, float((seen.low / divisor).min())), max(0.0, float((seen.high / divisor).max()))
    scale = max(high - low, _SMALLEST) / 255
    return Levels(divisor=divisor, scale=np.float32(scale), zero=np.uint8(round(-low / scale)))


def int8_weights(weight: NDArray[np.float32], divisor: NDArray[np.float32]) -> Int8Weights:
    """Quantise a matrix of shape (inputs, outputs) whose input is divided."""
    scaled = weight * divisor[:, None]
    steps = np.maximum(np.abs(scaled).max(axis=0), 1e-12) / 127
    return Int8Weights(levels=np.rint(scaled / steps).astype(np.int8), steps=steps.astype(np.float32))
