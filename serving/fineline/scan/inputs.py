"""Which files a scan reads, in which order, and how one is opened."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from fineline.errors import ConfigError, InputError

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}
"""Format by the end of a name; ``.json`` holds one object a line, as published corpora have it."""

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""Second end of the name of a compressed file (not of Parquet, which compresses inside)."""

_BUFFER = 2**20
_BLOCK = 8 * 2**20
"""Bytes fetched at once from an object store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file to read.

    Attributes:
        url: Absolute local path, or fsspec URL.
        format: ``jsonl``, ``csv``, ``parquet`` or ``text``.
        bytes: Its size where it lies.
    """

    url: str
    format: str
    bytes: int


def compression_of(url: str) -> str | None:
    """Name of the compression that the end of a URL tells, as pyarrow calls it."""
    return next((name for end, name in COMPRESSIONS.items() if url.endswith(end)), None)


def _format_of(path: str) -> str | None:
    """Format by name; ``None`` for a file that is no input."""
    name = path.rsplit("/", 1)[-1]
    if name.startswith("."):
        return None
    for end in COMPRESSIONS:
        if name.endswith(end):
            name = name.removesuffix(end)
            return None if name.endswith(".parquet") else _format_of(name)
    return next((kind for end, kind in FORMATS.items() if name.endswith(end)), None)


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path there.

    Raises:
        InputError: There is no such protocol.
        ConfigError: Its package is not installed.
    """
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigError("extra_missing", f"{url}: cannot be opened here: {error}.") from None
    except ValueError as error:
        raise InputError("input_url", f"{url}: no URL that fsspec can open ({error}).") from None
    return system, path


def list_inputs(url: str) -> tuple[InputFile, ...]:
    """The input files at a place, sorted by path, so that numbers stay the same from run to run.

    A folder is searched to the bottom; hidden files and those whose name tells no known format are left out.

    Args:
        url: File, folder or glob; local path or fsspec URL.

    Raises:
        InputError: There is none, or the place cannot be listed.
        ConfigError: The package for the URL's protocol is not installed.
    """
    system, path = file_system(url)
    try:
        # A name with brackets is a file before it is a pattern.
        if system.isfile(path):
            found = {path: system.info(path)}
        elif system.isdir(path):
            found = system.find(path, detail=True)
        else:
            found = {name: info for name, info in system.glob(path, detail=True).items() if info["type"] == "file"}
    except Exception as error:  # each storage has its own classes
        raise _unreadable(url, error) from None
    local = isinstance(system, LocalFileSystem)
    files = tuple(
        InputFile(url=name if local else system.unstrip_protocol(name), format=kind, bytes=int(info["size"]))
        for name, info in sorted(found.items())
        if (kind := _format_of(name))
    )
    if not files:
        known = ", ".join(FORMATS)
        raise InputError("input_none", f"{url}: no file to read; names end in {known}, and .gz or .zst after that.")
    return files


def _unreadable(url: str, error: Exception) -> InputError:
    return InputError("input_file", f"{url}: cannot be read ({type(error).__name__}); give a file, folder or glob.")


class _Source(io.RawIOBase):
    """A file whose storage's errors are ours, so that what a decoder raises is known to be damage of the content."""

    def __init__(self, url: str, raw: Any) -> None:
        self._url = url
        self._raw = raw

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self._raw.read(len(buffer))
        except Exception as error:
            raise _unreadable(self._url, error) from None
        buffer[: len(piece)] = piece
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._raw.seek(offset, whence))

    def tell(self) -> int:
        return int(self._raw.tell())


@contextmanager
def opened(file: InputFile) -> Iterator[IO[bytes]]:
    """Open a file's content, unpacked; pieces of it are read as they are asked for.

    Raises:
        InputError: The storage fails, here or while the file is read.
    """
    system, path = file_system(file.url)
    try:
        raw = system.open(path, "rb", block_size=_BLOCK)
    except Exception as error:
        raise _unreadable(file.url, error) from None
    with raw:
        source: Any = io.BufferedReader(_Source(file.url, raw), _BUFFER)
        compression = compression_of(file.url)
        if compression:
            # Not fsspec's own: it stops after the first zstd frame, and takes a cut zstd file for a whole one.
            source = io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(source, "r"), compression), _BUFFER)
        yield source
