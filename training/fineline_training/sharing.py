"""One batch on several processes: who takes which rows, and what makes the sum of their steps the step of one process.

The loss is a mean over the rows of a batch, and gradients are averaged over processes; so each process weighs the mean
over its own rows by its share of them. Then the number of processes changes nothing but the order of sums.
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Share(NamedTuple):
    """What one process takes of a batch.

    Attributes:
        places: Places in the batch, in order; never empty, since every process must take part in every step.
        weight: Factor on its mean loss; 0 where there was no row left for it.
    """

    places: list[int]
    weight: float


def share_of(pairs: NDArray[np.int64], processes: int, process: int) -> Share:
    """The share of a process; rows of one contrast set stay together, because the pair loss compares them.

    Args:
        pairs: Number of each row's contrast set, -1 for none; shape (rows,).
        processes: How many share the batch.
        process: Which of them, from 0.
    """
    units: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, pair in enumerate(pairs.tolist()):
        units[(pair, 0) if pair >= 0 else (-1, place)].append(place)
    shares: list[list[int]] = [[] for _ in range(processes)]
    for unit in units.values():
        min(shares, key=len).extend(unit)
    places = sorted(shares[process])
    return Share(places or [0], len(places) * processes / len(pairs))


class SharedDropout(nn.Dropout):
    """Dropout that is the same for a row wherever the row is computed.

    Every process draws the mask of the whole batch and uses its own rows of it, so the random state stays the same
    everywhere, too. Without ``share`` this is plain dropout.
    """

    share: tuple[int, int, Tensor] | None = None
    """Rows and tokens of the whole batch, and the places of the rows that are here."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Vectors of shape (rows, tokens, hidden), some set to 0."""
        if self.share is None or not self.training:
            return super().forward(hidden)
        rows, tokens, places = self.share
        kept = nn.functional.dropout(hidden.new_ones(rows, tokens, hidden.shape[-1]), self.p)
        return hidden * kept[places, : hidden.shape[1]]


def draw_for(model: nn.Module, rows: int, tokens: int, places: list[int]) -> None:
    """Tell a model's dropout what the whole batch is before its share of it goes through."""
    for module in model.modules():
        if isinstance(module, SharedDropout):
            module.share = (rows, tokens, torch.tensor(places))
