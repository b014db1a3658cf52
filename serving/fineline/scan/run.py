"""One scan from start to end: survey, shards, engine, manifest; started again it goes on where it stopped."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fineline.bundle import load_bundle
from fineline.errors import ConfigError, InputError
from fineline.extras import require
from fineline.files import write_text
from fineline.policy import DEFAULT_POLICY, get_policy
from fineline.scan.documents import Fields
from fineline.scan.inputs import file_system, list_inputs
from fineline.scan.local import run_local
from fineline.scan.manifest import finish_run, open_manifest, settings, start_run, survey
from fineline.scan.progress import Progress
from fineline.scan.scorer import ShardScorer
from fineline.scan.shards import Shard, shards
from fineline.scan.store import Part, Store

THREADS = 1
"""Threads of a run of the model: one process a core is faster than one run on many, and the scores stay the same on a
machine with another number of cores."""


@dataclass(frozen=True, kw_only=True)
class ScanSpec:
    """What to scan, with what, where to.

    Attributes:
        input: File, folder or glob; local path or fsspec URL.
        output: Folder; local path or fsspec URL.
        fields: Names of the fields.
        bundle: Folder of the bundle; the shipped one when ``None``.
        policy: Policy named in the manifest; scores do not depend on it.
        engine: ``local`` or ``ray``.
        workers: Processes; one a core when ``None``.
        address: Of a Ray cluster; one is started on this machine when ``None``.
        shard_rows: Most rows of a shard.
        remembered: Different documents remembered to find exact duplicates, 50 bytes each; 0 scores every document.
        metrics: Prometheus text file to keep up to date.
    """

    input: str
    output: str
    fields: Fields = field(default_factory=Fields)
    bundle: Path | None = None
    policy: str = DEFAULT_POLICY
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
    shard_rows: int = 4096
    remembered: int = 2_000_000
    metrics: Path | None = None

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ConfigError("scan_engine", f"There is no engine '{self.engine}'; it is local or ray.")
        if self.shard_rows < 1 or self.remembered < 0 or (self.workers is not None and self.workers < 1):
            raise ConfigError("scan_size", "A shard has at least one row, a scan one worker, and nothing is negative.")
        if self.address is not None and self.engine != "ray":
            raise ConfigError("scan_engine", "An address is for the engine ray; give --engine ray.")
        get_policy(self.policy)


@dataclass(frozen=True, kw_only=True)
class ScanResult:
    """What a scan did.

    Attributes:
        output: The output folder.
        counts: Documents, rejected rows, duplicates, characters, tokens, shards of the whole scan.
        resumed: Shards that an earlier run had completed.
        seconds: Time of this run's scoring.
    """

    output: str
    counts: dict[str, int]
    resumed: int
    seconds: float


class _Tally:
    """Counts rows by input file as the shards pass, and lets through those that are still to be scored."""

    def __init__(self, files: int, done: Iterable[int]) -> None:
        self._done = frozenset(done)
        self._documents: Counter[int] = Counter()
        self._rejected: Counter[int] = Counter()
        self._files = files

    def pending(self, found: Iterable[Shard]) -> Iterator[Shard]:
        for shard in found:
            self._documents.update(document.file for document in shard.documents)
            self._rejected.update(reject.file for reject in shard.rejects)
            if shard.number not in self._done:
                yield shard

    def by_file(self) -> list[tuple[int, int]]:
        return [(self._documents[file], self._rejected[file]) for file in range(self._files)]


def scan(spec: ScanSpec, on_progress: Callable[[Progress], None] = lambda progress: None) -> ScanResult:
    """Score a corpus.

    Killed at any moment and called again with the same arguments, it ends with the same parts to the byte. A finished
    scan is left as it is.

    Args:
        spec: What to scan.
        on_progress: Told after each surveyed file and each completed shard.

    Raises:
        BundleError: The bundle is missing or altered.
        InputError: The input cannot be read, the output not written, or it holds another scan.
        ConfigError: The engine is not installed.
    """
    bundle = load_bundle(spec.bundle)
    store = Store(spec.output)
    inputs = list_inputs(spec.input)
    _check_apart(spec)
    progress = Progress()
    entries = []
    for file in inputs:
        entries.append(survey(file))
        progress.expected += entries[-1].rows_expected
        on_progress(progress)
    chosen = settings(bundle, spec.fields, spec.shard_rows, spec.remembered, THREADS)
    manifest = open_manifest(store, bundle, chosen, entries)
    done = store.completed()
    for part in done.values():
        progress.add(part)
    if manifest["state"] != "complete" or progress.counts() != manifest["counts"]:
        start_run(store, manifest, bundle, spec.policy, {"name": spec.engine, "workers": _workers(spec)})
        store.remove_leftovers()
        progress.earlier, progress.began = progress.rows, time.monotonic()
        tally = _Tally(len(inputs), done)
        for part in _parts(
            spec, bundle.path, tally.pending(shards(inputs, spec.fields, spec.shard_rows, spec.remembered))
        ):
            progress.add(part)
            on_progress(progress)
            if spec.metrics is not None:
                write_text(spec.metrics, progress.prometheus())
        finish_run(store, manifest, progress.counts(), tally.by_file())
    return ScanResult(
        output=spec.output,
        counts=progress.counts(),
        resumed=len(done),
        seconds=time.monotonic() - progress.began,
    )


def _workers(spec: ScanSpec) -> int:
    return spec.workers or os.cpu_count() or 1


def _parts(spec: ScanSpec, bundle: Path, pending: Iterator[Shard]) -> Iterator[Part]:
    store, make_scorer = Store(spec.output), partial(ShardScorer, bundle.absolute(), THREADS)
    if spec.engine == "local":
        return run_local(pending, make_scorer, store, _workers(spec))
    require("scan-ray", "ray")
    from fineline.scan.ray_engine import run_ray

    return run_ray(pending, make_scorer, store, _workers(spec), spec.address)


def _check_apart(spec: ScanSpec) -> None:
    """An output inside the input would be read as input the next time."""
    source, target = (file_system(url)[1].rstrip("/") for url in (spec.input, spec.output))
    if f"{target}/".startswith(f"{source}/"):
        raise InputError("output_inside_input", f"{spec.output}: lies inside the input; give a folder beside it.")
