"""Records to padded tensors."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fineline.encoding import Encoder, Window, collate
from fineline_training.arrays import targets
from fineline_training.records import Record

_CHUNK = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Encoded rows.

    Attributes:
        windows: First window of each row.
        labels: float32, shape (rows, labels); 1, 0, the share of annotators who said yes, or -1 for unknown.
        any_of: bool, shape (rows, labels); grounds of which at least one holds, where that is all a row knows.
        pairs: int64, shape (rows,); rows of one contrast set share a number, -1 for rows outside any.
        teacher: float32, shape (rows, labels); logits to stay near, NaN where there are none.
    """

    windows: list[Window]
    labels: NDArray[np.float32]
    any_of: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    teacher: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.windows)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens a row."""
        return [len(window.ids) for window in self.windows]


def first_windows(records: Sequence[Record], encoder: Encoder) -> list[Window]:
    """The first window of each record, which stands for it in training."""
    windows: list[Window] = []
    for low in range(0, len(records), _CHUNK):
        chunk = records[low : low + _CHUNK]
        windows += [row[0] for row in encoder.encode([r.text for r in chunk], [r.context for r in chunk])]
    return windows


def encode_records(records: Sequence[Record], encoder: Encoder, ids: Sequence[str]) -> Examples:
    """Encode records; a row longer than a window is represented by its first window."""
    windows = first_windows(records, encoder)
    labels, any_of = targets(records, ids)
    numbers: dict[str, int] = {"": -1}
    pairs = np.array([numbers.setdefault(record.pair, len(numbers)) for record in records], dtype=np.int64)
    return Examples(windows=windows, labels=labels, any_of=any_of, pairs=pairs)


def length_batches(lengths: Sequence[int], *, tokens: int) -> list[list[int]]:
    """Group indices of similar length so that a padded batch holds at most ``tokens`` tokens (at least one row)."""
    batches: list[list[int]] = []
    current: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if current and (len(current) + 1) * lengths[index] > tokens:
            batches.append(current)
            current = []
        current.append(index)
    return [*batches, current] if current else batches


def epoch_batches(examples: Examples, *, tokens: int, seed: str) -> list[list[int]]:
    """Batches of similar length, in random order; the same seed gives the same plan.

    Rows of one contrast set stay together, as long as they fit: the pair loss compares them.
    """
    units: dict[int, list[int]] = defaultdict(list)
    for row, pair in enumerate(examples.pairs.tolist()):
        units[pair if pair >= 0 else -1 - row].append(row)
    longest = {key: max(examples.lengths[row] for row in unit) for key, unit in units.items()}
    batches: list[list[int]] = []
    current: list[int] = []
    for key in sorted(units, key=lambda key: (longest[key], units[key][0])):
        unit = units[key]
        if (len(current) + len(unit)) * longest[key] > tokens and current:
            batches.append(current)
            current = []
        if len(unit) * longest[key] > tokens:
            alone = [examples.lengths[row] for row in unit]
            batches += [[unit[place] for place in places] for places in length_batches(alone, tokens=tokens)]
        else:
            current = [*current, *unit]
    batches += [current] if current else []
    random.Random(seed).shuffle(batches)
    return batches


def to_tensors(examples: Examples, rows: Sequence[int], pad: int) -> dict[str, torch.Tensor]:
    """Tensors of one batch: the model's three inputs, ``labels``, ``any_of``, ``pairs``, and ``teacher`` if any."""
    inputs = collate([examples.windows[row] for row in rows], pad)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    tensors["labels"] = torch.from_numpy(examples.labels[list(rows)])
    tensors["any_of"] = torch.from_numpy(examples.any_of[list(rows)])
    tensors["pairs"] = torch.from_numpy(examples.pairs[list(rows)])
    if examples.teacher is not None:
        tensors["teacher"] = torch.from_numpy(examples.teacher[list(rows)])
    return tensors
