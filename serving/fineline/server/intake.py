"""Bodies of requests, read within bounds: of each, of all together, and of time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope

from fineline.server.bodies import TooLongError
from fineline.server.metrics import Metrics
from fineline.server.problems import HttpError, LimitError
from fineline.server.settings import LimitSettings

_SMALL = 2**16
"""Bytes of a body that is read whoever sends it."""

_WITH_BODY = ("POST", "PUT", "PATCH", "DELETE")
_LINGER = 2.0
"""Seconds in which a body that is refused is thrown away, so that its sender reads the refusal, not a reset."""


def brings_body(scope: Scope) -> bool:
    """Whether a request has a body; one of a method that needs none may bring it all the same."""
    headers = Headers(scope=scope)
    return scope["method"] in _WITH_BODY or "transfer-encoding" in headers or headers.get("content-length", "0") != "0"


def sends_body(scope: Scope) -> bool:
    """Whether a client sends a body unasked; who asks first has not begun, so there is nothing to throw away."""
    return brings_body(scope) and Headers(scope=scope).get("expect", "").lower() != "100-continue"


class SlowBodyError(HttpError):
    """The body is not there in time."""

    status = 408


class GoneError(Exception):
    """The client went away before its body was there."""


class Intake:
    """Reads the bodies of one app; belongs to its event loop.

    Args:
        limits: For the size of bodies, alone and together, and the time to send them.
        metrics: Where to count.
        check: Raises an ``HttpError`` for a request whose body is not to be read.
    """

    def __init__(self, limits: LimitSettings, metrics: Metrics, check: Callable[[HTTPConnection], None]) -> None:
        self._limits = limits
        self._metrics = metrics
        self._check = check
        self.held = 0

    @asynccontextmanager
    async def body(self, scope: Scope, receive: Receive) -> AsyncIterator[bytes]:
        """The body of a request; it counts as held until the block ends.

        Raises:
            HttpError: It is refused, because of its size, its slowness, or who sends it.
            GoneError: The client went away.
        """
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._limits.deadline_seconds):
                    await self._read(scope, receive, parts)
            except TimeoutError:
                raise SlowBodyError("slow_body", "The body did not arrive in time.") from None
            parts[:] = [b"".join(parts)]  # kept beside it, the pieces would double what is held
            yield parts[0]
        finally:
            self.held -= sum(map(len, parts))

    async def _read(self, scope: Scope, receive: Receive, parts: list[bytes]) -> None:
        """Read a body, refused as soon as it is over a limit, whatever its headers say."""
        headers = Headers(scope=scope)
        told = headers.get("content-length", "")
        rest, size, more = sends_body(scope), 0, True
        try:
            if not told.isdigit() or int(told[:19]) > _SMALL:
                # Before it is read: strangers must not fill the memory that bodies may take.
                self._check(HTTPConnection(scope))
            self._bound(int(told[:19]) if told.isdigit() else 0)
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise GoneError
                rest = more = message.get("more_body", False)
                part = message.get("body", b"")
                size += len(part)
                self._bound(size)
                if self.held + len(part) > self._limits.max_bodies:
                    self._metrics.overloads.inc()
                    raise LimitError("overloaded", "The server holds as many bodies as it may; send this later.", 1.0)
                self.held += len(part)
                parts.append(part)
        except HttpError:
            if rest:
                await self.discard(receive)
            raise

    def _bound(self, size: int) -> None:
        if size > self._limits.max_body:
            message = f"The body is larger than {self._limits.max_body} bytes; send fewer or shorter texts."
            raise TooLongError("body_too_large", message)

    async def discard(self, receive: Receive) -> None:
        """Throw away what a client still sends, for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER):
                while (message := await receive())["type"] == "http.request" and message.get("more_body", False):
                    pass
