"""``manifest.json``: what was scanned with what, which an audit asks for and a restart checks."""

import hashlib
import io
import json
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import fineline
from fineline.bundle import Bundle
from fineline.errors import InputError
from fineline.files import sha256_of
from fineline.own_labels import own_label
from fineline.policy import POLICIES, get_policy
from fineline.scan.documents import Fields
from fineline.scan.inputs import InputFile, compression_of, file_system
from fineline.scan.store import MANIFEST, Store
from fineline.taxonomy import Taxonomy, load_taxonomy

SCHEMA = 1
_BLOCK = 2**20
_LIBRARIES = ("numpy", "onnxruntime", "tokenizers", "pyarrow", "fsspec")


@dataclass(frozen=True, kw_only=True)
class InputEntry:
    """One input file.

    Attributes:
        url: Where it was read.
        format: Its format.
        bytes: Its size.
        sha256: Of its bytes as they are stored.
        rows_expected: Rows by a quick count (lines of text formats), for the time left; 0 where it cannot tell.
    """

    url: str
    format: str
    bytes: int
    sha256: str
    rows_expected: int


class _Hashed(io.RawIOBase):
    """Passes reads on and digests what passes."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._raw.read(len(buffer))
        buffer[: len(block)] = block
        self.digest.update(block)
        return len(block)


def survey(file: InputFile) -> InputEntry:
    """Hash an input and count its rows in one reading.

    Raises:
        InputError: It cannot be read.
    """
    system, path = file_system(file.url)
    try:
        with system.open(path, "rb") as raw:
            hashed = _Hashed(raw)
            source = io.BufferedReader(hashed, _BLOCK)
            compression = compression_of(file.url)
            # Kept until the end: when pyarrow's stream goes, it closes what it reads from.
            stream = pa.CompressedInputStream(pa.PythonFile(source, "r"), compression) if compression else source
            rows = _lines(stream)
            while source.read(_BLOCK):
                pass
        if file.format == "parquet":
            with system.open(path, "rb") as raw:
                rows = _parquet_rows(raw)
    except OSError as error:
        raise InputError("input_file", f"{file.url}: cannot be read ({type(error).__name__}).") from None
    return InputEntry(
        url=file.url,
        format=file.format,
        bytes=file.bytes,
        sha256=hashed.digest.hexdigest(),
        rows_expected=1 if file.format == "text" else rows,
    )


def _lines(stream: Any) -> int:
    """Lines up to the first damage, about which the reader of the documents tells."""
    lines = 0
    with suppress(OSError, ValueError):
        while block := stream.read(_BLOCK):
            lines += block.count(b"\n")
    return lines


def _parquet_rows(raw: Any) -> int:
    with suppress(OSError, ValueError):
        return int(pq.ParquetFile(raw).metadata.num_rows)
    return 0


def settings(bundle: Bundle, fields: Fields, shard_rows: int, remembered: int, threads: int) -> dict[str, Any]:
    """What the stored bytes depend on besides the input."""
    return {
        "bundle": bundle.meta.digest,
        "fields": asdict(fields),
        "shard_rows": shard_rows,
        "remembered": remembered,
        "threads": threads,
    }


def open_manifest(store: Store, bundle: Bundle, chosen: dict[str, Any], inputs: Sequence[InputEntry]) -> dict[str, Any]:
    """The manifest in the folder, or one for a new scan, not written yet.

    Args:
        store: The output.
        bundle: The model.
        chosen: From ``settings``.
        inputs: Surveyed input files in order.

    Raises:
        InputError: The folder holds a scan of other inputs or with other settings.
    """
    manifest = store.manifest()
    if manifest is None:
        return {
            "schema": SCHEMA,
            "state": "new",
            "bundle": _bundle_entry(bundle),
            "settings": chosen,
            "inputs": [asdict(entry) for entry in inputs],
            "runs": [],
        }
    _compare(store, manifest, chosen, inputs)
    return manifest


def start_run(store: Store, manifest: dict[str, Any], bundle: Bundle, policy: str, engine: dict[str, Any]) -> None:
    """Add a run to the manifest and put it in place."""
    manifest["state"] = "running"
    manifest["policy"] = {
        "name": policy,
        "sha256": sha256_of(POLICIES / f"{get_policy(policy).name}.toml"),
        "thresholds": bundle.meta.thresholds[policy],
    }
    manifest["runs"].append({"engine": engine, "versions": _versions(), "started": _now(), "finished": None})
    _write(store, manifest)


def finish_run(store: Store, manifest: dict[str, Any], counts: dict[str, int], by_file: list[tuple[int, int]]) -> None:
    """Put the final manifest in place: counts, rows by file, and the end of this run."""
    for entry, (documents, rejected) in zip(manifest["inputs"], by_file, strict=True):
        entry |= {"documents": documents, "rejected": rejected}
    manifest |= {"state": "complete", "counts": counts}
    manifest["runs"][-1]["finished"] = _now()
    _write(store, manifest)


def _write(store: Store, manifest: dict[str, Any]) -> None:
    store.put(MANIFEST, (json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace"))


def taxonomy_of(manifest: Mapping[str, Any]) -> Taxonomy:
    """The labels as the bundle of a scan meant them."""
    own = manifest["bundle"].get("own_labels", ())
    return load_taxonomy().extended(own_label(table, MANIFEST) for table in own)


def _compare(store: Store, manifest: dict[str, Any], chosen: dict[str, Any], inputs: Sequence[InputEntry]) -> None:
    held = manifest.get("settings", {})
    other = [name for name, value in chosen.items() if held.get(name) != value]
    if [entry.get("sha256") for entry in manifest.get("inputs", [])] != [entry.sha256 for entry in inputs]:
        other.append("inputs")
    if manifest.get("schema") != SCHEMA:
        other = ["schema"]
    if other:
        raise InputError(
            "output_other",
            f"{store.output}: holds a scan that differs in {', '.join(other)}; scan into a new folder, or as before.",
        )


def _bundle_entry(bundle: Bundle) -> dict[str, Any]:
    meta = bundle.meta
    return {
        "model": bundle.model_id,
        "digest": meta.digest,
        "files": meta.files,
        "labels": list(meta.labels),
        "taxonomy": meta.taxonomy,
        "own_labels": list(meta.own_labels),
        "normaliser": meta.normaliser,
        "quantisation": meta.quantisation,
    }


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"fineline": fineline.__version__, "python": platform.python_version(), **libraries}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
