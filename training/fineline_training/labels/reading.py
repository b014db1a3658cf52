"""Files of labelled rows, whatever wrote them, into rows of our schema: what is good, what is refused, and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fineline.errors import DataError
from fineline.files import sha256_of
from fineline_training.labels.encodings import Decoder
from fineline_training.labels.exports import Context, reader
from fineline_training.labels.mapping import FieldMap
from fineline_training.labels.team_gates import Placed
from fineline_training.labels.votes import UnansweredError
from fineline_training.records import Refusal
from fineline_training.rowfiles import KINDS, RowError, file_kind, raw_rows

FORMATS = ("auto", "jsonl", "csv", "parquet", "labelstudio", "argilla", "feedback")
FEEDBACK = "feedback"
_JSON = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_KINDS = {
    "jsonl": _JSON,
    "csv": (".csv", ".csv.gz", ".tsv", ".tsv.gz"),
    "parquet": (".parquet",),
    FEEDBACK: (".jsonl", ".jsonl.gz"),
    "labelstudio": _JSON,
    "argilla": (*_JSON, ".parquet"),
}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read files.

    Attributes:
        format: One of ``FORMATS``.
        fields: Names in the files.
        annotator: Who labelled the rows that do not say.
        source: Source of rows that name none; ``feedback`` for feedback, otherwise the file's name without endings.
        encoding: Encoding of rows that are not UTF-8; found out row by row if empty.
    """

    format: str = "auto"
    fields: FieldMap = field(default_factory=FieldMap)
    annotator: str = ""
    source: str = ""
    encoding: str = ""


class FileRows(NamedTuple):
    """What one file gave.

    Attributes:
        name: Its name.
        sha256: Hex digest.
        format: What it was read as.
        rows: The good rows and their places.
        refused: Every other row, and, as line 0, a file that is damaged from somewhere on.
        unanswered: Rows on which nobody has answered.
        recovered: Rows that were not in UTF-8 and could be read.
    """

    name: str
    sha256: str
    format: str
    rows: list[Placed]
    refused: list[Refusal]
    unanswered: int
    recovered: int


def _raw(path: Path, name: str, decoder: Decoder, refused: list[Refusal]) -> Iterator[tuple[int, object]]:
    """The rows up to where the file is damaged: that is a refusal too, and the end of this file alone."""
    try:
        yield from raw_rows(path, decoder)
    except DataError as error:
        refused.append(Refusal(name, 0, error.message.removeprefix(f"{path.name}: ").rstrip(".")))


def read_file(path: Path, ids: Sequence[str], options: ReadOptions, name: str = "") -> FileRows:
    """Read one file; nothing in it stops the reading of another.

    Args:
        path: The file.
        ids: Label ids that rows may use.
        options: How to read it.
        name: What reports call it; its own name by default.

    Raises:
        ConfigError: The encoding is none.
        DataError: There is no such file, or its ending is not one of the format's.
    """
    name = name or path.name
    if not path.is_file():
        raise DataError("rows_missing", f"{path}: no such file; check the path.")
    file_kind(path, _KINDS.get(options.format, KINDS))
    source = options.source or (FEEDBACK if options.format == FEEDBACK else path.name.split(".")[0])
    context = Context(fields=options.fields, ids=ids, annotator=options.annotator, source=source)
    decoder = Decoder(options.encoding)
    rows: list[Placed] = []
    refused: list[Refusal] = []
    unanswered = 0
    read = None
    for line, raw in _raw(path, name, decoder, refused):
        try:
            if isinstance(raw, RowError):
                raise raw
            if not isinstance(raw, dict):
                raise RowError("the row is not an object")
            read = read or reader(options.format, raw)
            rows.append(Placed(name, line, read(raw, context)))
        except UnansweredError:
            unanswered += 1
        except RowError as bad:
            refused.append(Refusal(name, line, str(bad)))
        except (AttributeError, KeyError, TypeError, ValueError):
            # Exports are deep and come in many versions: a part that is missing or of another type costs its row.
            refused.append(Refusal(name, line, f"is not built like a row of {_said(read)}"))
    return FileRows(
        name=name,
        sha256=sha256_of(path),
        format=_said(read),
        rows=rows,
        refused=refused,
        unanswered=unanswered,
        recovered=decoder.recovered,
    )


def _said(read: object) -> str:
    """The shape the rows have, in words."""
    return getattr(read, "__name__", "nothing").replace("flat", "a table").replace("_", " ")
