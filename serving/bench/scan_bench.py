"""Measures ``fineline scan``: speed, memory, restarts, engines, and what a billion documents cost.

    python serving/bench/scan_bench.py --mirror DATA --run runs/release --out scan_bench.json
    python serving/bench/scan_bench.py --mirror DATA --out try.json --short 200 --long 4 --compared 100 --kills 1

The documents are sampled with replacement from the lawful public sets of a mirror, in a fixed mix of lengths; all are
scored, duplicates too (``remembered`` 0). The comparison with transformers needs ``--run``, a training run with
``model.pt``, and ``pip install datasets``; the Ray engine needs ``ray[data]``.
A part that is not asked for is not in the result. A call that was stopped goes on with the next part.
"""

import json
import os
import platform
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from fineline.bundle import MODEL, load_bundle
from fineline.files import write_text
from scan_corpus import (
    LENGTHS,
    LONG_CHARACTERS,
    SOURCES,
    long_documents,
    pool,
    read_texts,
    short_documents,
    write_corpus,
)
from scan_rivals import in_process, transformers_pipeline
from scan_runs import combined, digests, kill_and_resume, measure

TARGETS = {"over_pipeline": 12.0, "of_in_process": 0.85, "ray_of_local": 0.85, "memory_bytes": 1.2e9}


def billion(documents_per_second: float, cores: int, price: float) -> dict[str, Any]:
    """Cost of a billion documents like the short ones, with the sums."""
    hours = 1e9 / documents_per_second / 3600
    return {
        "core_hours": round(hours * cores, 1),
        "cost": round(hours * cores * price, 2),
        "sums": f"1e9 documents / {documents_per_second:g} a second / 3600 = {hours:,.1f} hours on {cores} cores; "
        f"x {cores} cores = {hours * cores:,.1f} core hours; x {price:g} a core hour = {hours * cores * price:,.2f}",
    }


def _machine() -> dict[str, Any]:
    names = ("fineline", "onnxruntime", "tokenizers", "pyarrow", "numpy")
    return {
        "cpu": next(
            (
                line.split(":", 1)[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            platform.machine(),
        ),
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def main(
    mirror: Annotated[Path, typer.Option(help="Folder of the public sources.")],
    out: Annotated[Path, typer.Option(help="JSON to write; the parts it holds from an earlier call are kept.")],
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle; the shipped one if not given.")] = None,
    run: Annotated[Path | None, typer.Option(help="Training run with model.pt, for the pipeline.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of that run.")] = "release",
    short: Annotated[int, typer.Option(help="Short documents.")] = 1_000_000,
    long: Annotated[int, typer.Option(help="Long documents.")] = 20_000,
    compared: Annotated[int, typer.Option(help="Short documents of the other comparisons.")] = 50_000,
    piped: Annotated[int, typer.Option(help="Of these, given to the pipeline.")] = 2_000,
    kills: Annotated[int, typer.Option(help="Times that a scan is killed.")] = 3,
    workers: Annotated[int, typer.Option(help="Scoring processes.")] = os.cpu_count() or 1,
    ray: Annotated[bool, typer.Option(help="Measure the Ray engine too.")] = True,
    price: Annotated[float, typer.Option(help="Of a core hour; an assumption to replace by your provider's.")] = 0.04,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for the corpus and outputs; a temporary one.")] = None,
) -> None:
    """Measure part by part; each is in the JSON as soon as it is measured."""
    model = load_bundle(bundle)
    engines = [("local", 1), ("local", workers), *([("ray", 1), ("ray", workers)] if ray else [])]
    asked = {
        "bundle": {"model": model.model_id, "files": {MODEL: model.meta.files[MODEL]}},
        "sampled": {"sources": SOURCES, "lengths": LENGTHS, "long_characters": LONG_CHARACTERS, "seed": seed},
        "sizes": {"short": short, "long": long, "compared": compared, "piped": piped, "kills": kills},
    }
    asked = json.loads(json.dumps(asked))
    result: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    if any(result.get(key) != value for key, value in asked.items()):
        result = {"machine": _machine(), **asked, "engines": {}}
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        texts = pool(mirror)
        write_corpus(folder / "compared", short_documents(texts, compared, seed + 1))
        sample = read_texts(folder / "compared", compared)

        def keep(kind: str, found: Any) -> None:
            result[kind] = found
            write_text(out, json.dumps(result, indent=1) + "\n")

        if "in_process" not in result:
            keep("in_process", in_process(sample, model.path))
        for engine, count in engines:
            if (key := f"{engine} {count}") not in result["engines"]:
                one = measure(folder / "compared", folder / key, model.path, engine, count)
                found = {**asdict(one), "output": combined(digests(folder / key))}
                keep("engines", result["engines"] | {key: found})
        keep("engines_identical", len({entry["output"] for entry in result["engines"].values()}) == 1)
        if run and "pipeline" not in result:
            rates = {str(n): transformers_pipeline(sample[:piped], run, recipe, n, folder) for n in (1, 32)}
            keep("pipeline", rates)
        if kills and "resume" not in result:
            keep("resume", kill_and_resume(folder / "compared", folder / "resume", model.path, workers, kills, seed))
        for kind, documents, count in (("long", long_documents, long), ("short", short_documents, short)):
            if count and kind not in result:
                write_corpus(folder / kind, documents(texts, count, seed))
                keep(kind, asdict(measure(folder / kind, folder / f"{kind}_out", model.path, "local", workers)))
    if short:
        keep("billion", billion(result["short"]["documents_per_second"], workers, price))
    keep("targets", compared_with_targets(result, workers))


def compared_with_targets(result: dict[str, Any], workers: int) -> dict[str, Any]:
    """Each target with what was found; null where it was not measured."""
    rates = {key: entry["documents_per_second"] for key, entry in result["engines"].items()}
    best = max(result["pipeline"].values()) if "pipeline" in result else None
    peaks = [result[kind]["memory_peak"] for kind in ("short", "long") if kind in result]
    found = {
        "over_pipeline": rates[f"local {workers}"] / best if best else None,
        "of_in_process": rates[f"local {workers}"] / result["in_process"],
        **{
            f"ray_of_local {count}": rates[f"ray {count}"] / rates[f"local {count}"]
            if f"ray {count}" in rates
            else None
            for count in sorted({1, workers})
        },
        "memory_bytes": max(peaks, default=None),
    }
    return {name: _compared(name.split()[0], value) for name, value in found.items()}


def _compared(name: str, value: float | None) -> dict[str, Any]:
    target = TARGETS[name]
    met = None if value is None else value <= target if name == "memory_bytes" else value >= target
    return {"target": target, "found": value, "met": met}


if __name__ == "__main__":
    typer.run(main)
