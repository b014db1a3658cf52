"""The edge of the app: everything that holds for all requests, as plain ASGI.

It gives each request an id, hands trace headers on, bounds its body, cancels its work when the client goes away, turns
requests away while the server stops, answers what no route caught, and counts and logs each request without its text.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fineline.server.drain import Drain
from fineline.server.faults import OverloadError
from fineline.server.intake import GoneError, Intake, brings_body, sends_body
from fineline.server.judging import Usage, usage
from fineline.server.logs import place_of
from fineline.server.metrics import Metrics
from fineline.server.problems import HttpError
from fineline.server.refusals import refusal
from fineline.server.settings import LimitSettings

_ACCESS = logging.getLogger("fineline.access")
_LOG = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACE_STATE = re.compile(r"[\x20-\x7e]{1,512}")
_ALWAYS = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
"""Answered while the server stops."""

CLIENT_GONE = 499
"""Status in log and metrics of a request whose client went away; nobody receives it."""


class Edge:
    """The middleware.

    Args:
        app: What it wraps.
        limits: For the size of bodies, alone and together, and the time to send them.
        metrics: Where to count.
        drain: Whether the server stops.
        log: Whether to log requests.
        check: Raises an ``HttpError`` for a request whose body is not to be read.
        check_room: Raises ``OverloadError`` when no further text can be judged; asked before a body is read.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: LimitSettings,
        metrics: Metrics,
        drain: Drain,
        log: bool,
        check: Callable[[HTTPConnection], None] = lambda connection: None,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self._intake = Intake(limits, metrics, check)
        self._check_room = check_room
        self._metrics = metrics
        self._drain = drain
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        token = usage.set(exchange.usage)
        self._metrics.running.inc()
        try:
            if scope["type"] == "websocket":
                await self._converse(exchange, receive)
            else:
                with self._drain.request():
                    await self._serve(exchange, receive)
        finally:
            usage.reset(token)
            self._metrics.running.dec()
            self._record(exchange)

    async def _serve(self, exchange: "_Exchange", receive: Receive) -> None:
        scope = exchange.scope
        if self._drain.stopping and scope["path"] not in _ALWAYS:
            if sends_body(scope):
                await self._intake.discard(receive)
            await self._turn_away(exchange)
            return
        try:
            if brings_body(scope):
                if _judges(scope["path"]):
                    self._check_room()
                async with self._intake.body(scope, receive) as body:
                    await self._answer(exchange, receive, body)
            else:
                await self._app(scope, receive, exchange.send)
        except GoneError:
            exchange.status = CLIENT_GONE
            self._metrics.cancelled.inc()
        except OverloadError as error:
            self._metrics.overloads.inc()
            await exchange.refuse(error.status, error.message, error.code, error.headers)
        except HttpError as error:  # of the body; those of routes are answered there
            await exchange.refuse(error.status, error.message, error.code, {**error.headers, "connection": "close"})
        except Exception as error:
            await self._fail(exchange, error)

    async def _turn_away(self, exchange: "_Exchange") -> None:
        message = "The server is about to stop; send this again."
        await exchange.refuse(503, message, "stopping", {"retry-after": "1", "connection": "close"})

    async def _converse(self, exchange: "_Exchange", receive: Receive) -> None:
        try:
            if self._drain.stopping:
                await self._turn_away(exchange)
            else:
                await self._app(exchange.scope, receive, exchange.send)
        except Exception as error:
            _LOG.error("connection %s failed: %s", exchange.request_id, place_of(error))
            with suppress(Exception):  # it may be closed already
                await exchange.send({"type": "websocket.close", "code": 1011})

    async def _answer(self, exchange: "_Exchange", receive: Receive, body: bytes) -> None:
        """Run the app on a body that has been read, and cancel it when the client goes away."""
        gone = asyncio.Event()
        handler = asyncio.current_task()
        assert handler is not None
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            if not exchange.answered:
                gone.set()
                handler.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await self._app(exchange.scope, replay, exchange.send)
        except asyncio.CancelledError:
            if not gone.is_set():
                raise
            handler.uncancel()
            raise GoneError from None
        finally:
            watcher.cancel()

    async def _fail(self, exchange: "_Exchange", error: Exception) -> None:
        _LOG.error("request %s failed: %s", exchange.request_id, place_of(error))
        if exchange.started:
            # Too late for another answer: the connection must break, or the client would take this one for whole.
            raise RuntimeError("the answer broke off") from None
        await exchange.refuse(500, "The server failed to answer; the request was not judged.", "internal", {})

    def _record(self, exchange: "_Exchange") -> None:
        seconds = time.monotonic() - exchange.usage.began
        route = getattr(exchange.scope.get("route"), "path", "other")
        self._metrics.requests.labels(route=route, status=str(exchange.status)).inc()
        self._metrics.seconds.labels(route=route).observe(seconds)
        if self._log:
            caller = exchange.scope.get("state", {}).get("caller")
            fields = {
                "request_id": exchange.request_id,
                "trace_id": exchange.trace_id,
                "caller": caller,
                "method": exchange.scope.get("method", "WEBSOCKET"),
                "route": route,
                "status": exchange.status,
                "ms": round(1000 * seconds, 2),
                "texts": exchange.usage.texts,
                "tokens": exchange.usage.tokens,
            }
            _ACCESS.info("request", extra={"fields": {k: v for k, v in fields.items() if v is not None}})


def _judges(path: str) -> bool:
    return path in ("/v1/classify", "/v1/moderations") or (path.startswith("/v2/models/") and path.endswith("/infer"))


class _Exchange:
    """One request and what has been sent for it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self._send = send
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        self.request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        trace = _TRACE.fullmatch(headers.get("traceparent", ""))
        self.trace_id = trace.group(1) if trace else None
        self._headers = {"x-request-id": self.request_id, "x-content-type-options": "nosniff"}
        if trace:
            self._headers["traceparent"] = trace.group()
            if _TRACE_STATE.fullmatch(state := headers.get("tracestate", "")):
                self._headers["tracestate"] = state
        self.usage = Usage()
        self.status = 0
        self.started = self.answered = False

    async def send(self, message: Message) -> None:
        """Send a message of the app, with the headers that every answer has."""
        if message["type"] in ("http.response.start", "websocket.http.response.start", "websocket.accept"):
            message.setdefault("headers", [])
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            self.started = True
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._headers)
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.answered = True
        elif message["type"] == "websocket.accept":
            self.status = 101
            MutableHeaders(scope=message).update({"x-request-id": self.request_id})
        await self._send(message)

    async def refuse(self, status: int, message: str, code: str, headers: dict[str, str]) -> None:
        """Answer with an error."""
        response = refusal(self.scope["path"], status, message, code, headers=headers)
        await response(self.scope, _nothing, self.send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
