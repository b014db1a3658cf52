"""The job that deletes appeals when their time is over."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from fineline.errors import FinelineError

_LOG = logging.getLogger(__name__)
EVERY = 3600.0
"""Seconds between two passes."""


class Steadiness:
    """Notices a clock that was set: a wrong date for a minute must not delete everything.

    Args:
        wall: Seconds since 1970.
        steady: Seconds that never jump.
        tolerance: Seconds by which the two may part between two looks.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        tolerance: float = 600.0,
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._tolerance = tolerance
        self._last = wall() - steady()

    def jumped(self) -> bool:
        """Whether the clock was set since the last look."""
        last, self._last = self._last, self._wall() - self._steady()
        return abs(self._last - last) > self._tolerance


async def _enforce(purge: Callable[[], Awaitable[int]], clock: Steadiness, every: float) -> None:
    while True:
        try:
            if clock.jumped():
                _LOG.warning("retention: the clock was set; nothing is deleted before the next pass")
            elif deleted := await purge():
                _LOG.info("retention: %d appeals deleted", deleted)
        except FinelineError as error:
            _LOG.warning("retention: %s; the next pass tries again", error.code)
        except Exception as error:  # the job outlives whatever a database driver may do; the message may hold a text
            _LOG.error("retention: %s; the next pass tries again", type(error).__name__)
        await asyncio.sleep(every)


@asynccontextmanager
async def keep_retention(
    purge: Callable[[], Awaitable[int]], *, clock: Steadiness | None = None, every: float = EVERY
) -> AsyncIterator[None]:
    """Enforce the retention time at once and then every hour, for as long as the block runs.

    Args:
        purge: Deletes what is over and says how much it was.
        clock: Tells whether the date can be believed.
        every: Seconds between two passes.
    """
    job = asyncio.create_task(_enforce(purge, clock or Steadiness(), every))
    try:
        yield
    finally:
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job
