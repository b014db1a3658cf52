"""Readers: one generator per source, from upstream files to records in our labels."""

from collections.abc import Iterator
from pathlib import Path

from fineline.errors import DataError
from fineline_training.corpus.loader import CORPUS_DIR
from fineline_training.records import Record
from fineline_training.sources.readers import authored, benign, chinese, english, jade, korean, multilingual, suites
from fineline_training.sources.readers.base import READERS, Dropped
from fineline_training.sources.registry import AUTHORED, Source

__all__ = [
    "READERS",
    "Dropped",
    "authored",
    "benign",
    "chinese",
    "english",
    "jade",
    "korean",
    "multilingual",
    "read_source",
    "read_use",
    "suites",
]


def read_source(source_id: str, folder: Path) -> Iterator[Record | Dropped]:
    """Yield every upstream row as a record, or as a drop with its reason.

    Args:
        source_id: Id in the registry.
        folder: The source's own folder in a mirror.

    Raises:
        DataError: No reader has that id, or a file is missing or of another form than upstream's.
    """
    if source_id not in READERS:
        raise DataError("reader_unknown", f"No reader is registered for '{source_id}'; known are {', '.join(READERS)}.")
    try:
        yield from READERS[source_id](folder)
    except (KeyError, ValueError, SyntaxError) as error:
        raise DataError(
            "source_format", f"{source_id}: its files have another form than the pinned ones ({type(error).__name__})."
        ) from None


def read_use(source: Source, mirror: Path | None, use: str) -> Iterator[Record | Dropped]:
    """Yield the rows of the splits that a source gives to ``use`` (``train`` or ``eval``).

    Raises:
        DataError: The source needs a mirror and none is named, or its files are not upstream's.
    """
    if source.id == AUTHORED:
        folder = CORPUS_DIR
    elif mirror is None:
        raise DataError("mirror_unset", f"{source.id}: name a mirror with --mirror or FINELINE_MIRROR.")
    else:
        folder = mirror / source.id
    splits = source.splits(use)
    yield from (row for row in read_source(source.id, folder) if row.split in splits)
