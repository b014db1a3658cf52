"""Connections whose client stalls: uvicorn waits for ever for the rest of a header, and for an answer to be read."""

import asyncio
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_LINGER = 2.0
"""Seconds in which a client that was refused may go on sending."""
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def patient_protocol(seconds: float, stalled: Callable[[], None]) -> type[H11Protocol]:
    """Uvicorn's protocol, with an end to its patience.

    A connection is closed when the headers of a request are not there so long after the connection was made or the
    first byte of them came, or when its client reads nothing of an answer for so long. A body has the deadline of its
    request; a connection without a request is closed by uvicorn itself.

    Args:
        seconds: The patience.
        stalled: Called for each connection that is closed.
    """

    class PatientProtocol(H11Protocol):
        _header: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None
        _unread = 0
        _begun = False

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait_for_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            answering = self.cycle is not None and not self.cycle.response_complete
            if answering or self.transport.is_closing() or self.transport.get_protocol() is not self:
                self._stop_waiting()  # a request, the end, or a WebSocket
            elif self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
                self._stop_waiting()  # the rest of a body that was refused unread: nothing has begun
                self._unset_keepalive_if_required()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
            else:
                self._begun = True
                self._wait_for_header()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._watch_reader()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch_reader()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            if self._reading:
                self._reading.cancel()
            super().connection_lost(exc)

        def _wait_for_header(self) -> None:
            self._header = self._header or self.loop.call_later(seconds, self._no_header)

        def _stop_waiting(self) -> None:
            if self._header:
                self._header.cancel()
            self._header, self._begun = None, False

        def _no_header(self) -> None:
            if self._begun:
                self.transport.write(_TOO_SLOW)
            stalled()
            self.transport.close()

        def _watch_reader(self) -> None:
            if self._reading is None and (unread := self.transport.get_write_buffer_size()):
                self._unread = unread
                self._reading = self.loop.call_later(seconds, self._look_at_reader)

        def _look_at_reader(self) -> None:
            self._reading = None
            if self.transport.get_write_buffer_size() < self._unread:
                self._watch_reader()
            else:
                stalled()
                self.transport.abort()

    return PatientProtocol


def patient_streams(seconds: float, stalled: Callable[[], None]) -> type[WebSocketsSansIOProtocol]:
    """Uvicorn's WebSockets, which close neither too late nor too soon.

    After a conversation closing waits for the client to read; that has an end. A client whose message is refused still
    sends: what comes is thrown away for a while, or it would read a reset instead of the code that says why.

    Args:
        seconds: The patience.
        stalled: Called for each connection that is closed.
    """

    class PatientStreams(WebSocketsSansIOProtocol):
        _refused = False

        def data_received(self, data: bytes) -> None:
            if not self._refused:
                super().data_received(data)

        def handle_parser_exception(self) -> None:
            assert self.conn.close_sent is not None
            self._refused = self.close_sent = True
            self.queue.put_nowait({"type": "websocket.disconnect", "code": self.conn.close_sent.code})
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_timer = self.loop.call_later(_LINGER, self.transport.close)

        async def run_asgi(self) -> None:
            await super().run_asgi()
            if not self.disconnected:
                self.loop.call_later(seconds, self._give_up)

        def _give_up(self) -> None:
            if not self.disconnected:
                stalled()
                self.transport.abort()

    return PatientStreams
