"""What the matrices of an encoder are fed: the range of every input channel, on texts like those to come."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fineline.encoding import Window, collate
from fineline_training.examples import length_batches
from fineline_training.model import SafetyModel

_BATCH_TOKENS = 2048


@dataclass(frozen=True, kw_only=True, eq=False)
class Range:
    """Lowest and highest value of each input channel of a matrix, float32, shape (channels,)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def magnitude(self) -> NDArray[np.float32]:
        """Largest absolute value of each channel."""
        return np.maximum(self.high, -self.low)

    def at(self, channels: NDArray[np.int64]) -> "Range":
        """The range of some channels."""
        return Range(low=self.low[channels], high=self.high[channels])


class _Observer:
    """Hooks on matrices; what padding holds is left out."""

    def __init__(self) -> None:
        self.found: dict[str, Range] = {}
        self.mask = torch.ones(0)

    def see(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tokens = inputs[0].detach()[self.mask.bool()]
        low, high = (x.float().numpy() for x in (tokens.amin(dim=0), tokens.amax(dim=0)))
        if known := self.found.get(name):
            low, high = np.minimum(low, known.low), np.maximum(high, known.high)
        self.found[name] = Range(low=low, high=high)


@torch.inference_mode()
def observe(model: SafetyModel, windows: Sequence[Window], pad: int) -> dict[str, Range]:
    """Run windows through the encoder.

    Args:
        model: The trained model, on the CPU.
        windows: Windows of training texts; development texts would make their own scores look exact.
        pad: Id of the padding token.

    Returns:
        The input range of every matrix of the encoder, by the name of its module.
    """
    model.eval()
    observer = _Observer()
    matrices = [(name, module) for name, module in model.encoder.named_modules() if isinstance(module, nn.Linear)]
    hooks = [module.register_forward_pre_hook(partial(observer.see, name)) for name, module in matrices]
    try:
        for rows in length_batches([len(window.ids) for window in windows], tokens=_BATCH_TOKENS):
            batch = {k: torch.from_numpy(v) for k, v in collate([windows[i] for i in rows], pad).items()}
            observer.mask = batch["attention_mask"]
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return observer.found
