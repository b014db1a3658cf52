"""Rows written in the format of an input file; a file takes its place whole, when its writer is closed."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from fineline.errors import InputError
from fineline.files import replacing
from fineline.scan.inputs import InputFile, compression_of, file_system, opened

_BATCH_ROWS = 64
_GROUP_BYTES = 32 * 2**20


def _unwritable(url: str, error: Exception) -> InputError:
    return InputError("output_file", f"{url}: cannot be written ({type(error).__name__}); give another place.")


@contextmanager
def _placed(url: str) -> Iterator[IO[bytes]]:
    """Open a file that is renamed or uploaded to ``url`` when the block ends without an error."""
    system, path = file_system(url)
    if isinstance(system, LocalFileSystem):
        with replacing(Path(path)) as file:
            yield file
        return
    with NamedTemporaryFile() as spool:
        yield spool
        spool.flush()
        try:
            system.put_file(spool.name, path)
        except Exception as error:  # each storage has its own classes
            raise _unwritable(url, error) from None


class _Borrowed(io.RawIOBase):
    """A file that stays open when its compressor is closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        return self._file.write(piece)


class RowWriter:
    """Writes rows to one file; as a context manager it leaves no file behind an error.

    Args:
        url: Local path or fsspec URL; its name should end as that of ``like`` does.
        like: Input file whose format, compression and columns are taken over.
    """

    def __init__(self, url: str, like: InputFile) -> None:
        self._url = url
        self._like = like
        self._stack = ExitStack()

    def write(self, row: dict[str, Any]) -> None:
        """Add a row of ``read_rows``; columns that the input lacks hold strings, and all rows have them or none.

        Raises:
            InputError: The file cannot be written.
        """
        try:
            self._write(row)
        except OSError as error:
            raise _unwritable(self._url, error) from None

    def close(self) -> None:
        """Put the file in place.

        Raises:
            InputError: It cannot be written.
        """
        try:
            with self._stack:
                self._finish()
        except OSError as error:
            raise _unwritable(self._url, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.__exit__(kind, error, trace)

    def _open(self) -> IO[bytes]:
        file: Any = self._stack.enter_context(_placed(self._url))
        compression = compression_of(self._like.url)
        if compression:
            sink = pa.PythonFile(_Borrowed(file), "w")
            file = self._stack.enter_context(pa.CompressedOutputStream(sink, compression))
        return file  # type: ignore[no-any-return]

    def _write(self, row: dict[str, Any]) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what was held back."""


class _JsonWriter(RowWriter):
    def __init__(self, url: str, like: InputFile) -> None:
        super().__init__(url, like)
        self._file = self._open()

    def _write(self, row: dict[str, Any]) -> None:
        try:
            line = json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
            line = json.dumps(row).encode()
        self._file.write(line + b"\n")


class _CsvWriter(RowWriter):
    def __init__(self, url: str, like: InputFile) -> None:
        super().__init__(url, like)
        self._file = self._open()
        self._columns: list[str] | None = None

    def _header(self, row: dict[str, Any]) -> list[str]:
        with opened(self._like) as stream:
            lines = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            columns = next(filter(None, csv.reader(lines)), [])
        columns += [name for name in row if name not in columns]
        if columns:
            self._put(columns)
        return columns

    def _put(self, cells: list[Any]) -> None:
        line = io.StringIO(newline="")
        # The writer quotes the characters of its line end only: a lone "\r" is safe with "\r\n" alone.
        csv.writer(line, lineterminator="\r\n").writerow(cells)
        self._file.write(line.getvalue().encode("utf-8", "surrogateescape"))

    def _write(self, row: dict[str, Any]) -> None:
        if self._columns is None:
            self._columns = self._header(row)
        self._put([row[name] for name in self._columns])

    def _finish(self) -> None:
        if self._columns is None:
            self._header({})


class _ParquetWriter(RowWriter):
    def __init__(self, url: str, like: InputFile) -> None:
        super().__init__(url, like)
        self._file = self._open()
        self._writer: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []

    def _start(self, row: dict[str, Any]) -> pq.ParquetWriter:
        try:
            with opened(self._like) as stream:
                schema = pq.read_schema(stream)
        except pa.ArrowException:  # damaged: it has no rows either
            schema = pa.schema([])
        added = [pa.field(name, pa.string()) for name in row if name not in schema.names]
        if added:
            # Notes of other programs in the metadata describe the columns, and now these are others.
            schema = pa.schema([*schema, *added])
        return self._stack.enter_context(pq.ParquetWriter(self._file, schema, compression="zstd"))

    def _write(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            self._writer = self._start(row)
        self._rows.append(row)
        if len(self._rows) == _BATCH_ROWS:
            self._pack(self._writer, _GROUP_BYTES)

    def _pack(self, writer: pq.ParquetWriter, least: int) -> None:
        """Turn rows into columns, and write them as a row group once they have so many bytes."""
        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, schema=writer.schema))
            self._rows = []
        if self._batches and sum(batch.nbytes for batch in self._batches) >= least:
            writer.write_table(pa.Table.from_batches(self._batches))
            self._batches = []

    def _finish(self) -> None:
        self._pack(self._writer or self._start({}), 0)


class _TextWriter(RowWriter):
    """The text becomes the file; other columns become one JSON object beside it, in ``NAME.meta``."""

    def _write(self, row: dict[str, Any]) -> None:
        self._open().write(row["text"].encode())
        rest = {name: value for name, value in row.items() if name != "text"}
        if rest:
            beside = self._stack.enter_context(_placed(self._url + ".meta"))
            beside.write(json.dumps(rest, ensure_ascii=False).encode() + b"\n")


_WRITERS: dict[str, type[RowWriter]] = {
    "jsonl": _JsonWriter,
    "csv": _CsvWriter,
    "parquet": _ParquetWriter,
    "text": _TextWriter,
}


def open_writer(url: str, like: InputFile) -> RowWriter:
    """Start a file in the format, compression and columns of an input.

    Of a text file nothing appears until it gets its row; other formats leave a file without rows.

    Args:
        url: Local path or fsspec URL of the new file; its name should end as that of ``like`` does.
        like: The input.

    Raises:
        InputError: It cannot be written.
    """
    try:
        return _WRITERS[like.format](url, like)
    except OSError as error:
        raise _unwritable(url, error) from None
