"""Windows of many requests in batches to a few engine workers.

There is no timer: the next batch is made when a worker is free, of what waits then.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fineline.encoding import Window
from fineline.server.faults import DeadlineError, EngineError, NotReadyError, OverloadError
from fineline.server.line import Job, Line, Place
from fineline.server.logs import place_of
from fineline.server.metrics import Metrics

_LOG = logging.getLogger(__name__)
_FADE = 0.98
"""What a batch counts for in the rate once the next one has run."""
_MOST_WAIT = 600.0
"""Seconds that an overloaded server asks a client to wait, at most."""


class Runs(Protocol):
    """What a worker runs batches on; ``fineline.engine.Engine`` is one."""

    def logits(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Outputs of the windows in their order, shape (windows, labels)."""


_Answer = asyncio.Future[NDArray[np.float32]]


@dataclass(kw_only=True, eq=False)
class _Asked(Job):
    """A request with the future that its caller waits for."""

    future: _Answer


class Batcher:
    """Owns the line and one thread an engine.

    Args:
        engines: One a worker; one that is safe to share may be given several times.
        batch_tokens: Tokens a batch may hold; a longer window is a batch of its own.
        queue_tokens: Tokens that may wait. An empty queue takes a request of any size, and none counts for more than a
            quarter of this, so that a single long text does not turn all others away.
        metrics: Where to count.
    """

    def __init__(self, engines: Sequence[Runs], *, batch_tokens: int, queue_tokens: int, metrics: Metrics) -> None:
        self._budget = batch_tokens
        self._bound = queue_tokens
        self._metrics = metrics
        self._changed = threading.Condition()
        self._most = max(1, queue_tokens // 4)
        self._line: Line[_Asked] = Line(self._most)
        self._reserved = self._reserved_ahead = 0
        self._shown = 0
        self._done = self._spent = 0.0  # tokens and seconds of late batches, each batch counting less with time
        self._stopping = False
        self._workers = [
            threading.Thread(target=self._work, args=(engine,), name=f"engine-{n}", daemon=True)
            for n, engine in enumerate(engines)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def waiting(self) -> int:
        """Tokens that wait, those of requests still being tokenised included."""
        return self._line.tokens + self._reserved

    def reserve(self, tokens: int, deadline: float) -> None:
        """Count tokens as waiting before they are tokenised; ``release`` takes them back.

        Args:
            tokens: An estimate.
            deadline: Moment of ``time.monotonic`` at which the answer is due.

        Raises:
            OverloadError: The queue is full, or so long that the answer would come too late.
        """
        counted = min(tokens, self._most)
        with self._changed:
            late = self._wait() > deadline - time.monotonic()
            if self._ahead and (self._ahead + counted > self._bound or late):
                raise self.overload()
            self._reserved += tokens
            self._reserved_ahead += counted
            self._show()

    def check_room(self) -> None:
        """Look for room without taking it.

        Raises:
            OverloadError: The queue is full.
        """
        if self._ahead >= self._bound:
            raise self.overload()

    def overload(self) -> OverloadError:
        """What to tell a client that has to come back later."""
        return OverloadError(min(max(self._wait(), 1.0), _MOST_WAIT))

    @property
    def _ahead(self) -> int:
        """Tokens that a new request would wait for."""
        return self._line.ahead + self._reserved_ahead

    def _wait(self) -> float:
        """Seconds that these take."""
        return self._ahead * self._spent / self._done / len(self._workers) if self._done else 0.0

    def release(self, tokens: int) -> None:
        """Take back what was reserved."""
        with self._changed:
            self._reserved -= tokens
            self._reserved_ahead -= min(tokens, self._most)
            self._show()

    async def logits(self, windows: Sequence[Window], deadline: float) -> NDArray[np.float32]:
        """Run windows, in batches with those of others.

        A call that is cancelled gives up its place; what has not started by then is never run.

        Args:
            windows: The windows of one request, at least one.
            deadline: Moment of ``time.monotonic`` until which the answer is of use.

        Returns:
            float32, shape (windows, labels), in the order of the windows.

        Raises:
            DeadlineError: The moment has come.
            EngineError: The engine failed on a batch with one of the windows.
            NotReadyError: The batcher is closed.
        """
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        job = _Asked(
            windows=windows,
            future=loop.create_future(),
            deadline=deadline,
            arrived=now,
            waiting=sum(len(window.ids) for window in windows),
            queued=len(windows),
            missing=len(windows),
        )
        with self._changed:
            if self._stopping:
                raise NotReadyError("stopping", "The server is about to stop; send this again.")
            self._line.add(job)
            self._show()
            self._changed.notify(min(len(windows), len(self._workers)))
        try:
            async with asyncio.timeout(deadline - now):
                return await job.future
        except TimeoutError:
            raise DeadlineError from None
        finally:
            with self._changed:
                if job.open:
                    self._line.drop(job)
                    self._show()

    def close(self) -> None:
        """Finish what runs, fail what waits, and stop the workers."""
        with self._changed:
            self._stopping = True
            self._fail(self._line.jobs(), NotReadyError("stopping", "The server is about to stop; send this again."))
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    # --- under the lock

    def _show(self) -> None:
        # By difference: while a model is replaced, the batchers of both count in one gauge.
        self._metrics.queue_tokens.inc(self.waiting - self._shown)
        self._shown = self.waiting

    def _fail(self, jobs: Iterable[_Asked], error: Exception) -> None:
        for job in jobs:
            if job.open:
                self._line.drop(job)
                _tell(job.future, error)
        self._show()

    def _next(self) -> list[Place[_Asked]]:
        batch, late = self._line.take(self._budget, time.monotonic())
        for job in late:
            _tell(job.future, DeadlineError())
        self._show()
        return batch

    # --- a worker

    def _work(self, engine: Runs) -> None:
        while batch := self._await_batch():
            self._run(engine, batch)
            del batch  # while the worker waits it holds nothing of the last requests

    def _await_batch(self) -> list[Place[_Asked]]:
        """The next batch; empty when the batcher is closed."""
        with self._changed:
            while not (batch := self._next()) and not self._stopping:
                self._changed.wait()
            return batch

    def _run(self, engine: Runs, batch: list[Place[_Asked]]) -> None:
        began = time.monotonic()
        try:
            logits = engine.logits([place.window for place in batch])
            if logits.ndim != 2 or len(logits) != len(batch):
                raise ValueError(f"outputs of shape {logits.shape} for {len(batch)} windows")
            self._settle(batch, logits, began)
        except BaseException as error:  # whatever it is, the worker lives on and nobody waits in vain
            _LOG.error("a batch of %d windows failed: %s", len(batch), place_of(error))
            self._metrics.engine_errors.inc()
            with self._changed:
                self._fail((place.job for place in batch), EngineError(type(error).__name__))

    def _settle(self, batch: list[Place[_Asked]], logits: NDArray[np.float32], began: float) -> None:
        seconds = time.monotonic() - began
        tokens = sum(len(place.window.ids) for place in batch)
        self._metrics.batch(tokens, len(batch), seconds)
        with self._changed:
            self._done, self._spent = _FADE * self._done + tokens, _FADE * self._spent + seconds
            for found, (job, _, row) in zip(logits, batch, strict=True):
                job.missing -= 1
                if not job.open:
                    continue
                if job.logits is None:
                    job.logits = np.empty((len(job.windows), logits.shape[1]), dtype=np.float32)
                job.logits[row] = found
                if job.missing == 0:
                    job.open = False
                    self._metrics.stage("wait", began - job.arrived)
                    _tell(job.future, job.logits)


def _tell(future: _Answer, answer: NDArray[np.float32] | Exception) -> None:
    # The loop is closed if the server was stopped without waiting for its requests: nobody is left to tell.
    with suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(_resolve, future, answer)


def _resolve(future: _Answer, answer: NDArray[np.float32] | Exception) -> None:
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
