"""WebSocket ``/v1/stream``: a text is judged while it is written.

The client sends the messages of ``stream_messages``. The server answers ``started``; then, whenever it has judged what
came so far, an ``event`` for each label that shows for the first time, and ``judged`` with the place up to which the
text was judged; at last ``verdict``, which is that of ``/v1/classify`` on the whole text, or ``error``.

Deltas are read while a judgement runs, so a server under load judges less often and never falls behind by more than
one judgement.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, WebSocket
from starlette.websockets import WebSocketDisconnect

from fineline.errors import FinelineError, InputError
from fineline.policy import get_policy
from fineline.server.auth import Caller, require
from fineline.server.faults import OverloadError
from fineline.server.judging import Judged, Usage, usage
from fineline.server.keys import Scope
from fineline.server.problems import ForbiddenError, HttpError
from fineline.server.schemas import error_body
from fineline.server.service import Service
from fineline.server.stream_messages import Delta, End, Halves, Start, read_message
from fineline.stream import TextStream, context_end

_IDLE = 300.0
"""Seconds without a message after which a stream is closed."""

_LARGE = 2**16
"""Bytes from which a message is parsed in a thread."""

_LATER = (429, 503, 504)
_REFUSED, _FAILED, _TRY_LATER = 1008, 1011, 1013
"""Close codes of RFC 6455 and its registry."""


def stream_routes(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["judge"])
    metrics = service.metrics
    running = 0

    @routes.websocket("/v1/stream")
    async def stream(socket: WebSocket, caller: Annotated[Caller, Depends(require(Scope.JUDGE))]) -> None:
        nonlocal running
        _check_origin(socket, service.settings.cors.origins)
        if running >= service.settings.limits.max_streams:
            raise OverloadError(1.0)
        running += 1
        metrics.streams.inc()
        try:
            await socket.accept()
            await _Conversation(service, socket, caller).hold()
        except WebSocketDisconnect:
            metrics.cancelled.inc()
        except FinelineError as error:
            with suppress(WebSocketDisconnect):
                async with _read_within(service.settings.limits.stall_seconds):
                    await _refuse(socket, error)
        finally:
            running -= 1
            metrics.streams.dec()

    return routes


@asynccontextmanager
async def _read_within(seconds: float) -> AsyncIterator[None]:
    """Sending waits while the client reads nothing; after so long it counts as gone."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise WebSocketDisconnect(1006) from None


def _check_origin(socket: WebSocket, origins: tuple[str, ...]) -> None:
    """Refuse pages of other origins: no browser asks before it opens a WebSocket, as it does for a request.

    Raises:
        ForbiddenError: It is one.
    """
    origin = socket.headers.get("origin")
    if origin and origin not in origins and urlsplit(origin).netloc != socket.headers.get("host"):
        raise ForbiddenError("foreign_origin", "Name the origin of this page in [cors] origins to use streams.")


async def _refuse(socket: WebSocket, error: FinelineError) -> None:
    status = error.status if isinstance(error, HttpError) else 400
    kind = "server_error" if status >= 500 else "invalid_request_error"
    await socket.send_json({"type": "error", **error_body(error.message, error.code, kind)})
    await socket.close(_TRY_LATER if status in _LATER else _FAILED if status >= 500 else _REFUSED)


class _Conversation:
    """One stream, from ``start`` to ``verdict``."""

    def __init__(self, service: Service, socket: WebSocket, caller: Caller) -> None:
        self._service = service
        self._socket = socket
        self._caller = caller
        self._usage = usage.get() or Usage()
        self._limits = service.settings.limits
        self._changed = asyncio.Event()
        self._halves = Halves()
        self._ended = False

    async def hold(self) -> None:
        """Talk until the verdict is sent.

        Raises:
            FinelineError: The stream cannot go on.
            WebSocketDisconnect: The client went away.
        """
        start = await self._receive()
        if not isinstance(start, Start):
            raise InputError("stream_order", "The first message must be of type 'start'.")
        await self._start(start)
        try:
            async with asyncio.TaskGroup() as group:
                # It goes on after the end, to notice a client that leaves: what runs for it is cancelled then.
                reading = group.create_task(self._read())
                await self._judge()
                reading.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _receive(self) -> Start | Delta | End:
        try:
            async with asyncio.timeout(_IDLE):
                message = await self._socket.receive()
        except TimeoutError:
            raise InputError("stream_idle", f"No message came for {_IDLE:.0f} seconds.") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        raw = message.get("bytes") or (message.get("text") or "").encode("utf-8", "surrogatepass")
        return read_message(raw) if len(raw) < _LARGE else await asyncio.to_thread(read_message, raw)

    async def _start(self, start: Start) -> None:
        self._context = start.context
        given = len(start.context or "")
        if given > self._limits.max_characters:
            raise InputError("stream_too_long", f"The context is longer than {self._limits.max_characters} characters.")
        self._caller.charge(given)
        with self._service.slot.use() as model:
            self._policy = get_policy(start.policy or model.classifier.policy).name
            read = partial(context_end, model.classifier, start.context)
            self._read_context = await self._service.judge.tokenising(read, given)
            name = model.classifier.bundle.model_id
        self._stream = TextStream(max_characters=self._limits.max_characters - given)
        await self._send("started", id=f"strm-{uuid.uuid4().hex}", model=name, policy=self._policy)

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if self._ended or isinstance(message, Start):
                raise InputError("stream_order", "After 'start' come 'delta' messages and one 'end', nothing else.")
            if isinstance(message, Delta):
                self._caller.charge(len(message.text))
                self._stream.add(self._halves.join(message.text))
            else:
                self._stream.add(self._halves.rest())
                self._ended = True
            self._changed.set()

    async def _judge(self) -> None:
        while not self._ended:
            await self._changed.wait()
            self._changed.clear()
            while not self._ended and (stretch := self._stream.due()):
                judged = await self._ask(stretch.text, self._read_context, whole=False)
                policy = judged.bundle.policies[self._policy]
                for event in self._stream.settle(stretch, judged.verdicts[0], policy):
                    self._service.metrics.stream_delay.observe(event.delay)
                    await self._send("event", **event.as_dict())
                await self._send("judged", until=self._stream.judged)
        with self._service.drain.request():
            text = self._stream.text
            judged = await self._ask(text, self._context, whole=True)
            verdict = judged.verdicts[0]
            given = self._service.verdict_id(verdict, text, self._context, judged.bundle)
            await self._send("verdict", **verdict.as_dict(), **given)
            async with _read_within(self._limits.stall_seconds):
                await self._socket.close()

    async def _ask(self, text: str, context: str | None, *, whole: bool) -> Judged:
        """Judge; while the deadline allows it, an overload is waited out."""
        due = time.monotonic() + self._limits.deadline_seconds
        while True:
            # A deadline counts from a usage's beginning, which here is not that of the connection.
            usage.set(spent := Usage())
            try:
                return await self._service.judge.judged([text], [context], policy=self._policy, count=whole)
            except OverloadError as error:
                if time.monotonic() + error.wait > due:
                    raise
                await asyncio.sleep(error.wait)
            finally:
                self._usage.texts += spent.texts if whole else 0
                self._usage.tokens += spent.tokens

    async def _send(self, kind: str, **fields: Any) -> None:
        async with _read_within(self._limits.stall_seconds):
            await self._socket.send_json({"type": kind, **fields})
