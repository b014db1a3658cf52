"""A training or evaluation row, and the files that hold rows.

Labels are partial: an absent label is *unknown*, never zero, because most public sets judge one or two of ours.
A bad row is refused with its file, line and reason (never its text) and the good rows around it are kept; a file
is written under a temporary name and renamed, so a killed run leaves the old file or the new one, never half.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fineline.errors import DataError
from fineline.files import replacing
from fineline.taxonomy import load_taxonomy

SPLITS = ("train", "dev", "test")
UNDETERMINED = "und"
_COLUMNS = ("text", "context", "lang", "labels", "source", "pair", "split", "meta")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("text", "context", "lang")]
    + [("labels", pa.map_(pa.string(), pa.int8()))]
    + [(name, pa.string()) for name in ("source", "pair", "split")]
    + [("meta", pa.map_(pa.string(), pa.string()))]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One row.

    Attributes:
        text: The text that is judged.
        context: What the text answers (the user's prompt); read, never judged.
        lang: Language code; ``und`` where the file does not say.
        labels: Label id to 0 or 1; an absent label is unknown.
        source: Id of the source the row comes from.
        pair: Id shared by the rows of one contrast or counterfactual set.
        split: ``train``, ``dev`` or ``test``.
        meta: What else upstream knows. ``any_of`` lists labels (comma separated) of which at least one holds
            although it is unknown which.
    """

    text: str
    context: str | None = None
    lang: str
    labels: Mapping[str, int]
    source: str
    pair: str = ""
    split: str = "train"
    meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def any_of(self) -> tuple[str, ...]:
        """Labels of which at least one holds, although it is unknown which."""
        listed = self.meta.get("any_of", "")
        return tuple(listed.split(",")) if listed else ()

    @property
    def unlawful(self) -> bool:
        """Whether the row is known to break at least one rule."""
        return bool(self.any_of) or any(self.labels.values())


class Refusal(NamedTuple):
    """Why a row was not read: file, line (or row number in Parquet), reason. It never holds the text."""

    file: str
    line: int
    reason: str


class Rows(NamedTuple):
    """The good rows of a file and the refusals of the others."""

    records: list[Record]
    refused: list[Refusal]


class _BadRowError(ValueError):
    """A row breaks the schema; the message is the reason given to the user."""


def _string(row: Mapping[str, Any], key: str, default: str = "") -> str:
    value = row.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise _BadRowError(f"'{key}' must be a string")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise _BadRowError(f"'{key}' is not valid UTF-8")
    return value


def _ids(value: object, key: str) -> list[str]:
    known = load_taxonomy().ids
    if not isinstance(value, list):
        raise _BadRowError(f"'{key}' must be a list of label ids")
    for number, label in enumerate(value, 1):
        if label not in known:
            raise _BadRowError(f"entry {number} of '{key}' is not a label id of the taxonomy")
    return value


def _labels(row: Mapping[str, Any]) -> dict[str, int]:
    """Read both label forms: ours, ``{id: 0|1}``, and the user's, a list of ids with ``known``."""
    value = row.get("labels")
    if isinstance(value, dict):
        _ids(list(value), "labels")
        labels = {label: mark for label, mark in value.items() if mark is not None}
        if any(mark not in (0, 1) for mark in labels.values()):
            raise _BadRowError("every value of 'labels' must be 0 or 1; leave unknown labels out")
        return {label: int(mark) for label, mark in labels.items()}
    if not isinstance(value, list):
        raise _BadRowError("'labels' is missing; give {id: 0|1}, or a list of ids with 'known'")
    positive = _ids(value, "labels")
    known = row.get("known")
    if known is None:
        raise _BadRowError("a list of 'labels' needs 'known': \"all\" or the list of ids that were checked")
    checked = list(load_taxonomy().ids) if known == "all" else _ids(known, "known")
    return dict.fromkeys(checked, 0) | dict.fromkeys(positive, 1)


def parse_row(row: object, *, source: str = "") -> Record:
    """Turn one decoded row into a record.

    Fields we do not know are left behind on purpose: in user files they are often names and account ids.

    Args:
        row: A mapping in our form or in the user's.
        source: Source id for rows that name none.

    Raises:
        ValueError: The row breaks the schema; the message is the reason and holds no text.
    """
    if not isinstance(row, dict):
        raise _BadRowError("the row is not an object")
    text = _string(row, "text")
    if not text.strip():
        raise _BadRowError("'text' is missing or empty")
    split = _string(row, "split") or "train"
    if split not in SPLITS:
        raise _BadRowError(f"'split' must be one of {', '.join(SPLITS)}")
    meta = row.get("meta") or {}
    if not isinstance(meta, dict) or not all(isinstance(part, str) for pair in meta.items() for part in pair):
        raise _BadRowError("'meta' must map strings to strings")
    return Record(
        text=text,
        context=_string(row, "context") or None,
        lang=_string(row, "lang") or UNDETERMINED,
        labels=_labels(row),
        source=_string(row, "source") or source,
        pair=_string(row, "pair"),
        split=split,
        meta=meta,
    )


