"""Which texts stand in an evaluation suite, as digests, so that the check works where no mirror is present.

The committed file holds the number and the sorted 64-bit digests of the match keys of all evaluation texts, question
banks and known errors among them; texts of public sets never enter the repository. One made-up text among them checks
the file itself: when the normaliser changes, old digests would match nothing and the gate would pass in silence.
``python -m fineline_training.leakage`` rebuilds it from a full mirror.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from fineline.errors import DataError
from fineline.files import replacing
from fineline.text import match_key
from fineline_training.records import Record
from fineline_training.sources.mirror import MIRROR_VARIABLE, State, find_mirror, source_status
from fineline_training.sources.readers import read_use
from fineline_training.sources.registry import load_registry

DIGESTS_FILE = Path(__file__).parent / "sources" / "eval_digests.bin"
BANKS_DIR = Path(__file__).parents[2] / "eval" / "fineline_eval" / "banks"
ERRORS_DIR = Path(__file__).parents[2] / "tests" / "data"
_DIGEST_BYTES = 8
# Width, case, script and spacing variants: its key moves when the normaliser does.
CANARY = "Ｆineline 基準測試　CANARY: ﬁne  line！"


@lru_cache(maxsize=1 << 19)
def cached_key(text: str) -> str:
    """The text's match key, remembered: dropping, duplicates and the gate each ask for it."""
    return match_key(text)


def digest(key: str) -> int:
    """64-bit digest of a match key."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest(), "little")


class EvaluationKeys:
    """The set of evaluation texts, by digest of their match keys."""

    def __init__(self, digests: Iterable[int]) -> None:
        self._digests = frozenset(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, text: str) -> bool:
        return digest(cached_key(text)) in self._digests

    def holds(self, record: Record) -> bool:
        """Whether the record's text or its context is an evaluation text."""
        return record.text in self or (record.context is not None and record.context in self)

    def with_texts(self, texts: Iterable[str]) -> "EvaluationKeys":
        """A larger set, for suites of the user's own."""
        return EvaluationKeys(self._digests | {digest(match_key(text)) for text in texts})


def write_digests(texts: Iterable[str], path: Path = DIGESTS_FILE) -> int:
    """Write the sorted digests of evaluation texts.

    Args:
        texts: The texts that are judged in any suite.
        path: File to replace.

    Returns:
        The number of distinct texts.
    """
    digests = {digest(match_key(text)) for text in (CANARY, *texts)}
    with replacing(path) as stream:
        stream.write(np.array([len(digests), *sorted(digests)], dtype="<u8").tobytes())
    return len(digests) - 1


def load_digests(path: Path = DIGESTS_FILE) -> EvaluationKeys:
    """Read the digests.

    Raises:
        DataError: The file is missing, damaged, or was made with another normaliser.
    """
    try:
        table: NDArray[np.uint64] = np.frombuffer(path.read_bytes(), dtype="<u8")
        if not len(table) or len(table) != 1 + int(table[0]):
            raise ValueError
    except (FileNotFoundError, ValueError):
        raise DataError("digests_missing", f"{path.name} is missing or damaged; rebuild it from a mirror.") from None
    keys = EvaluationKeys(table[1:].tolist())
    if CANARY not in keys:
        raise DataError("digests_stale", f"{path.name} was made with another normaliser; rebuild it from a mirror.")
    return keys


def evaluation_texts(mirror: Path) -> Iterator[str]:
    """Yield the judged text of every row that any source gives to evaluation.

    Raises:
        DataError: The mirror lacks a file of such a source, or holds another one.
    """
    for source in load_registry().values():
        if source.splits("eval"):
            if (state := source_status(source, mirror).state) is not State.PRESENT:
                raise DataError("digests_mirror", f"{source.id}: {state} in the mirror; all such sources are needed.")
            yield from (row.text for row in read_use(source, mirror, "eval") if isinstance(row, Record))


def bank_texts(folder: Path = BANKS_DIR) -> Iterator[str]:
    """Yield the texts of the evaluation's own question banks (``topics``: lists of texts, in YAML).

    Raises:
        DataError: The folder holds no bank.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise DataError("banks_missing", f"{folder}: no question banks; rebuild the file in a checkout of Fineline.")
    for file in files:
        for texts in yaml.safe_load(file.read_text(encoding="utf-8"))["topics"].values():
            yield from texts


def known_error_texts() -> Iterator[str]:
    """Yield the texts that the tests hold verdicts of, right and wrong ones."""
    for name in ("current_errors", "fixed_errors"):
        for line in (ERRORS_DIR / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["text"]


def main() -> None:
    """Rebuild the committed file from the mirror that ``FINELINE_MIRROR`` names, in a checkout."""
    if (mirror := find_mirror()) is None:
        raise DataError("mirror_unset", f"Set {MIRROR_VARIABLE} to a full mirror.")
    write_digests([*evaluation_texts(mirror), *bank_texts(), *known_error_texts()])


if __name__ == "__main__":
    main()
