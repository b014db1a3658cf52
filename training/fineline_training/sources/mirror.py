"""Where the files of the sources are, whether they are the pinned ones, and how to fetch them.

A mirror is a folder with one subfolder per source id. It is named by ``--mirror`` or ``FINELINE_MIRROR``, and the
environment is read when a command asks, never at import.
"""

import http.client
import io
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fineline.errors import DataError
from fineline.files import replacing, sha256_of
from fineline_training.sources.registry import Source, SourceFile

MIRROR_VARIABLE = "FINELINE_MIRROR"
TIMEOUT_SECONDS = 60
_BLOCK = 1 << 16

Progress = Callable[[int], None]
Fetch = Callable[[str, Progress], bytes]


class State(StrEnum):
    """What a mirror holds of a source or file."""

    PRESENT = "present"
    MISSING = "missing"
    MISMATCH = "hash mismatch"


@dataclass(frozen=True, kw_only=True)
class SourceStatus:
    """What a mirror holds of one source; ``state`` is the worst of its files."""

    source: Source
    files: dict[str, State]

    @property
    def state(self) -> State:
        """``missing`` before ``hash mismatch`` before ``present``; a source without files is always present."""
        states = set(self.files.values())
        return next((state for state in (State.MISSING, State.MISMATCH) if state in states), State.PRESENT)


def find_mirror(mirror: Path | None = None) -> Path | None:
    """The folder named by the argument, else by ``FINELINE_MIRROR``, else ``None``.

    Raises:
        DataError: A mirror is named but is no folder.
    """
    named = mirror or (Path(os.environ[MIRROR_VARIABLE]) if os.environ.get(MIRROR_VARIABLE) else None)
    if named is not None and not named.is_dir():
        raise DataError("mirror_missing", f"The mirror {named} is no folder; check --mirror or {MIRROR_VARIABLE}.")
    return named


def file_state(file: SourceFile, folder: Path) -> State:
    """Compare one file with its pinned hash."""
    path = folder / file.name
    if not path.is_file():
        return State.MISSING
    return State.PRESENT if sha256_of(path) == file.sha256 else State.MISMATCH


def source_status(source: Source, mirror: Path) -> SourceStatus:
    """Check every file of a source in a mirror."""
    folder = mirror / source.id
    return SourceStatus(source=source, files={file.name: file_state(file, folder) for file in source.files})


def fetch_https(url: str, progress: Progress) -> bytes:
    """Download one address.

    Raises:
        DataError: The address is not https, or cannot be read.
    """
    if not url.startswith("https://"):
        raise DataError("pull_address", f"{url}: only https addresses are fetched.")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
            body = io.BytesIO()
            while block := response.read(_BLOCK):
                body.write(block)
                progress(len(block))
            return body.getvalue()
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", error)
        raise DataError("pull_failed", f"{url}: download failed ({reason}); retry, or name a mirror.") from None


def _download(source: Source, file: SourceFile, fetch: Fetch, progress: Progress) -> bytes:
    body = fetch(source.url(file), progress)
    member = file.upstream.partition("!")[2]
    if not member:
        return body
    try:
        return zipfile.ZipFile(io.BytesIO(body)).read(member)
    except (zipfile.BadZipFile, KeyError):
        raise DataError("pull_archive", f"{source.id}: the archive upstream holds no '{member}'.") from None


def pull_file(
    source: Source,
    file: SourceFile,
    target: Path,
    *,
    mirror: Path | None = None,
    fetch: Fetch = fetch_https,
    progress: Progress = lambda _: None,
) -> bool:
    """Bring one file into a data folder: copied from a mirror, or downloaded from the pinned commit.

    The hash is checked under a temporary name, so a wrong file never takes the right one's place.

    Args:
        source: The source.
        file: One of its files.
        target: Data folder; the file goes to ``target/<source id>/<name>``.
        mirror: Folder to copy from; ``None`` downloads.
        fetch: Downloads an address.
        progress: Called with the number of bytes received.

    Returns:
        Whether anything was written; ``False`` where the right file stood there already.

    Raises:
        DataError: The file cannot be had, or is not the pinned one.
    """
    if file_state(file, target / source.id) is State.PRESENT:
        return False
    path = target / source.id / file.name
    if mirror is not None:
        origin = mirror / source.id / file.name
        if not origin.is_file():
            raise DataError("mirror_file", f"{source.id}: the mirror holds no {file.name}.")
        content = origin.read_bytes()
        progress(len(content))
    else:
        content = _download(source, file, fetch, progress)
    with replacing(path) as stream:
        stream.write(content)
        stream.flush()
        if sha256_of(Path(stream.name)) != file.sha256:
            raise DataError("pull_hash", f"{source.id}: {file.name} is not the pinned file; nothing was written.")
    return True
