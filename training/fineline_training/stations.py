"""Stations of a run in one folder: each leaves its files and a marker there, and is not repeated.

A station is done when its marker names the inputs of the run that is asked for; killing a run anywhere and starting it
again continues from the last station. Where several processes share a run (``accelerate launch``), they pass the
stations in ``TOGETHER`` side by side; every other station is the main process's alone.
"""

import json
import resource
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from rich.console import Console

from fineline.files import write_text

TOGETHER = "fit"
"""The station that several processes share."""
_PATIENCE = timedelta(hours=12)
"""How long a process waits for another: while the main one reads the data, the rest have nothing to do."""


def processes() -> PartialState:
    """The processes that share this run; one where nothing else was launched."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


class Stations:
    """A row of stations; each is a method of the same name.

    Args:
        names: The stations in order.
        folder: Where everything of the run is kept; shared by all processes.
        inputs_hash: Digest of all that decides the result; another one repeats every station.
        console: Where progress is told.
    """

    def __init__(self, names: tuple[str, ...], folder: Path, inputs_hash: str, console: Console | None = None) -> None:
        self.names, self.folder, self.inputs_hash = names, folder, inputs_hash
        self.console = console or Console(stderr=True)
        self.processes = processes()

    def pass_all(self) -> None:
        """Run every station that is not done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            if self.processes.is_main_process or name == TOGETHER:
                self._station(name, getattr(self, name))
            if self.names.index(name) <= self.names.index(TOGETHER):
                self.processes.wait_for_everyone()

    def _marker(self, name: str) -> Path:
        return self.folder / f"{name}.done.json"

    def _station(self, name: str, station: Callable[[], float | None]) -> None:
        """Run a station unless it is done; what comes after a station that runs is done no longer."""
        marker, main = self._marker(name), self.processes.is_main_process
        done = marker.is_file() and json.loads(marker.read_text())["inputs"] == self.inputs_hash
        if name == TOGETHER:
            self.processes.wait_for_everyone()  # all have read the marker before it is changed
        if done:
            self.tell(f"{name}: done before")
            return
        for later in self.names[self.names.index(name) :] if main else ():
            self._marker(later).unlink(missing_ok=True)
        began = time.monotonic()
        minutes = station() or (time.monotonic() - began) / 60
        if not main:
            return
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row = {"inputs": self.inputs_hash, "minutes": round(minutes, 2), "peak_memory_gib": round(peak, 2)}
        write_text(marker, json.dumps(row) + "\n")
        self.tell(f"{name}: {minutes:.1f} min, peak memory so far {peak:.1f} GiB")

    def passed(self) -> dict[str, dict[str, float]]:
        """Minutes and peak memory of every station that is done, in order of their names."""
        done = {
            path.name.split(".")[0]: json.loads(path.read_text()) for path in sorted(self.folder.glob("*.done.json"))
        }
        return {name: {key: value for key, value in row.items() if key != "inputs"} for name, row in done.items()}

    def tell(self, line: str) -> None:
        """Say something once, however many processes there are."""
        if self.processes.is_main_process:
            self.console.print(line)
