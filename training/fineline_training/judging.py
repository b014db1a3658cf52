"""The last stations of a run that goes on from a bundle: evaluate, compare, card.

They call ``fineline eval``, ``compare`` and ``card`` as anybody would, each in a process of its own: training imports
no part of the evaluation, and what is judged is what the commands judge. What a command prints is kept in the folder.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fineline.bundle import Bundle
from fineline.errors import DataError
from fineline.files import write_text

RELEASED = Path(__file__).parents[2] / "model_cards"
"""Reports of the bundles that ship, in a checkout."""
REPORT, DECISIONS = "report.json", "decisions.parquet"
_GATES_FAILED = 1


class Judging:
    """Judges the bundle in a run folder.

    Args:
        folder: The run folder; it holds ``bundle`` and ``held.jsonl.gz``.
        start: The bundle that the run went on from.
        mirror: Local copy of the public sets, or ``None``.
    """

    def __init__(self, folder: Path, start: Bundle, mirror: Path | None) -> None:
        self.folder, self.start = folder, start
        self._mirror: list[str | Path] = ["--mirror", mirror] if mirror is not None else []

    def _call(self, name: str, *words: str | Path) -> int:
        """Run a command of ``fineline``; what it prints goes to ``<name>.txt``."""
        command = [sys.executable, "-m", "fineline.cli", *map(str, words)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        write_text(self.folder / f"{name}.txt", done.stdout.decode("utf-8", "replace"))
        return done.returncode

    def _must(self, name: str, *words: str | Path) -> None:
        if code := self._call(name, *words):
            raise DataError(
                f"{name}_failed",
                f"'fineline {words[0]}' ended with status {code}; see above and {name}.txt, run again.",
            )

    def evaluate(self) -> None:
        """Judge the new bundle, and the one it came from where no report of it is at hand."""
        held: list[str | Path] = ["--team", self.folder / "held.jsonl.gz", "--before", self.start.path]
        out = self.folder / "eval" / REPORT
        self._must(
            "evaluate", "eval", "--bundle", self.folder / "bundle", "--out", out, "--no-floors", *held, *self._mirror
        )
        if self._known_report() is None:
            out = self.folder / "before" / REPORT
            self._must("before", "eval", "--bundle", self.start.path, "--out", out, "--no-floors", *self._mirror)

    def _known_report(self) -> Path | None:
        """Folder with a report of the start bundle on all that the new one was judged on, if there is one."""
        now = _read(self.folder / "eval")
        for folder in (self.start.path.parent / "eval", RELEASED / self.start.meta.name):
            report = _read(folder)
            same = all(report.get(name) == now.get(name) for name in ("schema", "policy"))
            same = same and report.get("digest") == self.start.meta.digest and (folder / DECISIONS).is_file()
            if same and set(report["missing"]) <= set(now["missing"]):
                return folder
        return None

    def compare(self) -> None:
        """Hold the two reports against each other.

        Raises:
            DataError: A gated slice is worse, or the command failed.
        """
        before = self._known_report() or self.folder / "before"
        found = self.folder / "compare.json"
        found.unlink(missing_ok=True)
        code = self._call("compare", "compare", before, self.folder / "eval", "--shared", "--json", found)
        if code == _GATES_FAILED and found.is_file():
            failures = json.loads(found.read_text(encoding="utf-8"))["failures"]
            raise DataError(
                "gates_failed",
                f"{len(failures)} gated measures are worse than the bundle's, or miss a floor that it keeps "
                f"({failures[0]}; all in {found}): do not "
                "serve this bundle; raise replay or distil_weight, or lower encoder_rate in the recipe.",
            )
        if code:
            raise DataError("compare_failed", f"'fineline compare' ended with status {code}; see above, run again.")

    def card(self) -> None:
        """Write the card into the bundle; it is not among the files whose hash the bundle holds."""
        self._must("card", "card", self.folder / "eval" / REPORT, "--out", self.folder / "bundle" / "README.md")


def _read(folder: Path) -> dict[str, Any]:
    """A report as plain data; empty where there is none that can be read."""
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
