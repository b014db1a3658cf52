"""Scorers without a model and shards for them; worker processes import this module by name."""

import os
import signal
import zlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from fineline.errors import BundleError, InputError
from fineline.scan.documents import Document, Reject
from fineline.scan.shards import Shard
from fineline.scan.store import schema

LABELS = 2


class HashScorer:
    """Scores that say which text they belong to; some texts are orders.

    ``die once`` kills the process the first time it is met, ``die`` every time, ``fail`` raises an error for people.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / f"loaded-{os.getpid()}").touch()

    def score(self, shard: Shard) -> pa.Table:
        texts = [document.text for document in shard.documents]
        if "fail" in texts:
            raise InputError("test_failure", "told to fail")
        if "die" in texts or ("die once" in texts and not (self._folder / "died").exists()):
            (self._folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        fresh = [place not in shard.duplicates for place in range(len(texts))]
        values = np.array([[zlib.crc32(text.encode()), len(text)] for text in texts], dtype=np.float32)
        return pa.table(
            {
                "file": [document.file for document in shard.documents],
                "row": [document.row for document in shard.documents],
                "id": [document.id for document in shard.documents],
                "lang": [document.lang for document in shard.documents],
                "source": [document.source for document in shard.documents],
                "characters": [len(text) for text in texts],
                "windows": [1 if new else None for new in fresh],
                "tokens": [len(text) if new else None for text, new in zip(texts, fresh, strict=True)],
                "logits": pa.FixedSizeListArray.from_arrays(
                    pa.array(values.ravel(), pa.float32()),
                    LABELS,
                    mask=pa.array([not new for new in fresh], pa.bool_()),
                ),
                "starts": [[] if new else None for new in fresh],
                "ends": [[] if new else None for new in fresh],
                "duplicate_of": [shard.duplicates.get(place) for place in range(len(texts))],
            },
            schema=schema(LABELS),
        )


def unloadable() -> HashScorer:
    raise BundleError("test_bundle", "no model here")


def maker(folder: Path) -> partial[HashScorer]:
    return partial(HashScorer, folder)


def shards(texts: Sequence[str], size: int = 2) -> Iterator[Shard]:
    """Shards of ``size`` documents, each with one rejected row."""
    for number, first in enumerate(range(0, len(texts), size)):
        documents = tuple(
            Document(file=0, row=first + i, text=text, context=None, id=None, lang=None, source=None)
            for i, text in enumerate(texts[first : first + size])
        )
        rejects = (Reject(file=0, row=1000 + number, reason="bad"),)
        yield Shard(number=number, first=first, documents=documents, rejects=rejects, duplicates={})


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
