"""Decoded rows out of JSONL, JSON, CSV and Parquet files, with the place and reason of each that cannot be had.

A damaged row costs one row, and a damaged file what lies behind the damage: rows come one by one, and the error of the
file comes after the last one that can be read.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fineline.errors import DataError

MAPPINGS = ("labels", "soft", "meta")
"""Columns that hold a mapping."""

_CELLS = (*MAPPINGS, "known", "votes")
_TEXT_KINDS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
KINDS = frozenset({".parquet", *_TEXT_KINDS, *(f"{kind}.gz" for kind in _TEXT_KINDS)})
"""Endings of the files that can be read."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = ",;\t|"
_MAGIC = b"PAR1"
_BLANK = " \t\r\n,"


class RowError(ValueError):
    """A row breaks the schema; the message is the reason given to the user."""


Found = tuple[int, object]
"""Line (row number in Parquet and in a JSON list), and the decoded row or a ``RowError``."""

Decode = Callable[[bytes], str]


def plain_utf8(line: bytes) -> str:
    """UTF-8; what is no UTF-8 becomes surrogates, so that one badly encoded row does not cost those after it."""
    return line.decode("utf-8", "surrogateescape")


def file_kind(path: Path, kinds: Iterable[str] = KINDS) -> str:
    """The file's ending, ``.gz`` included.

    Raises:
        DataError: It is none of ``kinds``.
    """
    kind = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]).lower()
    if kind not in kinds:
        raise DataError("rows_format", f"{path.name}: rows live in {', '.join(sorted(kinds))} files.")
    return kind


def _lines(stream: Any, decode: Decode) -> Iterator[str]:
    head = stream.peek(3)
    if head[:2] in _UTF16:
        with io.TextIOWrapper(stream, encoding="utf-16", newline="") as text:
            yield from text
        return
    if head[:3] == b"\xef\xbb\xbf":
        stream.read(3)
    for line in stream:
        yield decode(line)


def _cell(value: str) -> Any:
    """Read a CSV cell that holds a mapping or list: JSON, ``all``, or ids separated by ``;``."""
    if value.startswith(("{", "[")):
        return json.loads(value)
    return value if value == "all" else [part.strip() for part in value.split(";") if part.strip()]


def _delimiter(header: str) -> str:
    """The sign that gives the header most cells: spreadsheets write ``;`` where the comma is a decimal sign."""
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _csv_rows(lines: Iterator[str]) -> Iterator[Found]:
    first = next(lines, "")
    reader = csv.reader(_chained(first, lines), strict=True, delimiter=_delimiter(first))
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num, RowError("not valid CSV; check the quotes")
            continue
        if header is None:
            header = cells
        elif not cells:
            continue
        elif len(cells) != len(header):
            yield reader.line_num, RowError(f"{len(cells)} cells under a header of {len(header)}")
        else:
            row: dict[str, Any] = {key: cell for key, cell in zip(header, cells, strict=True) if cell}
            if row.get("known") and "labels" not in row:
                row["labels"] = ""
            try:
                yield reader.line_num, row | {key: _cell(row[key]) for key in _CELLS if key in row}
            except (ValueError, RecursionError):
                yield reader.line_num, RowError("'labels', 'soft', 'votes', 'known' or 'meta' is not valid JSON")


def _chained(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _json_lines(lines: Iterable[str]) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, RowError("not valid JSON")


def _json_list(text: str) -> Iterator[Found]:
    """The elements of a list one by one: a file that was cut off still gives those that are whole."""
    decoder = json.JSONDecoder()
    number, at = 0, text.index("[") + 1
    while True:
        while at < len(text) and text[at] in _BLANK:
            at += 1
        if text[at : at + 1] == "]":
            return
        number += 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            yield number, RowError("not valid JSON; the list cannot be read from here on")
            return
        yield number, value


def _json_rows(lines: Iterator[str]) -> Iterator[Found]:
    """A ``.json`` file: a list of rows, or one row a line."""
    kept = list(lines)
    text = "".join(kept)
    yield from _json_list(text) if text.lstrip()[:1] == "[" else _json_lines(kept)


def _open_parquet(path: Path) -> "pq.ParquetFile":
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError):
        with path.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise
        raise DataError(
            "rows_unreadable",
            f"{path.name}: the end of the file, which says where each row is, is missing or damaged; no row can be "
            "read: copy or export it again.",
        ) from None


def _batch_rows(batch: "pa.RecordBatch") -> Iterator[Any]:
    """The rows of a batch; one that cannot be turned into Python values costs itself."""
    try:
        yield from batch.to_pylist()
    except (ValueError, pa.ArrowException):
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except (ValueError, pa.ArrowException):
                yield RowError("holds a value that cannot be read, such as text that is not UTF-8")


def _parquet_rows(path: Path, decode: Decode) -> Iterator[Found]:
    file = _open_parquet(path)
    maps = [field.name for field in file.schema_arrow if pa.types.is_map(field.type)]
    start = 1
    for group in range(file.num_row_groups):
        number, start = start, start + file.metadata.row_group(group).num_rows
        try:
            for batch in file.iter_batches(row_groups=[group]):
                for row in _batch_rows(batch):
                    if not isinstance(row, RowError):
                        row |= {name: dict(row[name]) for name in maps if row[name] is not None}
                        row = {key: decode(value) if isinstance(value, bytes) else value for key, value in row.items()}
                    yield number, row
                    number += 1
        except (pa.ArrowException, OSError):
            yield number, RowError(f"rows {number} to {start - 1} are damaged and cannot be read")


def _rows(path: Path, kind: str, decode: Decode) -> Iterator[Found]:
    if kind == ".parquet":
        yield from _parquet_rows(path, decode)
        return
    opener: Any = gzip.open if kind.endswith(".gz") else open
    with opener(path, "rb") as stream:
        lines = _lines(stream, decode)
        if kind.startswith((".csv", ".tsv")):
            yield from _csv_rows(lines)
        elif kind.startswith((".jsonl", ".ndjson")):
            yield from _json_lines(lines)
        else:
            yield from _json_rows(lines)


def raw_rows(path: Path, decode: Decode = plain_utf8) -> Iterator[Found]:
    """Give the rows of a file one by one, decoded but not yet understood.

    Args:
        path: ``.jsonl``, ``.ndjson``, ``.json`` (a list), ``.csv``, ``.tsv`` (each also ``.gz``) or ``.parquet``.
        decode: Turns the bytes of a line into text; a file that begins with the mark of UTF-16 is read as that.

    Yields:
        Line and row, or line and ``RowError``.

    Raises:
        DataError: The file is missing or of another format; or, after the last row that can be read, damaged.
    """
    kind = file_kind(path)
    try:
        yield from _rows(path, kind, decode)
    except FileNotFoundError:
        raise DataError("rows_missing", f"{path}: no such file; check the path.") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException, UnicodeDecodeError) as error:
        reason = type(error).__name__
        raise DataError("rows_unreadable", f"{path.name}: cannot be read as {kind} ({reason}).") from None
