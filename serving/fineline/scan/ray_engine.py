"""The Ray engine: shards pass through Ray Data, whose actors load the model once; one machine, or a cluster by address.

The driver hands shards to a desk (an actor), a generator task on the driver's machine takes them from there into Ray
Data, and ``map_batches`` scores them. A shard is handed out only when another one is stored, so what is in flight is
bounded whatever Ray would buffer. Ray restarts an actor that died and does its shard again; the bytes are those of the
local engine, because the scorer and the store are.
"""

import asyncio
import logging
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError, UserCodeException

from fineline.errors import FinelineError, InputError
from fineline.scan.scorer import Scorer
from fineline.scan.shards import Shard
from fineline.scan.store import Part, Store

IN_FLIGHT = 3
"""Shards a worker: one is scored, one waits at its actor, one is on the way."""

_MOST_DEATHS = 3
"""Times that one shard may kill its worker, or Ray may stop, before the scan gives up."""

_OBJECT_STORE = 2**28
"""Bytes of shared memory of a cluster started here, and a quarter of it more a worker: shards are a few MB each."""


class _Desk:
    """Where shards wait; a method call is a message from another process."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._begun: Counter[int] = Counter()
        self._opened = False

    async def open(self) -> bool:
        """Whether the caller is the first: Ray drops what a generator task yields again when it is done again."""
        first, self._opened = not self._opened, True
        return first

    async def put(self, shard: bytes | None) -> None:
        await self._waiting.put(shard)

    async def take(self) -> bytes | None:
        return await self._waiting.get()

    async def begin(self, number: int) -> int:
        """How often a shard has been begun."""
        self._begun[number] += 1
        return self._begun[number]


def _table(content: bytes) -> pa.Table:
    return pa.table({"content": pa.array([content], pa.large_binary())})


def _content(table: pa.Table) -> Any:
    return pickle.loads(table["content"][0].as_py())


def _taken(_: pa.Table, desk: Any) -> Iterator[pa.Table]:
    """Shards from the desk until the driver puts ``None`` there."""
    if ray.get(desk.open.remote()):
        while (shard := ray.get(desk.take.remote())) is not None:
            yield _table(shard)


class _Score:
    """What an actor runs; an error meant for a person is a result, because Ray would wrap it."""

    def __init__(self, make_scorer: Callable[[], Scorer], store: Store, desk: Any) -> None:
        self._store = store
        self._desk = desk
        # Ray gives a worker its share of the cores; more threads would only compete.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        try:
            self._scorer: Scorer | FinelineError = make_scorer()
        except FinelineError as error:
            self._scorer = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _table(pickle.dumps(self._part(_content(batch))))

    def _part(self, shard: Shard) -> Part | FinelineError:
        if isinstance(self._scorer, FinelineError):
            return self._scorer
        if ray.get(self._desk.begin.remote(shard.number)) > _MOST_DEATHS:
            return InputError(
                "scan_worker", f"Shard {shard.number} killed its worker {_MOST_DEATHS} times (out of memory?)."
            )
        try:
            return self._store.write(shard, self._scorer.score(shard))
        except FinelineError as error:
            return error


def run_ray(
    shards: Iterable[Shard],
    make_scorer: Callable[[], Scorer],
    store: Store,
    workers: int,
    address: str | None = None,
) -> Iterator[Part]:
    """Score shards on Ray and store them.

    Args:
        shards: What is to be scored, in any order.
        make_scorer: Called once in each actor; it must be picklable, and ``fineline`` installed on every machine.
        store: Where the results go; every machine must reach it.
        workers: Actors, one CPU each.
        address: Of a running cluster; one is started on this machine, and stopped at the end, when ``None``.

    Yields:
        The parts, each as soon as it is stored.

    Raises:
        InputError: The cluster cannot be reached, a shard keeps killing its worker, or Ray keeps stopping.
        FinelineError: A worker could not load the model or write its part.
    """
    waiting = iter(shards)
    in_flight: dict[int, Shard] = {}
    reason = "it ended early"
    with _connected(workers, address):
        for _ in range(_MOST_DEATHS):
            try:
                yield from _round(waiting, in_flight, make_scorer, store, workers)
            except UserCodeException:
                raise
            except RayError as error:
                reason = type(error).__name__
            if not in_flight:
                return
    numbers = ", ".join(map(str, in_flight))
    raise InputError("scan_worker", f"Ray stopped {_MOST_DEATHS} times ({reason}), the last time on shards {numbers}.")


@contextmanager
def _connected(workers: int, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    own = {"num_cpus": workers, "object_store_memory": _OBJECT_STORE * (4 + workers) // 4, "include_dashboard": False}
    # A scan of a private corpus tells nobody that it runs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init("local" if address is None else address, **quiet, **(own if address is None else {}))
    except Exception as error:  # Ray raises several unrelated types, a bare Exception among them
        raise InputError(
            "ray_address", f"No Ray cluster at {address or 'this machine'} ({type(error).__name__}); check --address."
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _round(
    waiting: Iterator[Shard],
    in_flight: dict[int, Shard],
    make_scorer: Callable[[], Scorer],
    store: Store,
    workers: int,
) -> Iterator[Part]:
    """One execution of the data set: what was in flight before, then what waits.

    Args:
        waiting: Shards that were never handed out.
        in_flight: Shards handed out and not stored yet, by number; kept up to date.
        make_scorer: For the actors.
        store: For the actors.
        workers: Actors.
    """
    desk = ray.remote(_Desk).options(num_cpus=0).remote()

    def hand_out(shard: Shard | None) -> None:
        if shard is not None:
            in_flight[shard.number] = shard
        ray.get(desk.put.remote(None if shard is None else pickle.dumps(shard)))

    in_flight |= {shard.number: shard for shard in islice(waiting, IN_FLIGHT * workers - len(in_flight))}
    if not in_flight:
        return
    for shard in tuple(in_flight.values()):
        hand_out(shard)
    if len(in_flight) < IN_FLIGHT * workers:
        hand_out(None)
    try:
        for stored in _scored(desk, make_scorer, store, workers):
            part = _content(stored)
            if isinstance(part, FinelineError):
                raise part
            del in_flight[part.number]
            yield part
            hand_out(next(waiting, None))
    finally:
        ray.kill(desk)


def _scored(desk: Any, make_scorer: Callable[[], Scorer], store: Store, workers: int) -> Iterator[pa.Table]:
    context = DataContext.get_current().copy()
    # Blocks of one shard: Ray would else wait for more of them to make larger blocks.
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    with DataContext.current(context):
        scored = (
            ray.data.from_items([0])
            .map_batches(_taken, fn_kwargs={"desk": desk}, batch_format="pyarrow", num_cpus=0, label_selector=here)
            .map_batches(
                _Score,
                fn_constructor_args=(make_scorer, store, desk),
                batch_format="pyarrow",
                batch_size=1,
                num_cpus=1,
                compute=ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            )
        )
    # Nothing is fetched ahead: a result that waits for the next one would hold back a shard.
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
