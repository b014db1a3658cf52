"""Scores of many rows with progress; kept on disk, so that an evaluation that was stopped goes on where it was."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from fineline import Classifier
from fineline.bundle import MODEL, TOKENIZER
from fineline.files import replacing
from fineline.taxonomy import load_taxonomy
from fineline_training.records import Record

_CHUNK = 256


class Scorer:
    """Scores rows with a classifier.

    Args:
        classifier: The bundle under test.
        cache: Folder for logits, or ``None`` to keep nothing. Only numbers are stored.
        progress: Where progress is shown.
    """

    def __init__(self, classifier: Classifier, cache: Path | None, progress: Progress) -> None:
        self.classifier, self.cache, self._progress = classifier, cache, progress
        meta = classifier.bundle.meta
        # All that logits depend on besides the rows; calibration and thresholds come after them.
        self._bundle = repr((meta.files[MODEL], meta.files[TOKENIZER], meta.window, meta.view, meta.normaliser))
        # Columns of every table here are the shipped labels, whatever labels the bundle has: the suites know no others.
        self.labels = load_taxonomy().ids

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each label under the classifier's policy; infinite for a label that the bundle lacks."""
        given = self.classifier.bundle.meta.thresholds[self.classifier.policy]
        return {label: given.get(label, math.inf) for label in self.labels}

    def probabilities(self, name: str, rows: Sequence[Record]) -> NDArray[np.float64]:
        """Calibrated probabilities in row order, shape (rows, labels); 0 for a label that the bundle lacks."""
        found = self.all_probabilities(name, rows)
        table = np.zeros((len(rows), len(self.labels)))
        for column, label in enumerate(self.labels):
            if label in self.classifier.labels:
                table[:, column] = found[:, self.classifier.labels.index(label)]
        return table

    def all_probabilities(self, name: str, rows: Sequence[Record]) -> NDArray[np.float64]:
        """Calibrated probabilities in row order, columns in the order of the bundle's labels, own ones among them."""
        return self.classifier.probabilities(self._logits(name, rows))

    def _logits(self, name: str, rows: Sequence[Record]) -> NDArray[np.float32]:
        digest = hashlib.sha256(self._bundle.encode())
        for row in rows:
            digest.update(f"{row.text}\x1f{row.context or ''}\x1e".encode("utf-8", "replace"))
        kept = self.cache / f"{name}-{digest.hexdigest()[:16]}.npy" if self.cache else None
        if kept is not None and kept.is_file():
            stored: NDArray[np.float32] = np.load(kept)
            return stored
        task = self._progress.add_task(f"scoring {name}", total=len(rows))
        parts = []
        for low in range(0, len(rows), _CHUNK):
            chunk = rows[low : low + _CHUNK]
            parts.append(self.classifier.logits([row.text for row in chunk], [row.context for row in chunk]))
            self._progress.advance(task, len(chunk))
        logits = np.concatenate(parts) if parts else np.zeros((0, len(self.classifier.labels)), dtype=np.float32)
        if kept is not None:
            with replacing(kept) as file:
                np.save(file, logits)
        return logits

    def reached(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each label reaches its threshold under the classifier's policy, shape (rows, labels)."""
        return np.asarray(probabilities >= np.array(list(self.thresholds.values())), dtype=np.bool_)

    def flags(self, probabilities: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.bool_]:
        """Whether any of the labels is flagged under the classifier's policy, shape (rows,)."""
        columns = [self.labels.index(label) for label in labels]
        return np.asarray(self.reached(probabilities)[:, columns].any(axis=1), dtype=np.bool_)