def _kind(path: Path) -> str:
    suffixes = path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:]
    kind = "".join(suffixes).lower()
    if kind not in {".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet"}:
        raise DataError("rows_format", f"{path.name}: rows live in .jsonl, .csv (each also .gz) or .parquet files.")
    return kind


def _cell(value: str) -> Any:
    """Read a CSV cell that holds a mapping or list: JSON, ``all``, or ids separated by ``;``."""
    if value.startswith(("{", "[")):
        return json.loads(value)
    return value if value == "all" else [part.strip() for part in value.split(";") if part.strip()]


def _csv_rows(stream: IO[str]) -> Iterator[tuple[int, object]]:
    reader = csv.reader(stream, strict=True)
    header: list[str] | None = None
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num, _BadRowError("not valid CSV; check the quotes")
            continue
        if header is None:
            header = cells
        elif len(cells) != len(header):
            yield reader.line_num, _BadRowError(f"{len(cells)} cells under a header of {len(header)}")
        else:
            row: dict[str, Any] = {key: cell for key, cell in zip(header, cells, strict=True) if cell}
            if row.get("known") and "labels" not in row:
                row["labels"] = ""
            try:
                yield reader.line_num, row | {k: _cell(row[k]) for k in ("labels", "known", "meta") if k in row}
            except ValueError:
                yield reader.line_num, _BadRowError("'labels', 'known' or 'meta' is not valid JSON")


def _json_rows(stream: IO[str]) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(stream, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, _BadRowError("not valid JSON")


def _parquet_rows(path: Path) -> Iterator[tuple[int, object]]:
    number = 0
    for batch in pq.ParquetFile(path).iter_batches():
        for row in batch.to_pylist():
            number += 1
            for key in ("labels", "meta"):
                value = row.get(key)
                if isinstance(value, list) and all(isinstance(part, tuple) for part in value):
                    row[key] = dict(value)
            yield number, row


def _raw_rows(path: Path) -> Iterator[tuple[int, object]]:
    kind = _kind(path)
    if kind == ".parquet":
        yield from _parquet_rows(path)
        return
    # surrogateescape: one badly encoded row must not cost the rows after it; _string refuses it by name.
    opener = gzip.open if kind.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        yield from (_csv_rows if kind.startswith(".csv") else _json_rows)(stream)


def read_rows(path: Path, *, source: str = "") -> Rows:
    """Read a file of rows.

    Args:
        path: ``.jsonl``, ``.csv`` (each also ``.gz``) or ``.parquet``.
        source: Source id for rows that name none; the file's stem by default.

    Returns:
        The good rows in file order, and a refusal for each other row.

    Raises:
        DataError: The file is missing, unreadable or of another format.
    """
    records: list[Record] = []
    refused: list[Refusal] = []
    try:
        for line, row in _raw_rows(path):
            try:
                if isinstance(row, _BadRowError):
                    raise row
                records.append(parse_row(row, source=source or path.name.split(".")[0]))
            except _BadRowError as bad:
                refused.append(Refusal(path.name, line, str(bad)))
    except FileNotFoundError:
        raise DataError("rows_missing", f"{path}: no such file; check the path.") from None
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        reason = type(error).__name__
        raise DataError("rows_unreadable", f"{path.name}: cannot be read as {_kind(path)} ({reason}).") from None
    return Rows(records, refused)


def as_row(record: Record) -> dict[str, Any]:
    """Turn a record into the mapping a file holds; empty optional fields are left out."""
    row = {name: getattr(record, name) for name in _COLUMNS}
    row |= {"labels": dict(record.labels), "meta": dict(record.meta)}
    return {key: value for key, value in row.items() if value or key == "labels"}


def _write(stream: IO[bytes], kind: str, records: Iterable[Record]) -> int:
    if kind == ".parquet":
        rows = [as_row(record) for record in records]
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), stream)
        return len(rows)
    count = 0
    # No name, no time: the same rows give the same bytes, so a rebuilt file can be compared by hash.
    packed = gzip.GzipFile("", "wb", fileobj=stream, mtime=0) if kind.endswith(".gz") else stream
    text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
    table = csv.DictWriter(text, _COLUMNS, restval="")
    if kind.startswith(".csv"):
        table.writeheader()
    for record in records:
        row = as_row(record)
        if kind.startswith(".csv"):
            table.writerow(row | {k: json.dumps(row[k], ensure_ascii=False) for k in ("labels", "meta") if k in row})
        else:
            text.write(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    text.flush()
    text.detach()
    if packed is not stream:
        packed.close()
    return count


def write_rows(path: Path, records: Iterable[Record]) -> int:
    """Write rows under a temporary name and rename: a killed run leaves no half file.

    Returns:
        The number of rows written.
    """
    kind = _kind(path)
    with replacing(path) as stream:
        return _write(stream, kind, records)
