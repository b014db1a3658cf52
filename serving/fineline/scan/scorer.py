"""Shards to scores with one loaded model.

The numbers depend on the shard alone: what shares a batch decides how int8 arithmetic rounds, so batches are made of
the windows of one shard in a fixed order, and one run of the model uses a fixed number of threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fineline.classifier import Classifier
from fineline.encoding import Window
from fineline.scan.documents import Document
from fineline.scan.shards import Shard
from fineline.scan.store import schema

_BLOCK_CHARACTERS, _BLOCK_OVERLAP = 200_000, 2_000
"""Longer texts are encoded in blocks; neighbours share enough for what a window would have seen across the border."""

_CHUNK_TEXTS = 256
"""Encoded at once, with at most one block's worth of characters more than a block."""

_HELD_WINDOWS = 8192
"""Windows sorted together: all those of a shard of short texts, and some tens of MiB of memory."""


class Scorer(Protocol):
    """What an engine runs on each shard."""

    def score(self, shard: Shard) -> pa.Table:
        """Scores in the columns of ``store.schema``, one row a document, in order."""


@dataclass(kw_only=True)
class _Best:
    """The highest logits of one document so far, and where they stand."""

    logits: NDArray[np.float32]
    window: NDArray[np.int64]
    spans: list[tuple[int, int]] = field(default_factory=list)
    tokens: int = 0

    def add(self, logits: NDArray[np.float32], spans: Sequence[tuple[int, int]]) -> None:
        top = logits.argmax(axis=0)
        highest = logits[top, np.arange(logits.shape[1])]
        better = highest > self.logits
        self.logits[better] = highest[better]
        self.window[better] = top[better] + len(self.spans)
        self.spans.extend(spans)


class ShardScorer:
    """Scores shards with a bundle.

    Args:
        bundle: Folder of the bundle; the shipped one when ``None``.
        threads: Threads of a run; another number may change the last digits of int8 scores.
    """

    def __init__(self, bundle: Path | None = None, threads: int = 1) -> None:
        classifier = Classifier.load(bundle, threads=threads)
        self.labels = classifier.labels
        self._encoder = classifier.encoder
        self._engine = classifier.engine

    def score(self, shard: Shard) -> pa.Table:
        """Score the documents of a shard that are no duplicates."""
        fresh = [place for place in range(len(shard.documents)) if place not in shard.duplicates]
        found = dict(zip(fresh, self._best([shard.documents[place] for place in fresh]), strict=True))
        return self._table(shard, found)

    def _best(self, documents: Sequence[Document]) -> list[_Best]:
        labels = len(self.labels)
        best = [
            _Best(logits=np.full(labels, -np.inf, dtype=np.float32), window=np.zeros(labels, dtype=np.int64))
            for _ in documents
        ]
        held: list[tuple[int, int, list[Window]]] = []
        count = 0
        for owner, offset, windows in self._encoded(documents):
            held.append((owner, offset, windows))
            count += len(windows)
            if count >= _HELD_WINDOWS:
                self._fold(held, best)
                held, count = [], 0
        self._fold(held, best)
        return best

    def _encoded(self, documents: Sequence[Document]) -> Iterator[tuple[int, int, list[Window]]]:
        """Place of the document, offset of the block in its text, and the block's windows."""
        for chunk in _chunks(documents):
            encoded = self._encoder.encode(
                [text for *_, text in chunk], [documents[owner].context for owner, *_ in chunk]
            )
            for (owner, offset, _), windows in zip(chunk, encoded, strict=True):
                yield owner, offset, windows

    def _fold(self, held: Sequence[tuple[int, int, list[Window]]], best: Sequence[_Best]) -> None:
        if not held:
            return
        logits = self._engine.logits([window for *_, windows in held for window in windows])
        at = 0
        for owner, offset, windows in held:
            spans = [(window.start + offset, window.end + offset) for window in windows]
            best[owner].add(logits[at : at + len(windows)], spans)
            best[owner].tokens += sum(len(window.ids) for window in windows)
            at += len(windows)

    def _table(self, shard: Shard, found: dict[int, _Best]) -> pa.Table:
        documents = shard.documents
        bests = [found.get(place) for place in range(len(documents))]
        labels = len(self.labels)
        logits = np.zeros((len(documents), labels), dtype=np.float32)
        for place, best in found.items():
            logits[place] = best.logits
        columns = {
            "file": [document.file for document in documents],
            "row": [document.row for document in documents],
            "id": [_storable(document.id) for document in documents],
            "lang": [_storable(document.lang) for document in documents],
            "source": [_storable(document.source) for document in documents],
            "characters": [len(document.text) for document in documents],
            "windows": [len(best.spans) if best else None for best in bests],
            "tokens": [best.tokens if best else None for best in bests],
            "logits": pa.FixedSizeListArray.from_arrays(
                pa.array(logits.ravel()), labels, mask=pa.array([best is None for best in bests], pa.bool_())
            ),
            "starts": [_places(best, 0) for best in bests],
            "ends": [_places(best, 1) for best in bests],
            "duplicate_of": [shard.duplicates.get(place) for place in range(len(documents))],
        }
        return pa.table(columns, schema=schema(labels))


def _chunks(documents: Sequence[Document]) -> Iterator[list[tuple[int, int, str]]]:
    """Blocks of texts with the place of their document and their offset in it, in groups of bounded size."""
    chunk: list[tuple[int, int, str]] = []
    characters = 0
    for owner, document in enumerate(documents):
        for offset, text in _blocks(document.text):
            chunk.append((owner, offset, text))
            characters += len(text)
            if len(chunk) == _CHUNK_TEXTS or characters >= _BLOCK_CHARACTERS:
                yield chunk
                chunk, characters = [], 0
    if chunk:
        yield chunk


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    last = max(1, len(text) - _BLOCK_OVERLAP)
    for offset in range(0, last, _BLOCK_CHARACTERS - _BLOCK_OVERLAP):
        yield offset, text[offset : offset + _BLOCK_CHARACTERS]


def _places(best: _Best | None, side: int) -> list[int] | None:
    """Start or end of the window with the highest logit by label; empty for a single window."""
    if best is None:
        return None
    return [best.spans[window][side] for window in best.window] if len(best.spans) > 1 else []


def _storable(text: str | None) -> str | None:
    """A lone surrogate has no UTF-8 form."""
    return text if text is None else text.encode("utf-8", "replace").decode()
