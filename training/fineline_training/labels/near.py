"""Which texts are near copies of one in an evaluation suite, told from hashes, where no mirror is present.

``leakage`` finds a text that equals an evaluation text after normalisation; an edited copy (a word changed, a sentence
around it, its end cut) has another digest and gives the suite away as well. Method: MinHash, by bottom-k sketches. A
text is the set of the hashes of its shingles (runs of characters of its match key). Of an evaluation text the committed
file keeps the ``KEPT`` smallest, a random sample of the set, and the set's size. How many of them stand in the *whole*
set of the other text estimates what the two share, whichever is the longer one (Broder 1997). No text can be read back
from a few hashes of 24 bits, sorted by their value.

``python -m fineline_training.labels.near`` rebuilds the file from a full mirror and the question banks of a checkout.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fineline.errors import DataError
from fineline.files import replacing
from fineline_training.leakage import CANARY, bank_texts, cached_key, evaluation_texts
from fineline_training.records import Record
from fineline_training.sources.mirror import MIRROR_VARIABLE, find_mirror

SKETCHES_FILE = Path(__file__).parents[1] / "sources" / "eval_sketches.bin"
NEAR = 0.6
"""Overlap from which a text is a near copy: tests hold recall on edited copies and false alarms on the corpus."""
KEPT = 24
"""Hashes kept of an evaluation text: half as many double the false alarms, twice as many double the file."""
FEWEST = 8
"""Shingles below which a text is too short to have near copies; equal ones are found by ``leakage``."""
_PLAIN = 24
"""Shingles that a short text counts as when the other one is longer: a phrase inside a long text is no copy."""
_FEWEST_HITS = 6
"""Hashes in common, and at least a third of those kept: fewer of a long text say too little about what is shared."""
_WIDTH, _DENSE_WIDTH = 5, 3
"""Characters of a shingle, and of one that begins with a Chinese, Japanese or Korean character, which says more."""
_DENSE = ((0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0x20000, 0x2FFFF))
_BITS = 24
_BASE, _FIRST, _SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

Hashes = NDArray[np.uint32]


class Sketch(NamedTuple):
    """What is kept of a text: the number of its shingles, and the smallest hashes, sorted."""

    size: int
    hashes: tuple[int, ...]


def _runs(codes: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """Polynomial hash of every run of ``width`` codes, modulo 2^64."""
    count = max(0, len(codes) - width + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(width):
        hashes = hashes * _BASE + codes[place : place + count]
    return hashes


def shingles(text: str) -> Hashes:
    """Sorted distinct hashes of a text's shingles, uint32 below 2^24."""
    codes = np.frombuffer(cached_key(text).encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    dense = np.zeros(len(codes), dtype=np.bool_)
    for low, high in _DENSE:
        dense |= (codes >= low) & (codes <= high)
    short, wide = _runs(codes, _DENSE_WIDTH), _runs(codes, _WIDTH)
    found = np.concatenate([short[dense[: len(short)]], wide[~dense[: len(wide)]]])
    # The finaliser of splitmix64: neighbouring sums must not give neighbouring hashes.
    found = (found ^ (found >> np.uint64(30))) * _FIRST
    found = (found ^ (found >> np.uint64(27))) * _SECOND
    found ^= found >> np.uint64(31)
    return np.unique(found >> np.uint64(64 - _BITS)).astype(np.uint32)


def sketch(text: str) -> Sketch:
    """Sketch of an evaluation text."""
    hashes = shingles(text)
    return Sketch(len(hashes), tuple(hashes[:KEPT].tolist()))


class NearIndex:
    """Sketches of evaluation texts, searched by the hashes they hold.

    Args:
        sketches: One a text; those of texts too short to have near copies are left out.
    """

    def __init__(self, sketches: Iterable[Sketch]) -> None:
        self._sketches = [found for found in sketches if found.size >= FEWEST]
        self._sizes = np.array([found.size for found in self._sketches], dtype=np.int64)
        self._kept = np.array([len(found.hashes) for found in self._sketches], dtype=np.int64)
        hashes = np.array([value for found in self._sketches for value in found.hashes], dtype=np.uint32)
        order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[order]
        self._owners = np.repeat(np.arange(len(self._sketches)), self._kept)[order]

    def __len__(self) -> int:
        return len(self._sketches)

    def overlap(self, text: str) -> float:
        """Highest estimated overlap with an evaluation text, 0 to 1.

        The overlap is the number of shingles in common over the size of the smaller text, where a smaller text of less
        than 24 shingles counts as 24, or as the larger one.
        """
        hashes = shingles(text)
        if len(hashes) < FEWEST or not self._sketches:
            return 0.0
        low, high = (np.searchsorted(self._hashes, hashes, side) for side in ("left", "right"))
        owners = np.concatenate([self._owners[a:b] for a, b in zip(low, high, strict=True) if a < b] or [low[:0]])
        candidates, hits = np.unique(owners, return_counts=True)
        enough = hits >= np.maximum(_FEWEST_HITS, self._kept[candidates] // 3)
        candidates, hits = candidates[enough], hits[enough]
        if not len(candidates):
            return 0.0
        sizes = self._sizes[candidates]
        common = hits / self._kept[candidates] * sizes
        smaller, larger = np.minimum(sizes, len(hashes)), np.maximum(sizes, len(hashes))
        return min(1.0, float((common / np.maximum(smaller, np.minimum(larger, _PLAIN))).max()))

    def holds(self, record: Record) -> bool:
        """Whether the record's text or its context is a near copy of an evaluation text."""
        return self.overlap(record.text) >= NEAR or self.overlap(record.context or "") >= NEAR

    def with_texts(self, texts: Iterable[str]) -> "NearIndex":
        """A larger index, for suites of the user's own."""
        return NearIndex([*self._sketches, *map(sketch, texts)])


def write_sketches(texts: Iterable[str], path: Path = SKETCHES_FILE) -> int:
    """Write the sketches of evaluation texts, sorted.

    The file: their number (u32), their sizes (u16 each), then all their hashes (3 bytes each), little-endian.

    Args:
        texts: The texts that are judged in any suite.
        path: File to replace.

    Returns:
        The number of different sketches.
    """
    found = sorted({made for made in map(sketch, (CANARY, *texts)) if made.size >= FEWEST})
    sizes = np.array([min(made.size, 0xFFFF) for made in found], dtype="<u2")
    hashes = np.array([value for made in found for value in made.hashes], dtype="<u4")
    with replacing(path) as stream:
        stream.write(len(found).to_bytes(4, "little") + sizes.tobytes())
        stream.write(hashes.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())
    return len(found) - 1


def load_sketches(path: Path = SKETCHES_FILE) -> NearIndex:
    """Read the sketches.

    Raises:
        DataError: The file is missing, damaged, or was made with another normaliser.
    """
    try:
        content = path.read_bytes()
        count = int.from_bytes(content[:4], "little")
        sizes = np.frombuffer(content, dtype="<u2", count=count, offset=4).tolist()
        packed = np.frombuffer(content, dtype=np.uint8, offset=4 + 2 * count).reshape(-1, 3).astype(np.uint32)
    except (FileNotFoundError, ValueError):
        raise DataError("sketches_missing", f"{path.name} is missing or damaged; rebuild it from a mirror.") from None
    hashes = (packed[:, 0] | packed[:, 1] << 8 | packed[:, 2] << 16).tolist()
    ends = np.cumsum([min(size, KEPT) for size in sizes]).tolist()
    if not ends or ends[-1] != len(hashes):
        raise DataError("sketches_missing", f"{path.name} is missing or damaged; rebuild it from a mirror.")
    starts = [0, *ends[:-1]]
    index = NearIndex(
        Sketch(size, tuple(hashes[low:high])) for size, low, high in zip(sizes, starts, ends, strict=True)
    )
    if index.overlap(CANARY) < 1:
        raise DataError("sketches_stale", f"{path.name} was made with another normaliser; rebuild it from a mirror.")
    return index


def main() -> None:
    """Rebuild the committed file from the mirror that ``FINELINE_MIRROR`` names and the question banks."""
    if (mirror := find_mirror()) is None:
        raise DataError("mirror_unset", f"Set {MIRROR_VARIABLE} to a full mirror.")
    write_sketches([*evaluation_texts(mirror), *bank_texts()])


if __name__ == "__main__":
    main()
