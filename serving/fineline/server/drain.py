"""Whether the server is about to stop, and what still runs."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Drain:
    """Counts the requests of one app; belongs to its event loop."""

    def __init__(self) -> None:
        self.stopping = False
        self.running = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request while it runs."""
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    async def finish(self, *, at_least: float, at_most: float) -> None:
        """Turn new requests away and wait until the others are done; all in seconds from now."""
        self.stopping = True
        end = time.monotonic() + at_most
        await asyncio.sleep(at_least)
        while self.running and time.monotonic() < end:
            await asyncio.sleep(0.02)
