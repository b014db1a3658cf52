"""The training loop: accelerate, bf16 where it pays, length-sorted batches, checkpoints that resume exactly.

Everything random is a function of the seed and the position (epoch, step) except dropout, whose generator state is
saved with the checkpoint. The learning rate is a function of the position alone. So a run that was killed and resumed
ends in the same weights as one that was not.
"""

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from fineline.encoding import Encoder
from fineline.files import replacing
from fineline_training.examples import Examples, encode_records, epoch_batches, to_tensors
from fineline_training.mixture import Mixture
from fineline_training.model import SafetyModel, masked_loss, pair_loss
from fineline_training.recipe import FitSpec
from fineline_training.records import Record

CHECKPOINT = "checkpoint.pt"
_FLOOR = 0.1
"""Share of the peak rate that the cosine ends at."""


@dataclass(kw_only=True)
class Position:
    """Where a run stands: the next step to take."""

    epoch: int = 0
    step: int = 0


def rate_factor(done: float, warmup: float) -> float:
    """Factor on the peak learning rate after a share ``done`` of the run: linear warm-up, then cosine to a tenth."""
    if done < warmup:
        return done / warmup
    return _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))


def _optimizer(model: SafetyModel, spec: FitSpec) -> torch.optim.AdamW:
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


class Fit:
    """One training run in a folder.

    Args:
        model: Model with the backbone's weights.
        encoder: Text encoder with the run's window.
        label_ids: Output order.
        mixture: Draws the rows of each epoch.
        spec: Optimisation settings.
        seed: Seed of batch order and dropout.
        folder: Where the checkpoint and the log go.
        dev: Rows whose loss is logged after each epoch.
        on_step: Called after each step with the position, for tests.
    """

    def __init__(
        self,
        *,
        model: SafetyModel,
        encoder: Encoder,
        label_ids: tuple[str, ...],
        mixture: Mixture,
        spec: FitSpec,
        seed: int,
        folder: Path,
        dev: list[Record],
        on_step: Callable[[Position], None] | None = None,
    ) -> None:
        self.spec, self.seed, self.folder, self.mixture = spec, seed, folder, mixture
        self.encoder, self.label_ids, self.dev, self.on_step = encoder, label_ids, dev, on_step
        torch.manual_seed(seed)
        random.seed(seed)
        torch.set_flush_denormal(True)
        if spec.freeze_words:
            model.words.weight.requires_grad_(False)
        self.accelerator = Accelerator(
            mixed_precision="bf16" if spec.precision == "bf16" else "no", cpu=not torch.cuda.is_available()
        )
        self._attention = model.encoder.config._attn_implementation
        if self.accelerator.device.type == "cpu":
            # The backward pass of fused attention takes two fifths of a step on CPUs; plain attention 1.7 times less
            # time a step (training/LOG.md).
            model.encoder.set_attn_implementation("eager")
        optimizer = _optimizer(model, spec)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.position = Position()
        self.seconds = 0.0
        self._clock = time.monotonic()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    def resume(self) -> bool:
        """Continue from the last checkpoint; false when there is none."""
        if not self._checkpoint.is_file():
            return False
        state = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        load_trainable_state(self.accelerator.unwrap_model(self.model), state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        self.position = Position(epoch=state["epoch"], step=state["step"])
        self.seconds = state["seconds"]
        return True

    def save(self) -> None:
        """Write the checkpoint; a kill leaves the previous one or this one."""
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        if not self.accelerator.is_main_process:
            return
        with replacing(self._checkpoint) as file:
            torch.save(
                {
                    "model": trainable_state(self.accelerator.unwrap_model(self.model)),
                    "optimizer": self.optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                    "epoch": self.position.epoch,
                    "step": self.position.step,
                    "seconds": self.seconds,
                },
                file,
            )

    def run(self) -> SafetyModel:
        """Train to the end and return the model."""
        self._clock = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, disable=not self.accelerator.is_main_process, refresh_per_second=1) as progress:
            task = progress.add_task("training", total=float(self.spec.epochs), completed=self.position.epoch, note="")
            while self.position.epoch < self.spec.epochs:
                self._epoch(progress, task)
                self.position = Position(epoch=self.position.epoch + 1)
                self.save()
        model: SafetyModel = self.accelerator.unwrap_model(self.model)
        model.encoder.set_attn_implementation(self._attention)
        return model.eval()

    def _epoch(self, progress: Progress, task: Any) -> None:
        epoch = self.position.epoch
        examples = encode_records(self.mixture.epoch(epoch), self.encoder, self.label_ids)
        plan = epoch_batches(examples, tokens=self.spec.batch_tokens, seed=f"{self.seed}/{epoch}")
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        plan = plan[: len(plan) // world * world] or plan * world
        sizes = np.cumsum([0, *(len(b) * max(examples.lengths[i] for i in b) for b in plan)]) if plan else np.zeros(1)
        saved = shown = time.monotonic()
        losses: list[float] = []
        steps = len(plan) // world
        self.model.train()
        while self.position.step < steps:
            step = self.position.step
            done = (epoch + step / steps) / self.spec.epochs
            losses.append(self._step(examples, plan[step * world + rank], done))
            self.position.step += 1
            if self.on_step:
                self.on_step(self.position)
            now = time.monotonic()
            if now - shown > 1 or self.position.step == steps:
                # Progress counts padded tokens, which cost the time, so the estimate does not jump with row length.
                share = float(sizes[self.position.step * world] / sizes[-1])
                note = f"epoch {epoch + 1}/{self.spec.epochs} loss {np.mean(losses[-50:]):.4f}"
                progress.update(task, completed=epoch + share, note=note)
                shown = now
            if now - saved > 60 * self.spec.checkpoint_minutes:
                self.save()
                saved = now
            if self.position.step % 100 == 0 or self.position.step == steps:
                self._log({"epoch": epoch, "step": self.position.step, "steps": steps, "loss": np.mean(losses[-100:])})
        self._log({"epoch": epoch, "dev_loss": self._dev_loss()})

    def _step(self, examples: Examples, rows: list[int], done: float) -> float:
        batch = to_tensors(examples, rows, self.encoder.pad)
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(done, self.spec.warmup)
        with self.accelerator.autocast():
            logits = self.model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        loss = masked_loss(logits.float(), batch["labels"], batch["any_of"])
        if self.spec.pair_weight:
            loss = loss + self.spec.pair_weight * pair_loss(logits.float(), batch["labels"], batch["pairs"])
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _dev_loss(self) -> float:
        """Mean masked loss a row on the development rows, without touching the random state."""
        if not self.dev:
            return float("nan")
        model: SafetyModel = self.accelerator.unwrap_model(self.model)
        examples = encode_records(self.dev, self.encoder, self.label_ids)
        with self.accelerator.autocast():
            logits = predict(model, examples, pad=self.encoder.pad, tokens=4 * self.spec.batch_tokens)
        loss = masked_loss(
            torch.from_numpy(logits), torch.from_numpy(examples.labels), torch.from_numpy(examples.any_of)
        )
        return float(loss)

    def _log(self, row: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "fit.jsonl").open("a", encoding="utf-8") as file:
            numbers = {key: round(float(value), 5) if isinstance(value, float) else value for key, value in row.items()}
            file.write(json.dumps(numbers) + "\n")


@torch.inference_mode()
def predict(model: SafetyModel, examples: Examples, *, pad: int, tokens: int = 8192) -> NDArray[np.float32]:
    """Logits of encoded rows, float32, shape (rows, labels), in row order."""
    model.eval()
    device = next(model.parameters()).device
    logits = np.zeros((len(examples), model.head.out_features), dtype=np.float32)
    for rows in epoch_batches(examples, tokens=tokens, seed="predict"):
        batch = to_tensors(examples, rows, pad)
        inputs = [batch[name].to(device) for name in ("input_ids", "attention_mask", "token_type_ids")]
        logits[rows] = model(*inputs).float().cpu().numpy()
    return logits
