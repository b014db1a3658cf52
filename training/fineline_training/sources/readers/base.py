"""What readers share: their table, the row they drop with a reason, file formats, and text cleaning."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fineline.errors import DataError
from fineline_training.records import Record


class Dropped(NamedTuple):
    """A row that a reader leaves out, and why; reasons are counted in the manifest."""

    reason: str
    split: str = "train"


Rows = Iterator[Record | Dropped]
Reader = Callable[[Path], Rows]
READERS: dict[str, Reader] = {}

EMPTY = Dropped("empty after cleaning")

_URL = re.compile(r"(?:https?://|www\.|t\.co/|pic\.twitter\.com/)[\w\-./?%&=#:~+,;@!]*", re.ASCII | re.IGNORECASE)
_MENTION = re.compile(r"(?<![\w.+-])@(?=[^\W_])[\w-]+")
_PLACEHOLDER = re.compile(r"\[USER\]|<user>", re.IGNORECASE)
_LINK_MARK = re.compile(r"\[URL\]|@url\b|<url>", re.IGNORECASE)
_SPACE = re.compile(r"[^\S\n]+")


def reader(source_id: str) -> Callable[[Reader], Reader]:
    """Register a reader under its source id."""

    def register(function: Reader) -> Reader:
        READERS[source_id] = function
        return function

    return register


def clean(text: str) -> str:
    """Take links out, turn mentions and upstream's own marks into ``@user``, and even out spaces.

    Meant for text from social media. Written suites keep their text as it is: there ``@`` may stand for a letter.
    """
    text = _LINK_MARK.sub(" ", _URL.sub(" ", text))
    text = _MENTION.sub("@user", _PLACEHOLDER.sub("@user", text))
    return tidy(text)


def tidy(text: str) -> str:
    """Even out spaces and trim; line breaks stay."""
    return "\n".join(line.strip() for line in _SPACE.sub(" ", text).splitlines() if line.strip())


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """Read a whole upstream file.

    Raises:
        DataError: The file is missing or not in the stated encoding.
    """
    try:
        # read_bytes: universal newlines would rewrite line breaks that stand inside CSV cells.
        return path.read_bytes().decode(encoding)
    except FileNotFoundError:
        raise DataError("source_missing", f"{path}: not found; run 'fineline data pull' or name the mirror.") from None
    except UnicodeDecodeError:
        raise DataError("source_encoding", f"{path.name}: not {encoding}; check its hash.") from None


def read_csv(path: Path, encoding: str = "utf-8-sig") -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file with a header."""
    yield from csv.DictReader(io.StringIO(read_text(path, encoding), newline=""))


def read_tsv(path: Path, columns: int) -> Iterator[list[str]]:
    """Yield the cells of a tab-separated file without header or quoting; lines of another width are an error."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if cells := line.rstrip("\r").split("\t") if line.strip() else []:
            if len(cells) != columns:
                raise DataError("source_format", f"{path.name} line {number}: {len(cells)} columns, not {columns}.")
            yield cells


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(read_text(path))


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file."""
    for line in read_text(path).split("\n"):
        if line.strip():
            yield json.loads(line)
