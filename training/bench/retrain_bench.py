"""Measures ``fineline train --from``: time, gain, what changes elsewhere, kills, wrong labels.

    python training/bench/retrain_bench.py --mirror DATA --out retrain.json --work FOLDER
    python training/bench/retrain_bench.py --mirror DATA --out try.json --work FOLDER --sizes 200 --no-kills --turned 0

The new label is ``vulgar`` (``retrain_sets``), the bundle to go on from the shipped one. Each part is in the JSON as
soon as it is measured; a call that was stopped goes on with the next part. The Markdown table is written beside it.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from fineline.bundle import load_bundle
from fineline.files import write_text
from fineline_training.recipe import load_recipe
from fineline_training.retrain import STATIONS
from retrain_kill import different, kill_in_every_station
from retrain_noise import find_turned, fitted
from retrain_results import before, changes, label_result
from retrain_sets import BASIS, CASES, LICENCE, flipped, vulgar_rows, write_file
from retrain_table import table

_LABEL_FILE = Path(__file__).with_name("vulgar.toml")


def _command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "fineline.cli", *map(str, words)]


def _import(rows: list[dict[str, Any]], work: Path, name: str) -> tuple[Path, float]:
    """A store with the rows, made as a team would make it; and the seconds that took."""
    store, file = work / f"store-{name}", work / f"{name}.jsonl"
    write_file(rows, file)
    rights = ("--licence", LICENCE, "--basis", BASIS, "--personal", "mask")
    shutil.rmtree(store, ignore_errors=True)  # the same rows make the same store, and its time is asked for
    began = time.monotonic()
    # Status 1 only says that rows were refused, which the record lists.
    command = _command("labels", "import", file, "--store", store, "--own-label", _LABEL_FILE, *rights)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return store, round(time.monotonic() - began, 1)


def _machine() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    return {
        "cpu": next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.machine()),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("fineline", "torch", "transformers", "onnxruntime", "cleanlab")},
    }


def _minutes(folder: Path) -> dict[str, float]:
    """Minutes of each station that was passed."""
    done = {name: folder / f"{name}.done.json" for name in STATIONS}
    return {name: json.loads(path.read_text())["minutes"] for name, path in done.items() if path.exists()}


def _size(count: int, mirror: Path, work: Path, recipe: str) -> dict[str, Any]:
    """One size: import, the whole run, and what it found; a run whose gates failed is a result, too."""
    store, seconds = _import(vulgar_rows(mirror, count), work, str(count))
    folder = work / f"run-{count}"
    words = ("--from", "default", "--labels", store, "--recipe", recipe, "--out", folder, "--mirror", mirror)
    done = subprocess.run(_command("train", *words), stderr=subprocess.PIPE, text=True, check=False)
    if not (folder / "compare.json").exists():
        raise SystemExit(f"the run of {count} rows ended with status {done.returncode}: {done.stderr[-800:]}")
    stations = _minutes(folder)  # of all calls, where one was stopped
    return {
        "import_seconds": seconds,
        "minutes": round(sum(stations.values()) + seconds / 60, 2),
        "stations": stations,
        "label": label_result(folder),
        "checks": json.loads((folder / "curves.json").read_text()),
        "changes": changes(folder / "compare.json"),
    }


def main(
    mirror: Annotated[Path, typer.Option(help="Folder of the public sources.")],
    out: Annotated[Path, typer.Option(help="JSON to write; the parts it holds from an earlier call are kept.")],
    work: Annotated[Path, typer.Option(help="Folder for stores and runs; they are kept.")],
    sizes: Annotated[str, typer.Option(help="Numbers of new rows, comma separated.")] = "500,1000,5000",
    kills: Annotated[bool, typer.Option(help="Kill a run of the smallest size in every station.")] = True,
    turned: Annotated[int, typer.Option(help="Rows of the part with wrong labels; 0 leaves it out.")] = 1000,
    share: Annotated[float, typer.Option(help="Share of wrong labels.")] = 0.15,
    recipe: Annotated[str, typer.Option(help="Recipe to go on with.")] = "retrain",
    seed: Annotated[int, typer.Option(help="Of the moments of the kills.")] = 0,
) -> None:
    """Measure part by part."""
    counts = [int(part) for part in sizes.split(",")]
    start = load_bundle()
    asked = {"bundle": start.model_id, "files": dict(start.meta.files), "recipe": load_recipe(recipe).resolved()}
    asked = json.loads(json.dumps(asked))
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    if result.get("asked") != asked:
        result = {"machine": _machine(), "asked": asked, "sizes": {}}
    work.mkdir(parents=True, exist_ok=True)

    def keep(kind: str, found: Any) -> None:
        result[kind] = found
        write_text(out, json.dumps(result, indent=1) + "\n")
        write_text(out.with_suffix(".md"), table(result))

    for count in counts:
        if str(count) not in result["sizes"]:
            keep("sizes", result["sizes"] | {str(count): _size(count, mirror, work, recipe)})
    if "before" not in result:
        keep("before", before(work / f"run-{counts[0]}" / "held.jsonl.gz"))
    least = min(counts)
    if kills and "kills" not in result and len(result["sizes"][str(least)]["stations"]) == len(STATIONS):
        whole, killed = work / f"run-{least}", work / "killed"
        words = ("--labels", work / f"store-{least}", "--recipe", recipe, "--out", killed, "--mirror", mirror)
        seconds = {name: 60 * minutes for name, minutes in _minutes(whole).items()}
        moments = kill_in_every_station(_command("train", "--from", "default", *words), killed, seconds, seed)
        keep("kills", {"kills": moments, "different": different(whole, killed)})
    if turned:
        rows = vulgar_rows(mirror, turned)
        wrong, ids = flipped(rows, share)
        clean, _ = _import(rows, work, str(turned))
        noisy, _ = _import(wrong, work, f"turned-{turned}")
        cleaned = work / "cleaned"
        if "noise" not in result:
            keep("noise", find_turned(noisy, ids, cleaned))
        if str(turned) in result["sizes"]:  # the same rows, trained on already
            label = result["sizes"][str(turned)]["label"]
            keep("noise", result["noise"] | {CASES[0]: {"ap": label["average_precision"], "f1": label["f1"]}})
        for name, store in zip(CASES, (clean, noisy, cleaned), strict=True):
            if name not in result["noise"]:
                found = fitted(store, load_recipe(recipe), work / f"noise-{name.split()[0]}", mirror)
                keep("noise", result["noise"] | {name: found})
    keep("finished", True)


if __name__ == "__main__":
    typer.run(main)
