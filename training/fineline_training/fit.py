"""The training loop: accelerate, bf16 where it pays, length-sorted batches, checkpoints that resume exactly.

Everything random is a function of the seed and the position (epoch, step) except dropout, whose generator state is
saved with the checkpoint. The learning rate is a function of the position alone. So a run that was killed and resumed
ends in the same weights as one that was not. Several processes share every batch, and take the same steps as one.
"""

import json
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fineline.encoding import Encoder
from fineline.files import replacing
from fineline_training.examples import Examples, encode_records, epoch_batches, to_tensors
from fineline_training.mixture import Mixture
from fineline_training.model import SafetyModel, distance, masked_loss, pair_loss
from fineline_training.optimise import load_trainable_state, make_optimizer, mean_state, rate_at, trainable_state
from fineline_training.predict import predict
from fineline_training.recipe import FitSpec
from fineline_training.records import Record
from fineline_training.sharing import draw_for, share_of
from fineline_training.watch import SHARES, Watch

CHECKPOINT = "checkpoint.pt"
LOG = "fit.jsonl"

Teacher = Callable[[int, Sequence[Record], Examples], Examples]
"""An epoch, its rows and their examples to the examples with logits that they should stay near."""


@dataclass(kw_only=True)
class Position:
    """Where a run stands: the next step to take."""

    epoch: int = 0
    step: int = 0


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
        teacher: What the model should stay near, with the weight ``spec.distil_weight``.
        watch: Judges the model several times an epoch and chooses the state that is kept.
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
        teacher: Teacher | None = None,
        watch: Watch | None = None,
        on_step: Callable[[Position], None] | None = None,
    ) -> None:
        self.spec, self.seed, self.folder, self.mixture = spec, seed, folder, mixture
        self.encoder, self.label_ids, self.dev, self.on_step = encoder, label_ids, dev, on_step
        self.teacher, self.watch = teacher, watch
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
        optimizer = make_optimizer(model, spec)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.position = Position()
        self._start = {name: value.clone() for name, value in trainable_state(self._plain).items()} if watch else {}
        self._best: dict[str, torch.Tensor] = {}
        self._ends: list[dict[str, torch.Tensor]] = []
        self._losses: list[float] = []
        self.seconds = 0.0
        self._clock = time.monotonic()

    @property
    def _checkpoint(self) -> Path:
        return self.folder / CHECKPOINT

    @property
    def _plain(self) -> SafetyModel:
        """The model without what several processes wrap around it."""
        model: SafetyModel = self.accelerator.unwrap_model(self.model)
        return model

    def resume(self) -> bool:
        """Continue from the last checkpoint; false when there is none."""
        log = self.folder / LOG
        main = self.accelerator.is_main_process
        if not self._checkpoint.is_file():
            if main:
                log.unlink(missing_ok=True)
            return False
        state = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        load_trainable_state(self._plain, state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        torch.cuda.set_rng_state_all(state["gpu_rng"])
        self.position = Position(epoch=state["epoch"], step=state["step"])
        self._best, self._losses, self.seconds = state["best"], state["losses"], state["seconds"]
        self._ends = state["ends"]
        if self.watch:
            self.watch.restore(state["checks"])
        if main and log.is_file():
            os.truncate(log, state["log"])  # what was logged after the checkpoint is logged again
        return True

    def save(self) -> None:
        """Write the checkpoint; a kill leaves the previous one or this one."""
        now = time.monotonic()
        self.seconds += now - self._clock
        self._clock = now
        if not self.accelerator.is_main_process:
            return
        log = self.folder / LOG
        with replacing(self._checkpoint) as file:
            torch.save(
                {
                    "model": trainable_state(self._plain),
                    "optimizer": self.optimizer.state_dict(),
                    "rng": torch.get_rng_state(),
                    "gpu_rng": torch.cuda.get_rng_state_all(),
                    "epoch": self.position.epoch,
                    "step": self.position.step,
                    "best": self._best,
                    "ends": self._ends,
                    "losses": self._losses,
                    "checks": self.watch.history() if self.watch else [],
                    "log": log.stat().st_size if log.is_file() else 0,
                    "seconds": self.seconds,
                },
                file,
            )

    def run(self) -> SafetyModel:
        """Train to the end, or until the watch sees no more gain, and return the model."""
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
            if self.watch and not self.watch.checks:
                self._check(0.0)
            while self.position.epoch < self.spec.epochs and not (self.watch and self.watch.over):
                self._epoch(progress, task)
                self.position = Position(epoch=self.position.epoch + 1)
                self._losses = []
                if self.spec.restarts and self.position.epoch in (*self.spec.restarts, self.spec.epochs):
                    self._ends.append({name: value.clone() for name, value in trainable_state(self._plain).items()})
                self.save()
        if self.watch and self.watch.best is not self.watch.checks[0]:
            self._go_back(self.watch.best.done)
            self.seconds += time.monotonic() - self._clock
        load_trainable_state(self._plain, self._best or mean_state(self._ends))
        self._plain.encoder.set_attn_implementation(self._attention)
        return self._plain.eval()

    def _examples(self, epoch: int) -> Examples:
        rows = self.mixture.epoch(epoch)
        examples = encode_records(rows, self.encoder, self.label_ids)
        return self.teacher(epoch, rows, examples) if self.teacher else examples

    def _epoch(self, progress: Progress, task: Any) -> None:
        epoch = self.position.epoch
        examples = self._examples(epoch)
        plan = epoch_batches(examples, tokens=self.spec.batch_tokens, seed=f"{self.seed}/{epoch}")
        sizes = np.cumsum([0, *(len(b) * max(examples.lengths[i] for i in b) for b in plan)])
        saved = shown = time.monotonic()
        steps = len(plan)
        checks = self.watch.places(steps) if self.watch else ()
        self.model.train()
        while self.position.step < steps:
            step = self.position.step
            rate = rate_at(epoch + step / steps, self.spec)
            self._losses = [*self._losses[-99:], self._step(examples, plan[step], rate)]
            self.position.step += 1
            now = time.monotonic()
            if now - shown > 1 or self.position.step == steps:
                # Progress counts padded tokens, which cost the time, so the estimate does not jump with row length.
                share = float(sizes[self.position.step] / sizes[-1])
                note = f"epoch {epoch + 1}/{self.spec.epochs} loss {np.mean(self._losses[-50:]):.4f}"
                progress.update(task, completed=epoch + share, note=note)
                shown = now
            if self.position.step % 100 == 0 or self.position.step == steps:
                self._log({"epoch": epoch, "step": self.position.step, "steps": steps, "loss": np.mean(self._losses)})
            if self.watch and self.position.step in checks:
                self._check(epoch + self.position.step / steps)
                if self.watch.over:
                    return
            # Last, because going on from a checkpoint must not skip anything of its step.
            if now - saved > 60 * self.spec.checkpoint_minutes:
                self.save()
                saved = now
            if self.on_step:
                self.on_step(self.position)
        if self.dev:
            self._log({"epoch": epoch, "dev_loss": self._dev_loss()})

    def _step(self, examples: Examples, rows: list[int], rate: float) -> float:
        """One step on a batch at a share of the peak learning rate; returns its loss."""
        processes = self.accelerator.num_processes
        share = share_of(examples.pairs[rows], processes, self.accelerator.process_index)
        if processes > 1:
            draw_for(self._plain, len(rows), max(examples.lengths[row] for row in rows), share.places)
        batch = to_tensors(examples, [rows[place] for place in share.places], self.encoder.pad)
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        with self.accelerator.autocast():
            logits = self.model(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
        loss = share.weight * self._loss(logits.float(), batch)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(self.accelerator.reduce(loss.detach(), reduction="mean"))

    def _loss(self, logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean over the rows of all that the recipe asks for."""
        loss = masked_loss(logits, batch["labels"], batch["any_of"])
        if self.spec.pair_weight:
            loss = loss + self.spec.pair_weight * pair_loss(logits, batch["labels"], batch["pairs"])
        if "teacher" in batch:
            loss = loss + self.spec.distil_weight * distance(logits, batch["teacher"])
        return loss

    def _predict(self, examples: Examples) -> NDArray[np.float32]:
        """Logits of the model as it is, without touching the random state."""
        with self.accelerator.autocast():
            logits = predict(self._plain, examples, pad=self.encoder.pad, tokens=4 * self.spec.batch_tokens)
        self.model.train()
        return logits

    def _dev_loss(self) -> float:
        """Mean masked loss a row on the development rows."""
        examples = encode_records(self.dev, self.encoder, self.label_ids)
        logits = torch.from_numpy(self._predict(examples))
        return float(masked_loss(logits, torch.from_numpy(examples.labels), torch.from_numpy(examples.any_of)))

    def _go_back(self, done: float) -> None:
        """Let the watch judge what lies between the beginning and the best state, the nearest to the beginning first.

        Weights between a model and its fine-tuned form keep nearly all of what the form learned, and more of what the
        model could do (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). The head stays as trained: what
        moved of it are outputs that the beginning did not have, or not with this meaning.
        """
        end = self._best
        for share in SHARES:
            mixed = {
                name: torch.lerp(self._start[name], value, share) if name.startswith("encoder.") else value
                for name, value in end.items()
            }
            load_trainable_state(self._plain, mixed)
            self._check(done, share)
            if self._best is not end:
                return

    def _check(self, done: float, share: float = 1.0) -> None:
        """Let the watch judge the model, and remember the best state.

        The main process judges and tells the others: on machines that differ, they might come to another verdict.
        """
        assert self.watch is not None
        main = self.accelerator.is_main_process
        found = [self.watch.measure(done, self._predict(self.watch.examples), share) if main else None]
        broadcast_object_list(found)
        check = found[0]
        assert check is not None
        if self.watch.note(check):
            self._best = {name: value.clone() for name, value in trainable_state(self._plain).items()}
        self._log(asdict(check))

    def _log(self, row: dict[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            numbers = {key: round(float(value), 5) if isinstance(value, float) else value for key, value in row.items()}
            file.write(json.dumps(numbers) + "\n")
