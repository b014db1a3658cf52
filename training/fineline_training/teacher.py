"""What other models say of the rows of every epoch: computed once, before training, and kept.

A run that goes on from a bundle is held to it: where a team's row does not know a label, the bundle's score stands in,
and on rows of the original mixture it stands in for all labels. A run with teachers learns from their mean beside what
its rows know. Scores are those of the served artefacts on the same window that is trained on.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fineline.encoding import Encoder
from fineline.engine import Engine
from fineline.files import replacing
from fineline_training.examples import Examples, first_windows
from fineline_training.records import Record

_CHUNK = 512


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"teacher-{epoch}.npy"


def write_teacher(models: Sequence[Path], encoder: Encoder, epochs: Sequence[Sequence[Record]], folder: Path) -> None:
    """Score the rows of all epochs, each text once.

    Args:
        models: ONNX files with the same outputs; the mean of their logits is kept.
        encoder: Their encoder.
        epochs: Rows of each epoch, as the mixture draws them.
        folder: Where the logits go, a file an epoch.
    """
    unique = list({(row.text, row.context): row for epoch in epochs for row in epoch}.values())
    places = {(row.text, row.context): place for place, row in enumerate(unique)}
    engines = [Engine(model, pad=encoder.pad) for model in models]
    logits = np.empty((len(unique), engines[0].outputs), dtype=np.float32)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("scores of the teacher", total=len(unique))
        for low in range(0, len(unique), _CHUNK):
            part = unique[low : low + _CHUNK]
            windows = first_windows(part, encoder)
            logits[low : low + len(part)] = np.mean([engine.logits(windows) for engine in engines], axis=0)
            progress.advance(task, len(part))
    for number, epoch in enumerate(epochs):
        with replacing(_file(folder, number)) as file:
            np.save(file, logits[[places[row.text, row.context] for row in epoch]])


class Ensemble:
    """Shows a run what its teachers say of each row, beside what the row knows.

    What a row knows stays, because a teacher that was trained on the row has nothing to correct in it; where it knows
    nothing, the teachers' mean is all there is to learn.

    Args:
        folder: Where ``write_teacher`` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, epoch: int, rows: Sequence[Record], examples: Examples) -> Examples:
        """The examples of an epoch's rows with the teachers' logits."""
        return replace(examples, teacher=np.load(_file(self._folder, epoch)))


class Anchor:
    """Holds a run to the bundle that it goes on from.

    Args:
        folder: Where ``write_teacher`` wrote.
        ids: Labels of the model in training; those of the bundle come first.
        team: Source whose rows are held to the bundle only on labels that they do not know.
        free: Labels that are defined anew, and held to nothing.
    """

    def __init__(self, folder: Path, ids: Sequence[str], *, team: str, free: Collection[str]) -> None:
        self._folder, self._ids, self._team = folder, list(ids), team
        self._free = [self._ids.index(label) for label in free]

    def __call__(self, epoch: int, rows: Sequence[Record], examples: Examples) -> Examples:
        """The examples of an epoch's rows with the bundle's logits.

        What the bundle is asked about is not asked of the row: the two would pull apart.
        """
        teacher = self.logits(epoch, rows)
        asked = ~np.isnan(teacher)
        labels = np.where(asked, np.float32(-1), examples.labels)
        # Half a set would say that its other label holds.
        open_sets = ~(examples.any_of & asked).any(axis=1, keepdims=True)
        return replace(examples, teacher=teacher, labels=labels, any_of=examples.any_of & open_sets)

    def logits(self, epoch: int, rows: Sequence[Record]) -> NDArray[np.float32]:
        """Logits to stay near, float32, shape (rows, labels), NaN where there are none."""
        known = np.load(_file(self._folder, epoch))
        wanted = np.full((len(rows), len(self._ids)), np.nan, dtype=np.float32)
        wanted[:, : known.shape[1]] = known
        wanted[:, self._free] = np.nan
        for place, row in enumerate(rows):
            if row.source == self._team:
                wanted[place, [self._ids.index(label) for label in {*row.labels, *row.soft, *row.any_of}]] = np.nan
        return wanted
