"""What other models say of the rows of every epoch: computed once, before training, and kept.

A run that goes on from a bundle is held to it: where a team's row does not know a label, the bundle's score stands in,
and on rows of the original mixture it stands in for all labels. A run with teachers learns the mean of their logits
beside what its rows know. Only the window that is trained on is scored.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fineline.errors import DataError
from fineline.files import replacing
from fineline_training.examples import Examples
from fineline_training.records import Record

_CHUNK = 512


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"teacher-{epoch}.npy"


def write_teacher(
    score: Callable[[list[Record]], NDArray[np.float32]], epochs: Sequence[Sequence[Record]], folder: Path
) -> None:
    """Score the rows of all epochs, each text once.

    Args:
        score: Rows to logits, float32, shape (rows, labels).
        epochs: Rows of each epoch, as the mixture draws them.
        folder: Where the logits go, a file an epoch.
    """
    unique = list({(row.text, row.context): row for epoch in epochs for row in epoch}.values())
    places = {(row.text, row.context): place for place, row in enumerate(unique)}
    found = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("scores of the teacher", total=len(unique))
        for low in range(0, len(unique), _CHUNK):
            part = unique[low : low + _CHUNK]
            found.append(score(part))
            progress.advance(task, len(part))
    logits = np.concatenate(found)
    for number, epoch in enumerate(epochs):
        with replacing(_file(folder, number)) as file:
            np.save(file, logits[[places[row.text, row.context] for row in epoch]])


def _read(folder: Path, epoch: int, rows: Sequence[Record]) -> NDArray[np.float32]:
    """What was written of an epoch, float32, shape (rows, labels).

    Raises:
        DataError: It is of other rows.
    """
    logits: NDArray[np.float32] = np.load(_file(folder, epoch))
    if len(logits) != len(rows):
        raise DataError("run_teacher", f"{_file(folder, epoch)} is of other rows: delete data.done.json and run again.")
    return logits


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
        return replace(examples, teacher=_read(self._folder, epoch, rows))


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
        """Logits to stay near, float32, shape (rows, labels), NaN where there are none.

        Raises:
            DataError: What was written is of other rows.
        """
        known = _read(self._folder, epoch, rows)
        wanted = np.full((len(rows), len(self._ids)), np.nan, dtype=np.float32)
        wanted[:, : known.shape[1]] = known
        wanted[:, self._free] = np.nan
        for place, row in enumerate(rows):
            if row.source == self._team:
                wanted[place, [self._ids.index(label) for label in {*row.labels, *row.soft, *row.any_of}]] = np.nan
        return wanted
