"""Documents of a corpus: JSONL, CSV, Parquet and text files, read in pieces; a bad row is a reason, never an error."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fineline.scan.inputs import InputFile, list_inputs, opened
from fineline.scan.writers import RowWriter, open_writer

__all__ = [
    "LONGEST",
    "Document",
    "Fields",
    "InputFile",
    "Reject",
    "RowWriter",
    "list_inputs",
    "open_writer",
    "read_documents",
    "read_rows",
]

LONGEST = 64 * 2**20
"""Bytes a line of JSON or a text file may have, and characters a field of CSV; longer ones are rejected unread."""

_BATCH_ROWS = 64
_NOT_UTF8 = "not valid UTF-8"
_BROKEN = object()
_TOO_LONG = f"longer than {LONGEST // 2**20} MiB"


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Names of the fields that are read; ``None`` reads none.

    Attributes:
        text: What is judged. A text file is its own text, whatever this says.
        id: Names the document.
        lang: Its language.
        source: Where it comes from; reports count by it.
        context: What the text answers.
    """

    text: str = "text"
    id: str | None = None
    lang: str | None = None
    source: str | None = None
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """One text to judge.

    Attributes:
        file: Number of its file.
        row: Its row there, from 0, rows that are no documents included.
        text: What is judged; it may hold lone surrogates.
        context: What it answers; an empty one counts as none.
        id: Value of the id field as text; values that are no strings are written as JSON, empty ones count as none.
        lang: Value of the language field, likewise.
        source: Value of the source field, likewise.
    """

    file: int
    row: int
    text: str
    context: str | None = None
    id: str | None = None
    lang: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that holds no document.

    Attributes:
        file: Number of its file.
        row: Its row there.
        reason: Why; it never quotes the row.
    """

    file: int
    row: int
    reason: str


def read_documents(file: InputFile, number: int, fields: Fields) -> Iterator[Document | Reject]:
    """Read the documents of a file in order, in bounded memory.

    Blank lines of JSONL and CSV are no rows. Where a file is damaged, cut off for instance, the last row is a reject
    that says so. Of Parquet only the columns of the fields are read.

    Args:
        file: From ``list_inputs``.
        number: Number of the file, copied into the documents.
        fields: Names of the fields.

    Yields:
        One for each row.

    Raises:
        InputError: The storage fails; trying again may help.
    """
    text = "text" if file.format == "text" else fields.text
    for row, found in enumerate(_rows(file, {text, *filter(None, astuple(fields))})):
        yield _document(found, number, row, text, fields) if isinstance(found, dict) else Reject(number, row, found)


def read_rows(file: InputFile) -> Iterator[dict[str, Any] | None]:
    """Read the rows of a file with all columns, in the order and number of ``read_documents``.

    Args:
        file: From ``list_inputs``.

    Yields:
        One for each row; ``None`` for one that cannot be parsed. Values of CSV are strings; times in nanoseconds of
        Parquet are integers, because Python has no such type.

    Raises:
        InputError: The storage fails.
    """
    return (row if isinstance(row, dict) else None for row in _rows(file, None))


def _document(found: dict[str, Any], number: int, row: int, text_field: str, fields: Fields) -> Document | Reject:
    text = found.get(text_field)
    if not isinstance(text, str):
        return Reject(number, row, f"no string field '{text_field}'")
    context = found.get(fields.context) if fields.context else None
    if not isinstance(context, str | None):
        return Reject(number, row, f"field '{fields.context}' is neither a string nor null")
    id_, lang, source = (_label(found.get(name)) if name else None for name in (fields.id, fields.lang, fields.source))
    return Document(number, row, text, context or None, id_, lang, source)


def _label(value: Any) -> str | None:
    """A value as a column of strings can hold it."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text.encode("utf-8", "replace").decode()


def _rows(file: InputFile, columns: set[str] | None) -> Iterator[dict[str, Any] | str]:
    """Rows, and the reasons of those that cannot be parsed."""
    try:
        with opened(file) as stream:
            yield from _READERS[file.format](stream, columns)
    except (OSError, EOFError, pa.ArrowException):
        # Of the content: the storage's own errors leave ``opened`` as InputError.
        yield "the file is damaged from here on, or not what its name says"


def _json_rows(stream: IO[bytes], columns: set[str] | None) -> Iterator[dict[str, Any] | str]:
    while line := stream.readline(LONGEST):
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST)
            yield _TOO_LONG
        elif not line.isspace():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):  # also numbers of thousands of digits and nesting without end
                yield "not valid JSON"
            else:
                yield row if isinstance(row, dict) else "not a JSON object"


def _csv_rows(stream: IO[bytes], columns: set[str] | None) -> Iterator[dict[str, Any] | str]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    # One less than a piece of a line, so that a field that was cut is always too long.
    csv.field_size_limit(LONGEST - 1)
    cells = csv.reader(iter(lambda: text.readline(LONGEST), ""))
    header: list[str] | None = None
    while True:
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error:
            yield _TOO_LONG
            continue
        if not row:
            continue
        if header is None:
            header = row
            if len(set(header)) < len(header):
                yield "two columns have one name"
                return
        elif len(row) != len(header):
            yield f"{len(row)} fields where the header has {len(header)}"
        elif not all(map(_is_utf8, row)):
            yield _NOT_UTF8
        else:
            yield dict(zip(header, row, strict=True))


def _is_utf8(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:  # a byte that "surrogateescape" let through
        return False
    return True


def _parquet_rows(stream: IO[bytes], columns: set[str] | None) -> Iterator[dict[str, Any] | str]:
    # With a buffer size columns are read in pieces instead of a row group at once.
    file = pq.ParquetFile(stream, buffer_size=2**20)
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        yield "two columns have one name"
        return
    kept = None if columns is None else [name for name in names if name in columns]
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=kept):
        values = [_values(column) for column in batch.columns]
        for place in range(batch.num_rows):
            row = {name: column[place] for name, column in zip(batch.schema.names, values, strict=True)}
            yield _NOT_UTF8 if any(value is _BROKEN for value in row.values()) else row


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_temporal(column.type) and getattr(column.type, "unit", None) == "ns":
        column = column.cast(pa.int64())
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_value(scalar) for scalar in column]
    return values


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return _BROKEN


def _text_rows(stream: IO[bytes], columns: set[str] | None) -> Iterator[dict[str, Any] | str]:
    content = stream.read(LONGEST + 1)
    try:
        yield _TOO_LONG if len(content) > LONGEST else {"text": content.decode("utf-8-sig")}
    except UnicodeDecodeError:
        yield _NOT_UTF8


_READERS: dict[str, Callable[[IO[bytes], set[str] | None], Iterator[dict[str, Any] | str]]] = {
    "jsonl": _json_rows,
    "csv": _csv_rows,
    "parquet": _parquet_rows,
    "text": _text_rows,
}
