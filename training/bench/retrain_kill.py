"""``kill -9`` in every station of a run, and whether it ends in the same files as one that nobody touched."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TIMED = {"bundle/bundle.json", "bundle/README.md", "eval/report.json", "before/report.json"}
"""Files that state how long something took; they are compared without that."""
_TIMES = {"stations", "digest", "minutes", "speed", "peak_memory_gib"}
_TIME_LINE = re.compile(r" min \(peak| ms a text")
_LEFT_OUT = re.compile(r"(\.done\.json|checkpoint\.pt)$")
"""Markers and the checkpoint hold times and nothing else that a result depends on."""


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(entry) for key, entry in value.items() if key not in _TIMES}
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def _content(path: Path, name: str, folder: Path) -> bytes:
    if path.suffix == ".txt":  # what a command said, which names the folder
        return path.read_bytes().replace(str(folder).encode(), b"")
    if name not in _TIMED:
        return path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_without_times(json.loads(path.read_text(encoding="utf-8")))).encode()
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not _TIME_LINE.search(line)).encode()


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a run that must not depend on when or how often it was started."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not _LEFT_OUT.search(name):
            found[name] = hashlib.sha256(_content(path, name, folder)).hexdigest()
    return found


def different(one: Path, other: Path) -> list[str]:
    """Names of files that are not the same in two runs, or in one of them only."""
    first, second = contents(one), contents(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True
    )


class _Told(threading.Thread):
    """Reads what a process says; ``reached`` is set once it names the station ``before``, or ends."""

    def __init__(self, process: subprocess.Popen[str], before: str | None) -> None:
        super().__init__(daemon=True)
        self._process, self._before = process, before
        self.reached = threading.Event()
        self.start()

    def run(self) -> None:
        """Read to the end: a full pipe would block the process."""
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if self._before is None or line.startswith(f"{self._before}: "):
                    self.reached.set()
        self.reached.set()


def kill_in_every_station(
    command: Sequence[str], folder: Path, seconds: dict[str, float], seed: int
) -> list[dict[str, Any]]:
    """Start a run again and again, kill it in one station after the other, and let it end.

    Args:
        command: The command of the run.
        folder: Its run folder.
        seconds: Stations in order, with the time that each takes.
        seed: Of the moments.

    Returns:
        For each station the moment aimed at, and the station the run was in when it was killed.

    Raises:
        RuntimeError: The run did not end well after the last kill.
    """
    rng = random.Random(seed)
    kills = []
    names = list(seconds)
    for place, name in enumerate(names):
        process = _start(command)
        told = _Told(process, names[place - 1] if place else None)
        if place:
            told.reached.wait()
        moment = rng.uniform(0.05, 0.9) * seconds[name]
        time.sleep(moment)
        over = process.poll() is not None
        if not over:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        told.join()
        hit = next((other for other in names if not (folder / f"{other}.done.json").exists()), None)
        kills.append({"station": name, "after_seconds": round(moment, 2), "hit": None if over else hit})
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the run ended with status {done.returncode}: {done.stderr[-500:]}")
    return kills
