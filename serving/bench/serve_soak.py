"""Soaks a server: mixed requests at a modest rate for a long time, hot reloads between, its memory watched.

    python serving/bench/serve_soak.py --out serving/bench/serve_soak.json
    python serving/bench/serve_soak.py --out try.json --seconds 60 --reload-every 20 --sample-every 1

Needs the extras ``serve``, ``train`` and ``dev``.
"""

import asyncio
import json
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from fineline.bundle import load_bundle
from fineline.files import write_text
from serve_asking import Known, mix_texts
from serve_mix import KINDS, Mix
from serve_rivals import fresh, known_answers
from serve_servers import Running, own_server, running
from serve_steady import Sample, accounts, held, judged, minutes, sample, trend

_OWN = ("/metrics", "/readyz")
"""Routes that only this script and the start ask for."""


def requests_counted(found: dict[str, float]) -> int:
    """Requests in the server's metrics, without those for its health."""
    names = [name for name in found if name.startswith("fineline_requests_total{")]
    return round(sum(found[name] for name in names if not any(f'route="{route}"' in name for route in _OWN)))


async def _reload(mix: Mix, process: psutil.Process, every: float, asked: list[str]) -> None:
    async with mix.session() as session:
        while True:
            await asyncio.sleep(every)
            asked.append("signal" if len(asked) % 2 else "route")
            if asked[-1] == "route":
                await mix.ask(session, "reload", "/admin/reload")
            else:
                process.send_signal(signal.SIGHUP)


async def _watch(process: psutil.Process, every: float, samples: list[Sample], began: float) -> None:
    while True:
        at = time.perf_counter() - began
        samples.append(sample(process, round(at, 1)))
        if int(at // 60) > int((at - every) // 60):
            typer.echo(f"{at:6.0f} s {samples[-1].rss / 1e6:7.1f} MB {samples[-1].files} files", err=True)
        await asyncio.sleep(every)


async def soak(
    server: Running, mix: Mix, *, rate: float, seconds: float, reload_every: float, sample_every: float
) -> dict[str, Any]:
    """Put the load on a server and watch it."""
    samples: list[Sample] = []
    asked: list[str] = []
    beside = [
        asyncio.create_task(_watch(server.process, sample_every, samples, time.perf_counter())),
        asyncio.create_task(_reload(mix, server.process, reload_every, asked)),
    ]
    await mix.run(rate, seconds)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    await asyncio.sleep(10)  # a reload that was asked for last, and the clients that left
    counted = await mix.metrics()
    found = {
        "requests": accounts(mix.records),
        "counted_by_server": requests_counted(counted),
        "memory": {"trend": trend(samples), **server.memory()},
        "files": held(samples, "files"),
        "threads": held(samples, "threads"),
        "reloads": {
            "asked": len(asked),
            "by": {name: asked.count(name) for name in ("route", "signal")},
            "done": round(counted.get('fineline_reloads_total{result="done"}', 0)),
        },
        "left_in_server": {
            "requests": round(counted["fineline_requests_running"]) - 1,  # the one that asks
            "streams": round(counted["fineline_streams"]),
            "queue_tokens": round(counted["fineline_queue_tokens"]),
        },
        "minutes": minutes(samples),
    }
    return found | {"held": judged(found)}


def main(
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle; the shipped one if not given.")] = None,
    seconds: Annotated[float, typer.Option(help="Of the load.")] = 3600.0,
    rate: Annotated[float, typer.Option(help="Requests a second.")] = 10.0,
    reload_every: Annotated[float, typer.Option(help="Seconds between two hot reloads.")] = 300.0,
    sample_every: Annotated[float, typer.Option(help="Seconds between two looks at the process.")] = 10.0,
    texts: Annotated[int, typer.Option(help="Different texts, made of those of the golden file.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the load.")] = 0,
) -> None:
    """Soak a server and write what was seen."""
    model = load_bundle(bundle)
    sent = mix_texts([row["text"] for row in model.golden()], texts, seed)
    known = Known(sent, model.meta.labels, fresh(known_answers, sent, model.path))
    asked = {
        "model": model.model_id, "seconds": seconds, "rate": rate, "reload_every": reload_every,
        "sample_every": sample_every, "texts": texts, "seed": seed, "kinds": KINDS, "cores": os.cpu_count(),
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name, running(own_server(model.path, Path(name)), Path(name)) as server:
        mix = Mix(server.base, model.meta.name, known, seed=seed)
        load = soak(server, mix, rate=rate, seconds=seconds, reload_every=reload_every, sample_every=sample_every)
        found = asyncio.run(load)
    write_text(out, json.dumps({"asked": asked} | found, indent=1) + "\n")
    typer.echo(json.dumps(found["held"], indent=1))


if __name__ == "__main__":
    typer.run(main)
