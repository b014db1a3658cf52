"""The local engine: a pool of processes, a few shards in flight, and nothing of a dead process lost.

Every process scores with the same number of threads, so the scores do not depend on how many processes there are.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

from fineline.errors import FinelineError, InputError
from fineline.scan.scorer import Scorer
from fineline.scan.shards import Shard
from fineline.scan.store import Part, Store

_MOST_DEATHS = 3
"""Pools that may die in a row without a shard done: by then the same shard kills them, or none can start."""

_scorer: Scorer | FinelineError
"""Of a worker process, loaded once; or why it could not be, which a pool tells of a task only."""


def _start(make_scorer: Callable[[], Scorer]) -> None:
    global _scorer
    # The driver handles an interrupt: what is being scored is finished and kept.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The processes fill the cores already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _scorer = make_scorer()
    except FinelineError as error:
        _scorer = error


def _end_with_parent() -> None:
    """A worker whose driver was killed would wait for its next shard for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score(shard: Shard, store: Store) -> Part:
    if isinstance(_scorer, FinelineError):
        raise _scorer
    return store.write(shard, _scorer.score(shard))


def run_local(shards: Iterable[Shard], make_scorer: Callable[[], Scorer], store: Store, workers: int) -> Iterator[Part]:
    """Score shards and store them.

    Two shards a worker are in flight at most, so the input is read no faster than it is scored. When a worker dies, a
    new pool does again what was in flight.

    Args:
        shards: What is to be scored, in any order.
        make_scorer: Called once in each process; it must be picklable.
        store: Where the results go.
        workers: Processes.

    Yields:
        The parts, each as soon as it is stored.

    Raises:
        InputError: Workers keep dying; the message names the shards they died on.
        FinelineError: A worker could not load the model or write its part.
    """
    waiting = iter(shards)
    again: deque[Shard] = deque()
    deaths = 0
    while deaths < _MOST_DEATHS:
        in_flight: dict[Future[Part], Shard] = {}
        with ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start, initargs=(make_scorer,)
        ) as pool:
            try:
                while True:
                    # A shard leaves the list only once it is submitted: the pool may be found dead just then.
                    again += islice(waiting, 2 * workers - len(in_flight) - len(again))
                    while again:
                        future = pool.submit(_score, again[0], store)
                        in_flight[future] = again.popleft()
                    if not in_flight:
                        return
                    for future in wait(in_flight, return_when=FIRST_COMPLETED).done:
                        part = future.result()
                        del in_flight[future]
                        deaths = 0
                        yield part
            except BrokenProcessPool:
                deaths += 1
                again += in_flight.values()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    numbers = ", ".join(str(shard.number) for shard in again)
    raise InputError(
        "scan_worker", f"Worker processes died {deaths} times in a row (out of memory?) on shards {numbers}."
    )
