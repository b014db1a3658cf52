"""The output folder of a scan: one scores file, one rejects file and one completion marker a shard.

The marker is written last and everything is put in place whole, so a killed scan leaves complete shards and nothing
that looks like one. The scores of an exact duplicate are not stored again: its ``logits``, ``starts``, ``ends``,
``windows`` and ``tokens`` are null, ``duplicate_of`` says where they stand, and ``read_scores`` fills them in.
"""

import hashlib
import io
import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from fineline.config import build
from fineline.errors import ConfigError, InputError
from fineline.files import replacing
from fineline.scan.inputs import file_system
from fineline.scan.shards import Shard

MANIFEST = "manifest.json"
_SHARED = ["windows", "tokens", "logits", "starts", "ends"]
_HELD_CHUNKS = 64
_ANY_PART = re.compile(r"part-(\d+)\.(?:json|jsonl|parquet)")
_FOLDERS = ("parts", "scores", "rejects")


def schema(labels: int) -> pa.Schema:
    """Columns of a scores file for a bundle with so many labels."""
    return pa.schema(
        [
            ("file", pa.int32()),
            ("row", pa.int64()),
            ("id", pa.string()),
            ("lang", pa.string()),
            ("source", pa.string()),
            ("characters", pa.int32()),
            ("windows", pa.int32()),
            ("tokens", pa.int32()),
            ("logits", pa.list_(pa.float32(), labels)),
            ("starts", pa.list_(pa.int32())),
            ("ends", pa.list_(pa.int32())),
            ("duplicate_of", pa.int64()),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Part:
    """A completed shard, as its marker states it.

    Attributes:
        number: Number of the shard.
        rows: Documents, duplicates included.
        rejected: Rows that hold no document.
        duplicates: Documents whose scores stand elsewhere.
        characters: Characters of all documents.
        tokens: Tokens given to the model.
        scores: sha256 of the scores file.
        rejects: sha256 of the rejects file.
    """

    number: int
    rows: int
    rejected: int
    duplicates: int
    characters: int
    tokens: int
    scores: str
    rejects: str


class Store:
    """Reads and writes an output folder; cheap to make and to send to another process.

    Args:
        output: Local path or fsspec URL.
    """

    def __init__(self, output: str) -> None:
        # A worker may run in another folder.
        self.output = output if "://" in output else str(Path(output).absolute())

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.output,)

    def place(self, name: str) -> tuple[Any, str]:
        """File system and path of an entry, ``scores/part-00000.parquet`` for instance."""
        system, root = file_system(self.output)
        return system, posixpath.join(root, name)

    def put(self, name: str, content: bytes) -> None:
        """Put a file in place whole: by renaming where paths are local, by one request elsewhere.

        Raises:
            InputError: It cannot be written.
        """
        system, path = self.place(name)
        try:
            if isinstance(system, LocalFileSystem):
                with replacing(Path(path)) as file:
                    file.write(content)
            else:
                system.pipe_file(path, content)
        except Exception as error:  # each storage has its own classes
            raise self._failed(f"{name} cannot be written", error) from None

    def get(self, name: str) -> bytes | None:
        """Content of a file; ``None`` if there is none."""
        system, path = self.place(name)
        try:
            content: bytes = system.cat_file(path)
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._failed(f"{name} cannot be read", error) from None
        return content

    def _failed(self, what: str, error: Exception) -> InputError:
        return InputError("output_file", f"{self.output}: {what} ({type(error).__name__}); give another output.")

    def write(self, shard: Shard, table: pa.Table) -> Part:
        """Store a scored shard; the marker comes last."""
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        scores = buffer.getvalue()
        rejects = "".join(json.dumps(asdict(reject)) + "\n" for reject in shard.rejects).encode()
        part = Part(
            number=shard.number,
            rows=table.num_rows,
            rejected=len(shard.rejects),
            duplicates=len(shard.duplicates),
            characters=pc.sum(table["characters"]).as_py() or 0,
            tokens=pc.sum(table["tokens"]).as_py() or 0,
            scores=hashlib.sha256(scores).hexdigest(),
            rejects=hashlib.sha256(rejects).hexdigest(),
        )
        self.put(_name("scores", shard.number), scores)
        self.put(_name("rejects", shard.number), rejects)
        self.put(_name("parts", shard.number), (json.dumps(asdict(part)) + "\n").encode())
        return part

    def completed(self) -> dict[int, Part]:
        """Completed shards by number; a marker whose files are gone does not count."""
        files = {folder: self._numbers(folder) for folder in _FOLDERS}
        found = {}
        for number in sorted(files["parts"] & files["scores"] & files["rejects"]):
            name = _name("parts", number)
            try:
                found[number] = build(Part, json.loads(self.get(name) or b""), name)
            except (ValueError, ConfigError):
                raise InputError(
                    "output_damaged", f"{self.output}: {name} is not a completion marker; remove it and scan again."
                ) from None
        return found

    def _numbers(self, folder: str) -> set[int]:
        system, path = self.place(folder)
        # Other processes wrote there since the last listing, which the file system may have kept.
        system.invalidate_cache()
        try:
            names = [posixpath.basename(entry) for entry in system.ls(path, detail=False)]
        except FileNotFoundError:
            return set()
        except Exception as error:
            raise self._failed(f"{folder} cannot be listed", error) from None
        return {int(match.group(1)) for name in names if (match := _ANY_PART.fullmatch(name))}

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a killed process; local folders only, elsewhere there are none."""
        system, root = self.place("")
        if isinstance(system, LocalFileSystem):
            for folder in ("", *_FOLDERS):
                for path in Path(root, folder).glob(".*.tmp"):
                    path.unlink(missing_ok=True)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest; ``None`` in a new folder.

        Raises:
            InputError: It is not JSON.
        """
        content = self.get(MANIFEST)
        try:
            return dict(json.loads(content)) if content is not None else None
        except (ValueError, TypeError):
            raise InputError(
                "output_damaged", f"{self.output}: {MANIFEST} is not readable; scan into a new folder."
            ) from None

    def rejects(self) -> Iterator[dict[str, Any]]:
        """The rows that hold no document, in input order: ``file``, ``row`` and ``reason``."""
        for number in self.completed():
            for line in (self.get(_name("rejects", number)) or b"").splitlines():
                yield json.loads(line)

    def scores(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """The scores file of one shard as it is stored."""
        content = self.get(_name("scores", number))
        if content is None:
            raise InputError("output_damaged", f"{self.output}: {_name('scores', number)} is missing; scan again.")
        return pq.read_table(io.BytesIO(content), columns=columns)


def completed(output: str) -> set[int]:
    """Numbers of the completed shards of an output folder."""
    return set(Store(output).completed())


def read_scores(output: str) -> Iterator[pa.Table]:
    """All scores of a scan, a table a shard in input order, duplicates filled in from the document they repeat.

    Besides one shard it holds the scores of those documents that a later one repeats.

    Raises:
        InputError: A shard is missing.
    """
    store = Store(output)
    parts = store.completed()
    if set(parts) != set(range(len(parts))):
        raise InputError("output_incomplete", f"{output}: shards are missing; run the scan to its end first.")
    wanted = _repeated(store, parts)
    held: list[pa.Table] = []
    held_numbers = np.zeros(0, dtype=np.int64)
    first = 0
    for number in parts:
        table = store.scores(number)
        numbers = np.arange(first, first + table.num_rows)
        first += table.num_rows
        own = np.isin(numbers, wanted, assume_unique=True)
        if own.any():
            held = [*held, table.select(_SHARED).filter(pa.array(own))]
            held = [pa.concat_tables(held).combine_chunks()] if len(held) > _HELD_CHUNKS else held
            held_numbers = np.concatenate([held_numbers, numbers[own]])
        yield _filled(table, held, held_numbers)


def _repeated(store: Store, parts: dict[int, Part]) -> NDArray[np.int64]:
    """Numbers of the documents that a later one repeats, ascending."""
    found = [np.zeros(0, dtype=np.int64)]
    for number, part in parts.items():
        if part.duplicates:
            found.append(store.scores(number, columns=["duplicate_of"])["duplicate_of"].drop_null().to_numpy())
    return np.unique(np.concatenate(found))


def _filled(table: pa.Table, held: list[pa.Table], held_numbers: NDArray[np.int64]) -> pa.Table:
    copies = table["duplicate_of"].is_valid().to_numpy()
    if not copies.any():
        return table
    originals = np.searchsorted(held_numbers, table["duplicate_of"].drop_null().to_numpy())
    places = np.arange(table.num_rows)
    places[copies] = np.arange(table.num_rows, table.num_rows + len(originals))
    source = pa.concat_tables([table.select(_SHARED), pa.concat_tables(held).take(pa.array(originals))])
    shared = source.combine_chunks().take(pa.array(places))
    for name in _SHARED:
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), shared[name])
    return table


def _name(folder: str, number: int) -> str:
    suffix = {"scores": "parquet", "rejects": "jsonl", "parts": "json"}[folder]
    return f"{folder}/part-{number:05d}.{suffix}"
