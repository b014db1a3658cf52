"""What a fit moves and how fast: parameter groups, the learning rate over a run, and the parameters that change.

A run may have several cycles of the learning rate, each from warm-up to the end of a cosine, and ends in the mean of
the weights at their ends. Warm restarts leave one good solution for another (Loshchilov and Hutter 2017, "SGDR"), and
the mean of weights that share a start does better on text unlike the training set than any of them (Izmailov et al.
2018, "Averaging Weights Leads to Wider Optima and Better Generalization"; Wortsman et al. 2022, "Model Soups").
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from fineline_training.model import SafetyModel
from fineline_training.recipe import FitSpec

_FLOOR = 0.1
"""Share of the peak rate that the cosine ends at."""


def rate_factor(done: float, warmup: float) -> float:
    """Factor on the peak learning rate after a share ``done`` of the run: linear warm-up, then cosine to a tenth."""
    if done < warmup:
        return done / warmup
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def done_of_cycle(position: float, epochs: int, restarts: Sequence[int]) -> float:
    """Share of its cycle that is done at ``position``, in epochs from the start of the run."""
    for first, end in pairwise((0, *restarts, epochs)):
        if position < end:
            return (position - first) / (end - first)
    return 1.0


def rate_at(position: float, spec: FitSpec) -> float:
    """Share of the peak learning rate at ``position``, in epochs from the start of the run."""
    return rate_factor(done_of_cycle(position, spec.epochs, spec.restarts), spec.warmup)


def mean_state(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of several ``trainable_state``, parameter by parameter; empty where there are none."""
    first = states[0] if states else {}
    return {name: torch.stack([state[name].double() for state in states]).mean(0).to(first[name]) for name in first}


def make_optimizer(model: SafetyModel, spec: FitSpec) -> torch.optim.AdamW:
    """AdamW on what is not frozen, with the rates of encoder and head; vectors do not decay."""
    groups: list[dict[str, Any]] = []
    for part, rate in ((model.encoder, spec.encoder_rate), (model.head, spec.head_rate)):
        weights = [p for p in part.parameters() if p.requires_grad and p.ndim > 1]
        vectors = [p for p in part.parameters() if p.requires_grad and p.ndim <= 1]
        groups.append({"params": weights, "lr": rate, "peak": rate, "weight_decay": spec.weight_decay})
        groups.append({"params": vectors, "lr": rate, "peak": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, fused=True)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters that training changes, by name, on the CPU."""
    return {name: p.detach().cpu() for name, p in model.named_parameters() if p.requires_grad}


def load_trainable_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put ``trainable_state`` back; frozen parameters stay as the backbone gave them."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)
