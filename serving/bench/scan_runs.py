"""Scans in fresh processes, watched from outside: speed, memory, and what is left after a kill."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_CHILD = """
import json, sys
from pathlib import Path
from fineline.scan.run import ScanSpec, scan
if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    result = scan(ScanSpec(**spec | {"bundle": Path(spec["bundle"])}))
    print(json.dumps({"counts": result.counts, "seconds": result.seconds, "resumed": result.resumed}))
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One scan.

    Attributes:
        engine: ``local`` or ``ray``.
        workers: Scoring processes.
        documents: Documents scored.
        tokens: Tokens given to the model, markers included.
        seconds: From the first shard to the last, model loading included.
        documents_per_second: Their quotient.
        tokens_per_second: Their quotient.
        memory_peak: Bytes of all its processes, shared pages counted once (PSS); highest sample.
        memory_quarters: Highest sample of each quarter of the run: flat if they do not grow.
    """

    engine: str
    workers: int
    documents: int
    tokens: int
    seconds: float
    documents_per_second: float
    tokens_per_second: float
    memory_peak: int
    memory_quarters: tuple[int, ...]


def _start(source: Path, output: Path, bundle: Path, engine: str, workers: int) -> "subprocess.Popen[str]":
    spec = {"input": str(source), "output": str(output), "bundle": str(bundle), "engine": engine, "workers": workers}
    # A file, not -c: the worker processes import the main module again.
    child = output.with_name(f"{output.name}.child.py")
    output.parent.mkdir(parents=True, exist_ok=True)
    child.write_text(_CHILD)
    return subprocess.Popen(
        [sys.executable, str(child), json.dumps(spec | {"remembered": 0})], stdout=subprocess.PIPE, text=True
    )


def _memory(process: psutil.Process) -> int:
    """PSS of a process and all below it; those that end meanwhile count nothing."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.Error, AttributeError):
            continue
    return total


def measure(source: Path, output: Path, bundle: Path, engine: str, workers: int, every: float = 1.0) -> Measured:
    """Scan once in a fresh process and watch its memory."""
    child = _start(source, output, bundle, engine, workers)
    process = psutil.Process(child.pid)
    samples: list[int] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(every):
            try:
                samples.append(_memory(process))
            except psutil.NoSuchProcess:
                return

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    printed, _ = child.communicate()
    ended.set()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"the scan of {source} with {engine} ended with status {child.returncode}")
    told = json.loads(printed.splitlines()[-1])
    documents, tokens, seconds = told["counts"]["documents"], told["counts"]["tokens"], told["seconds"]
    cuts = [samples[i * len(samples) // 4 : (i + 1) * len(samples) // 4] for i in range(4)]
    return Measured(
        engine=engine,
        workers=workers,
        documents=documents,
        tokens=tokens,
        seconds=round(seconds, 2),
        documents_per_second=round(documents / seconds, 2),
        tokens_per_second=round(tokens / seconds, 1),
        memory_peak=max(samples, default=0),
        memory_quarters=tuple(max(cut, default=0) for cut in cuts),
    )


def digests(output: Path) -> dict[str, str]:
    """sha256 of every file a scan may be compared by: scores, rejects and markers."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("scores", "rejects", "parts")
        for path in sorted((output / folder).glob("part-*"))
    }


def combined(files: dict[str, str]) -> str:
    """One sha256 for all of them."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def kill_and_resume(source: Path, folder: Path, bundle: Path, workers: int, kills: int, seed: int) -> dict[str, Any]:
    """Kill the driver with SIGKILL at random moments, start it again each time, and compare with a run left alone."""
    whole = measure(source, folder / "whole", bundle, "local", workers)
    rng = random.Random(seed)
    moments = []
    for _ in range(kills):
        moment = rng.uniform(0.2, 0.9) * whole.seconds / kills
        with _start(source, folder / "killed", bundle, "local", workers) as child:
            try:
                child.wait(moment)
                continue
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
        moments.append(
            {"second": round(moment, 2), "shards_done": len(list((folder / "killed/parts").glob("part-*.json")))}
        )
    measure(source, folder / "killed", bundle, "local", workers)
    expected, found = digests(folder / "whole"), digests(folder / "killed")
    return {"killed_at": moments, "files": len(expected), "identical": bool(expected) and expected == found}
