"""What the bundle that a run goes on from says of the rows of every epoch: computed once, before training, and kept.

Where a team's row does not know a label, the bundle's score stands in; on rows of the original mixture it is the anchor
that all its labels are held to. Scores are those of the served artefact on the same window that is trained on.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fineline.bundle import MODEL, Bundle
from fineline.encoding import Encoder
from fineline.engine import Engine
from fineline.files import replacing
from fineline_training.examples import first_windows
from fineline_training.records import Record

_CHUNK = 512


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"teacher-{epoch}.npy"


def write_teacher(bundle: Bundle, encoder: Encoder, epochs: Sequence[Sequence[Record]], folder: Path) -> None:
    """Score the rows of all epochs, each text once.

    Args:
        bundle: The bundle that the run goes on from.
        encoder: Its encoder.
        epochs: Rows of each epoch, as the mixture draws them.
        folder: Where the logits go, a file an epoch.
    """
    unique = list({(row.text, row.context): row for epoch in epochs for row in epoch}.values())
    places = {(row.text, row.context): place for place, row in enumerate(unique)}
    engine = Engine(bundle.path / MODEL, pad=encoder.pad)
    logits = np.empty((len(unique), engine.outputs), dtype=np.float32)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("scores of the bundle", total=len(unique))
        for low in range(0, len(unique), _CHUNK):
            part = unique[low : low + _CHUNK]
            logits[low : low + len(part)] = engine.logits(first_windows(part, encoder))
            progress.advance(task, len(part))
    for number, epoch in enumerate(epochs):
        with replacing(_file(folder, number)) as file:
            np.save(file, logits[[places[row.text, row.context] for row in epoch]])


class Teacher:
    """Reads what ``write_teacher`` wrote.

    Args:
        folder: Where it was written.
        ids: Labels of the model in training; those of the bundle come first.
        team: Source whose rows are held to the bundle only on labels that they do not know.
        free: Labels that are defined anew, and held to nothing.
    """

    def __init__(self, folder: Path, ids: Sequence[str], *, team: str, free: Collection[str]) -> None:
        self._folder, self._ids, self._team = folder, list(ids), team
        self._free = [self._ids.index(label) for label in free]

    def __call__(self, epoch: int, rows: Sequence[Record]) -> NDArray[np.float32]:
        """Logits to stay near, float32, shape (rows, labels), NaN where there are none."""
        known = np.load(_file(self._folder, epoch))
        wanted = np.full((len(rows), len(self._ids)), np.nan, dtype=np.float32)
        wanted[:, : known.shape[1]] = known
        wanted[:, self._free] = np.nan
        for place, row in enumerate(rows):
            if row.source == self._team:
                wanted[place, [self._ids.index(label) for label in {*row.labels, *row.soft, *row.any_of}]] = np.nan
        return wanted
