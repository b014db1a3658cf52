"""A training or evaluation row, and the files that hold rows.

Labels are partial: an absent label is *unknown*, never zero, because most public sets judge one or two of ours.
A bad row is refused with its file, line and reason (never its text) and the good rows around it are kept; a file
is written under a temporary name and renamed, so a killed run leaves the old file or the new one, never half.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fineline.files import replacing
from fineline.taxonomy import load_taxonomy
from fineline_training.rowfiles import MAPPINGS, RowError, file_kind, raw_rows

SPLITS = ("train", "dev", "test")
UNDETERMINED = "und"
_COLUMNS = ("text", "context", "lang", "labels", "soft", "source", "pair", "split", "meta")
_WRITTEN = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("text", "context", "lang")]
    + [("labels", pa.map_(pa.string(), pa.int8())), ("soft", pa.map_(pa.string(), pa.float64()))]
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
        soft: Label id to the share of annotators who said 1, where they differ; training reads it in place of the
            label, metrics read the label, which is the majority's (absent in a tie).
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
    soft: Mapping[str, float] = field(default_factory=dict)
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


def _string(row: Mapping[str, Any], key: str, default: str = "") -> str:
    value = row.get(key)
    if value is None:
        return default
    if not isinstance(value, str):
        raise RowError(f"'{key}' must be a string")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise RowError(f"'{key}' is not valid UTF-8")
    return value


def _ids(value: object, key: str, known: Sequence[str]) -> list[str]:
    if not isinstance(value, list):
        raise RowError(f"'{key}' must be a list of label ids")
    for number, label in enumerate(value, 1):
        if label not in known:
            raise RowError(f"entry {number} of '{key}' is not a label id of the taxonomy")
    return value


def label_marks(value: object, key: str, ids: Sequence[str]) -> dict[str, int]:
    """Read ``{label id: 0|1}``; a mark that is null is left out.

    Raises:
        ValueError: It is something else; the message is the reason and holds no text.
    """
    if not isinstance(value, dict):
        raise RowError(f"'{key}' must hold {{label id: 0|1}}")
    _ids(list(value), key, ids)
    marks = {label: mark for label, mark in value.items() if mark is not None}
    if any(mark not in (0, 1) for mark in marks.values()):
        raise RowError(f"every value of '{key}' must be 0 or 1; leave unknown labels out")
    return {label: int(mark) for label, mark in marks.items()}


def _labels(row: Mapping[str, Any], ids: Sequence[str]) -> dict[str, int]:
    """Read both label forms: ours, ``{id: 0|1}``, and the user's, a list of ids with ``known``."""
    value = row.get("labels")
    if isinstance(value, dict):
        return label_marks(value, "labels", ids)
    if not isinstance(value, list):
        raise RowError("'labels' is missing; give {id: 0|1}, or a list of ids with 'known'")
    positive = _ids(value, "labels", ids)
    known = row.get("known")
    if known is None:
        raise RowError("a list of 'labels' needs 'known': \"all\" or the list of ids that were checked")
    checked = list(ids) if known == "all" else _ids(known, "known", ids)
    return dict.fromkeys(checked, 0) | dict.fromkeys(positive, 1)


def _soft(value: object, ids: Sequence[str]) -> dict[str, float]:
    if not isinstance(value, dict):
        raise RowError("'soft' must hold {label id: share}")
    _ids(list(value), "soft", ids)
    shares = {label: share for label, share in value.items() if share is not None}
    if not all(isinstance(share, int | float) and 0 <= share <= 1 for share in shares.values()):
        raise RowError("every value of 'soft' must be a share from 0 to 1")
    return {label: float(share) for label, share in shares.items()}


def parse_row(row: object, *, source: str = "", ids: Sequence[str] | None = None) -> Record:
    """Turn one decoded row into a record.

    Fields we do not know are left behind on purpose: in user files they are often names and account ids.

    Args:
        row: A mapping in our form or in the user's.
        source: Source id for rows that name none.
        ids: Labels that the row may name; those that ship when ``None``.

    Raises:
        ValueError: The row breaks the schema; the message is the reason and holds no text.
    """
    if not isinstance(row, dict):
        raise RowError("the row is not an object")
    known = load_taxonomy().ids if ids is None else ids
    text = _string(row, "text")
    if not text.strip():
        raise RowError("'text' is missing or empty")
    split = _string(row, "split") or "train"
    if split not in SPLITS:
        raise RowError(f"'split' must be one of {', '.join(SPLITS)}")
    meta = row.get("meta") or {}
    if not isinstance(meta, dict) or not all(isinstance(part, str) for pair in meta.items() for part in pair):
        raise RowError("'meta' must map strings to strings")
    return Record(
        text=text,
        context=_string(row, "context") or None,
        lang=_string(row, "lang") or UNDETERMINED,
        labels=_labels(row, known),
        soft=_soft(row.get("soft") or {}, known),
        source=_string(row, "source") or source,
        pair=_string(row, "pair"),
        split=split,
        meta=meta,
    )


def read_rows(path: Path, *, source: str = "", ids: Sequence[str] | None = None) -> Rows:
    """Read a file of rows.

    Args:
        path: A file that ``rowfiles`` can read.
        source: Source id for rows that name none; the file's stem by default.
        ids: Labels that rows may name; those that ship when ``None``.

    Returns:
        The good rows in file order, and a refusal for each other row.

    Raises:
        DataError: The file is missing, unreadable or of another format.
    """
    records: list[Record] = []
    refused: list[Refusal] = []
    for line, row in raw_rows(path):
        try:
            if isinstance(row, RowError):
                raise row
            records.append(parse_row(row, source=source or path.name.split(".")[0], ids=ids))
        except RowError as bad:
            refused.append(Refusal(path.name, line, str(bad)))
    return Rows(records, refused)


def as_row(record: Record) -> dict[str, Any]:
    """Turn a record into the mapping a file holds; empty optional fields are left out."""
    row = {name: getattr(record, name) for name in _COLUMNS}
    row |= {"labels": dict(record.labels), "soft": dict(record.soft), "meta": dict(record.meta)}
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
            table.writerow(row | {k: json.dumps(row[k], ensure_ascii=False) for k in MAPPINGS if k in row})
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
    kind = file_kind(path, _WRITTEN)
    with replacing(path) as stream:
        return _write(stream, kind, records)
