"""How far the exported artefacts are from the trained model, per language, on logits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fineline.errors import DataError

FP32_TOLERANCE = 2e-3
"""fp32 ONNX against torch fp32: other kernels and orders of summation, nothing else."""
INT8_MEAN_TOLERANCE = 0.1
"""Mean absolute difference of int8 against torch, in logits."""
INT8_LEAST_ROWS = 8
"""Rows that a mean needs to be held to that: one row in nine of a good artefact is beyond it alone."""
FP16_TOLERANCE = 0.05
"""Largest difference of fp16 against torch fp32, in logits, as the CPU computes it."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Difference in logits of an artefact against torch on one language."""

    lang: str
    rows: int
    mean: float
    worst: float


def gaps(reference: NDArray[np.float32], found: NDArray[np.float32], langs: Sequence[str]) -> list[Gap]:
    """Absolute differences by language, both inputs of shape (rows, labels)."""
    difference = np.abs(reference - found)
    rows = np.array(langs)
    return [
        Gap(
            lang=lang,
            rows=int((rows == lang).sum()),
            mean=round(float(difference[rows == lang].mean()), 5),
            worst=round(float(difference[rows == lang].max()), 5),
        )
        for lang in sorted(set(langs))
    ]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Rows of one language on which int8 and fp32 flag the same labels, under the same calibration and thresholds."""

    lang: str
    rows: int
    same: float


def agreements(
    fp32: NDArray[np.float64], int8: NDArray[np.float64], thresholds: NDArray[np.float64], langs: Sequence[str]
) -> list[Agreement]:
    """Share of rows with equal flags by language; probabilities of shape (rows, labels), thresholds of (labels,)."""
    same = ((fp32 >= thresholds) == (int8 >= thresholds)).all(axis=1)
    rows = np.array(langs)
    return [
        Agreement(lang=lang, rows=int((rows == lang).sum()), same=round(float(same[rows == lang].mean()), 4))
        for lang in sorted(set(langs))
    ]


def check_fp16(
    torch_logits: NDArray[np.float32], fp16_logits: NDArray[np.float32], langs: Sequence[str]
) -> dict[str, Any]:
    """Compare the fp16 artefact with torch.

    Returns:
        Plain data for the manifest.

    Raises:
        DataError: It is outside its tolerance.
    """
    found = gaps(torch_logits, fp16_logits, langs)
    for gap in found:
        if not gap.worst <= FP16_TOLERANCE:
            raise DataError("parity_fp16", f"fp16 ONNX differs from torch by {gap.worst} in '{gap.lang}'.")
    return {"fp16_tolerance": FP16_TOLERANCE, "fp16": [asdict(gap) for gap in found]}


def check_parity(
    torch_logits: NDArray[np.float32],
    fp32_logits: NDArray[np.float32],
    int8_logits: NDArray[np.float32],
    langs: Sequence[str],
    int8_alone: NDArray[np.float32],
) -> dict[str, Any]:
    """Compare both artefacts with torch, and int8 in a batch with int8 alone.

    The scales of activations are fixed or a block's own, so neighbours should not matter. A language of a few rows is
    held to the mean over all.

    Returns:
        Plain data for the run's report.

    Raises:
        DataError: An artefact is outside its tolerance.
    """
    fp32, int8 = gaps(torch_logits, fp32_logits, langs), gaps(torch_logits, int8_logits, langs)
    for gap in fp32:
        if not gap.worst <= FP32_TOLERANCE:
            raise DataError("parity_fp32", f"fp32 ONNX differs from torch by {gap.worst} in '{gap.lang}'.")
    for gap in (*int8, *gaps(torch_logits, int8_logits, ["all"] * len(langs))):
        if gap.rows >= INT8_LEAST_ROWS and not gap.mean <= INT8_MEAN_TOLERANCE:
            raise DataError("parity_int8", f"int8 differs from torch by {gap.mean} on average in '{gap.lang}'.")
    return {
        "fp32_tolerance": FP32_TOLERANCE,
        "int8_mean_tolerance": INT8_MEAN_TOLERANCE,
        "fp32": [asdict(gap) for gap in fp32],
        "int8": [asdict(gap) for gap in int8],
        "int8_alone_worst": round(float(np.abs(int8_logits - int8_alone).max()), 4),
    }
