"""A pool of texts nobody has labelled: read in pieces, less what may not or need not be suggested."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fineline.scan.documents import Document, Fields, InputFile, Reject, read_documents
from fineline_training.build import LEAKED, row_key
from fineline_training.labels.near import NearIndex
from fineline_training.labels.team_gates import NEARLY_LEAKED
from fineline_training.labels.votes import LabelledRow
from fineline_training.leakage import EvaluationKeys, digest
from fineline_training.records import UNDETERMINED, Record

READ, JUDGED = "read", "judged"
EMPTY, ENCODING, LABELLED, NOT_DRAWN = "empty", "not valid UTF-8", "in the store already", "outside the share"
_FIELDS = Fields(text="text", id="id", lang="lang", source="source", context="context")
_CHUNK_ROWS, _CHUNK_CHARACTERS = 256, 500_000


class Place(NamedTuple):
    """Where a row of the pool stands: number of its file, and row there, both from 0."""

    file: int
    row: int


class PoolRow(NamedTuple):
    """A row that may be suggested; ``key`` is the digest of its text and context."""

    place: Place
    key: int
    document: Document


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What is not suggested.

    Attributes:
        evaluation: Digests of the evaluation texts.
        near: Sketches of the same, for edited copies.
        labelled: Keys of rows that are labelled already.
        share: Share of the pool that is judged, 0 to 1, drawn by key: the same rows each time.
    """

    evaluation: EvaluationKeys
    near: NearIndex
    labelled: Collection[int] = frozenset()
    share: float = 1.0

    def reason(self, document: Document, key: int) -> str | None:
        """Why a row is left out, or ``None``."""
        if not document.text.strip():
            return EMPTY
        if any("\ud800" <= char <= "\udfff" for char in document.text + (document.context or "")):
            return ENCODING
        if key in self.labelled:
            return LABELLED
        if key >= self.share * 2**64:
            return NOT_DRAWN
        record = _record(document.text, document.context)
        if self.evaluation.holds(record):
            return LEAKED
        return NEARLY_LEAKED if self.near.holds(record) else None


def _record(text: str, context: str | None) -> Record:
    return Record(text=text, context=context, lang=UNDETERMINED, labels={}, source="")


def text_key(text: str, context: str | None) -> int:
    """64-bit digest of a text and its context, equal where a reader sees the same row."""
    return digest("\x1f".join(row_key(_record(text, context))))


def labelled_keys(rows: Sequence[LabelledRow]) -> frozenset[int]:
    """Keys of rows of a label store."""
    return frozenset(text_key(row.text, row.context) for row in rows)


def _documents(files: Sequence[InputFile]) -> Iterator[Document | Reject]:
    for number, file in enumerate(files):
        yield from read_documents(file, number, _FIELDS)


def read_pool(files: Sequence[InputFile], left_out: LeftOut, counts: Counter[str]) -> Iterator[list[PoolRow]]:
    """Read a pool in chunks of bounded size.

    Args:
        files: JSONL, CSV, Parquet or text files (``list_inputs``); ``text`` is read, and ``context``, ``id``, ``lang``
            and ``source`` where they are.
        left_out: What is not suggested.
        counts: Gains the rows read, and the rows left out by reason.
    """
    chunk: list[PoolRow] = []
    characters = 0
    for found in _documents(files):
        counts[READ] += 1
        if isinstance(found, Reject):
            counts[found.reason] += 1
            continue
        key = text_key(found.text, found.context)
        if reason := left_out.reason(found, key):
            counts[reason] += 1
            continue
        chunk.append(PoolRow(Place(found.file, found.row), key, found))
        characters += len(found.text) + len(found.context or "")
        if len(chunk) == _CHUNK_ROWS or characters > _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def read_places(files: Sequence[InputFile], places: Collection[Place]) -> dict[Place, Document]:
    """Read single rows of a pool again: their texts were not kept while the pool went by."""
    return {
        Place(found.file, found.row): found
        for found in _documents(files)
        if isinstance(found, Document) and Place(found.file, found.row) in places
    }
