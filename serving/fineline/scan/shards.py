"""Inputs to shards: runs of neighbouring documents, the same ones whoever scores them and however often.

A shard is the unit of work, of restarting and of output. Its border depends on the input and on the settings alone, so
a scan that was killed finds the same shards again. Exact duplicates are marked here, where the whole input passes by.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fineline.scan.documents import Document, Fields, Reject, read_documents
from fineline.scan.inputs import InputFile

SHARD_CHARACTERS = 2_000_000
"""A shard also ends when its texts reach this length, so that long documents do not make one of any size."""

_DIGEST_BYTES = 16


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Neighbouring rows of the input.

    Attributes:
        number: Place of the shard, from 0.
        first: Number of its first document in the whole input, rejected rows not counted.
        documents: In input order.
        rejects: Rows of the same stretch that hold no document.
        duplicates: Place in ``documents`` to the number of the first document with the same text and context.
    """

    number: int
    first: int
    documents: tuple[Document, ...]
    rejects: tuple[Reject, ...]
    duplicates: Mapping[int, int]


class FirstSeen:
    """Numbers of the first documents by digest: a hash table of fixed size with linear probing.

    A dictionary would take four times the memory. Half of the slots stay free; a full table remembers no more
    documents, so later copies of those it does not hold are scored again.

    Args:
        limit: Digests to remember; 0 finds no duplicates.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._mask = (1 << (2 * limit - 1).bit_length()) - 1 if limit else 0
        self._digests = np.zeros((self._mask + 1, 2), dtype=np.uint64)
        self._numbers = np.full(self._mask + 1, -1, dtype=np.int64)

    def find(self, document: Document, number: int) -> int | None:
        """The number of the first document like this one; ``None`` if this is it, and then it is remembered."""
        if not self._mask:
            return None
        digest = np.frombuffer(_digest(document), dtype=np.uint64)
        slot = int(digest[0]) & self._mask
        while (held := int(self._numbers[slot])) >= 0:
            if (self._digests[slot] == digest).all():
                return held
            slot = (slot + 1) & self._mask
        if self._free:
            self._digests[slot], self._numbers[slot] = digest, number
            self._free -= 1
        return None


def _digest(document: Document) -> bytes:
    text = document.text.encode("utf-8", "surrogatepass")
    context = (document.context or "").encode("utf-8", "surrogatepass")
    return hashlib.blake2b(b"%d:%b%b" % (len(text), text, context), digest_size=_DIGEST_BYTES).digest()


def _rows(inputs: Sequence[InputFile], fields: Fields) -> Iterator[Document | Reject]:
    for number, file in enumerate(inputs):
        yield from read_documents(file, number, fields)


def shards(inputs: Sequence[InputFile], fields: Fields, rows_per_shard: int, remembered: int = 0) -> Iterator[Shard]:
    """Cut the inputs into shards.

    Args:
        inputs: Files in order.
        fields: Names of the fields.
        rows_per_shard: Most rows of a shard, rejected ones included; it may span files.
        remembered: Different documents remembered to find exact duplicates; 0 marks none.

    Yields:
        Shards in order, none of them empty.
    """
    seen = FirstSeen(remembered)
    number = first = characters = 0
    documents: list[Document] = []
    rejects: list[Reject] = []
    duplicates: dict[int, int] = {}
    for row in _rows(inputs, fields):
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            original = seen.find(row, first + len(documents))
            if original is not None:
                duplicates[len(documents)] = original
            documents.append(row)
            characters += len(row.text) + len(row.context or "")
        if len(documents) + len(rejects) >= rows_per_shard or characters >= SHARD_CHARACTERS:
            yield Shard(
                number=number, first=first, documents=tuple(documents), rejects=tuple(rejects), duplicates=duplicates
            )
            number, first, characters = number + 1, first + len(documents), 0
            documents, rejects, duplicates = [], [], {}
    if documents or rejects:
        yield Shard(
            number=number, first=first, documents=tuple(documents), rejects=tuple(rejects), duplicates=duplicates
        )
