"""The server process: uvicorn, with a drain before it stops, and reloads on a signal."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from fineline.errors import FinelineError
from fineline.server.app import create_app
from fineline.server.auth import Guard
from fineline.server.connections import patient_protocol, patient_streams
from fineline.server.document import write_document
from fineline.server.logs import place_of, set_up_logging
from fineline.server.memory import share_arenas
from fineline.server.models import ModelSlot
from fineline.server.service import Service
from fineline.server.settings import ServerSettings

_LOG = logging.getLogger(__name__)
_GRACE = 5
"""Seconds above the deadline of a request after which a stopping server no longer waits."""
_KEEP_ALIVE = 75
"""Seconds that an idle connection stays open. Longer than load balancers keep theirs (60 is common): who closes first
must not be the side that a request may be on its way to, and a busy server would close over one it has not read."""


class Server(uvicorn.Server):
    """Uvicorn with signals of its own.

    SIGTERM and SIGINT make it unready at once; it goes on until its requests are answered, and new ones are refused. A
    second one ends it without waiting. SIGHUP reloads the model and the keys.
    """

    def __init__(self, app: FastAPI, settings: ServerSettings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=patient_protocol(settings.limits.stall_seconds, app.state.service.metrics.stalled.inc),
                ws=patient_streams(settings.limits.stall_seconds, app.state.service.metrics.stalled.inc),
                host=settings.listen.host,
                port=settings.listen.port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE,
                ssl_certfile=settings.tls.certificate or None,
                ssl_keyfile=settings.tls.key or None,
                ws_max_size=settings.limits.max_message,
                ws_per_message_deflate=False,  # it would keep 64 kB a stream, for messages of a few words
                timeout_graceful_shutdown=int(settings.limits.deadline_seconds) + _GRACE,
            )
        )
        self._limits = settings.limits
        self._service: Service = app.state.service
        self._guard: Guard = app.state.guard
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, *args: object, **options: object) -> None:
        """Start, and listen for signals."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_log_stray)
        await super().startup(*args, **options)  # type: ignore[arg-type]
        if hasattr(signal, "SIGHUP"):
            self._loop.add_signal_handler(signal.SIGHUP, lambda: self._start(self._reload()))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the second time, stop."""
        if self._loop is None or not self.started or self._service.drain.stopping:
            super().handle_exit(sig, frame)
        else:
            self._service.drain.stopping = True
            self._loop.call_soon_threadsafe(lambda: self._start(self._drain(sig)))

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self, sig: int) -> None:
        _LOG.info("stopping: new requests are refused, %d run", self._service.drain.running)
        most = self._limits.deadline_seconds + _GRACE
        await self._service.drain.finish(at_least=self._limits.drain_seconds, at_most=most)
        super().handle_exit(sig, None)

    async def _reload(self) -> None:
        try:
            self._guard.reload()
            _LOG.info("keys were read again")
        except FinelineError as error:
            _LOG.error("keys stay as they were: %s", error.message)
        try:
            await self._service.slot.reload()
        except FinelineError as error:
            _LOG.error("no reload: %s", error.message)


def _log_stray(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    _LOG.error("stray error: %s", place_of(error if isinstance(error, BaseException) else None))


def serve(settings: ServerSettings) -> None:
    """Load the model and serve until a signal.

    Raises:
        BundleError: The model cannot be used.
        ConfigError: The settings are wrong.
    """
    set_up_logging(settings.log.level)
    _forbid_core_dumps()
    share_arenas()
    slot = ModelSlot(settings)
    app = create_app(settings, slot)
    slot.load()
    Server(app, settings).run()


def _forbid_core_dumps() -> None:
    """A dump of the memory holds users' texts. The kernel takes a limit of 1 byte for: none, not even to a program."""
    with suppress(ImportError):  # not on Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0 if most == 0 else 1, most))


def write_openapi(settings: ServerSettings, path: Path) -> None:
    """Write the OpenAPI document of a server with these settings; no model is loaded."""
    write_document(create_app(settings, ModelSlot(settings)), path)
