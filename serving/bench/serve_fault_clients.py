"""Faults of clients: those that vanish, stall or read nothing, and bodies that nobody should send."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from serve_fault_scene import Scene

_CROWD = 100
_ROUTES = ("/v1/classify", "/v1/moderations", "/v1/feedback", "/admin/reload")
_READERS = 2
_CHUNK = 2**16
_PIECE = b"x" * _CHUNK
_HUGE = 100 * 2**20
_STALL, _DEADLINE, _SLACK = 20.0, 30.0, 15.0
"""``stall_seconds`` and ``deadline_seconds`` as they come, and what they may be exceeded by on a busy machine."""

_UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: MDAwMDAwMDAwMDAwMDAwMA==\r\n\r\n"
)


@asynccontextmanager
async def _connected(scene: Scene, receive_buffer: int | None = None) -> AsyncIterator[socket.socket]:
    address = urlsplit(scene.server.base)
    with socket.socket() as client:
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, (address.hostname, address.port))
        yield client


def _head(length: int | None, path: str = "/v1/classify", more: str = "") -> bytes:
    sizes = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{sizes}\r\n{more}\r\n".encode()


async def _status(client: socket.socket) -> str:
    """Status of what comes, or what became of the connection."""
    try:
        found = await asyncio.get_running_loop().sock_recv(client, 2**16)
    except OSError:
        return "cut off"
    return found.split(b" ", 2)[1].decode() if found.startswith(b"HTTP/1.1 ") else "cut off"


async def vanish(scene: Scene) -> dict[str, Any]:
    """Clients close their connection within the header, within the body, and while their texts are judged."""
    body = json.dumps({"input": ["How was your day? " * 20] * 20}).encode()
    whole = _head(len(body)) + body
    files = scene.server.process.num_fds()
    for number in range(3 * _CROWD):
        async with _connected(scene) as client:
            end = (40, len(whole) - 9, len(whole))[number % 3]
            await asyncio.get_running_loop().sock_sendall(client, whole[:end])
            await asyncio.sleep(0.01)
    seconds = await scene.until(lambda: _few_files(scene, files))
    return {"expected": True, "clients": 3 * _CROWD, "recovered_seconds": seconds}


async def _few_files(scene: Scene, before: int) -> bool:
    return scene.server.process.num_fds() <= before + 10  # those of the load


async def _trickled(scene: Scene, begin: bytes, patience: float) -> dict[str, Any]:
    """A crowd sends ``begin`` and then a byte a second; each must be told 408 within the patience."""

    async def one() -> tuple[str, float]:
        async with _connected(scene) as client:
            began, loop = time.perf_counter(), asyncio.get_running_loop()
            await loop.sock_sendall(client, begin)
            answer = asyncio.ensure_future(_status(client))
            while not (await asyncio.wait([answer], timeout=1))[0]:
                try:
                    await loop.sock_sendall(client, b"x")
                except OSError:
                    break
            return await answer, time.perf_counter() - began

    found = await asyncio.gather(*(one() for _ in range(_CROWD)))
    statuses, most = Counter(status for status, _ in found), max(seconds for _, seconds in found)
    # A byte that comes after the end makes the network drop what was not read: a reset in the answer's place.
    right = set(statuses) <= {"408", "cut off"} and most < patience + _SLACK
    return {"expected": right, "clients": _CROWD, "statuses": dict(statuses), "longest_seconds": round(most, 1)}


async def slow_headers(scene: Scene) -> dict[str, Any]:
    """Headers that trickle in."""
    return await _trickled(scene, _head(10)[:-2] + b"x-long: ", _STALL)


async def slow_bodies(scene: Scene) -> dict[str, Any]:
    """Bodies that trickle in."""
    return await _trickled(scene, _head(10_000) + b'{"input": "', _DEADLINE)


async def slow_readers(scene: Scene) -> dict[str, Any]:
    """Clients that ask for more than the network holds, and read nothing of it."""
    body = json.dumps({"input": ["a"] * 2048}).encode()
    stalled = (await scene.mix.metrics())["fineline_stalled_total"]

    async def given_up() -> bool:
        return (await scene.mix.metrics())["fineline_stalled_total"] >= stalled + _READERS

    async with AsyncExitStack() as stack:
        for _ in range(_READERS):
            client = await stack.enter_async_context(_connected(scene, 4096))
            await asyncio.get_running_loop().sock_sendall(client, _head(len(body)) + body)
        seconds = await scene.until(given_up, 6 * _STALL)
    return {"expected": True, "clients": _READERS, "given_up_seconds": seconds}


async def huge_bodies(scene: Scene) -> dict[str, Any]:
    """Bodies of 100 MB: announced, in chunks, after asking first, and as a message of a stream."""
    chunk = b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE)
    seen = {
        "announced": await _sent(scene, _head(_HUGE), _PIECE),
        "in_chunks": await _sent(scene, _head(None), chunk),
        "asked_first": await _sent(scene, _head(_HUGE, more="expect: 100-continue\r\n"), b""),
        "in_a_stream": await _sent(scene, _UPGRADE, _PIECE),
    }
    return {**seen, "expected": list(seen.values()) == ["413"] * 3 + ["cut off"]}


async def _sent(scene: Scene, head: bytes, piece: bytes) -> str:
    """Send up to 100 MB until something comes back: its status."""
    async with _connected(scene) as client:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, head)
        if head is _UPGRADE:
            await loop.sock_recv(client, 2**16)
            await loop.sock_sendall(client, b"\x81\xff" + _HUGE.to_bytes(8) + bytes(4))  # a text message, its mask 0
        answer = asyncio.ensure_future(_status(client))
        try:
            for _ in range(_HUGE // _CHUNK if piece else 0):
                if answer.done():
                    break
                await loop.sock_sendall(client, piece)
        except OSError:
            pass
        return await answer


def _bodies(body: bytes) -> Callable[[Scene], Awaitable[dict[str, Any]]]:
    async def inject(scene: Scene) -> dict[str, Any]:
        statuses: Counter[str] = Counter()
        began = time.perf_counter()
        for route in (*_ROUTES, scene.mix.infer_path) * 4:
            statuses[str(await scene.status(route, body))] += 1
        code = await _said(scene, body)
        right = set(statuses) <= {"400", "413", "422"} and code in (1003, 1007, 1008, 1009)
        seconds = round(time.perf_counter() - began, 3)
        return {"expected": right, "statuses": dict(statuses), "stream_code": code, "seconds": seconds}

    return inject


async def _said(scene: Scene, body: bytes) -> int | None:
    """Close code of a stream that is sent a body as a message."""
    async with scene.mix.session() as session, session.ws_connect("/v1/stream") as stream:
        # As text, which must be UTF-8; aiohttp would not send other bytes as such. Read meanwhile: the server may close
        # before it has read all.
        sending = asyncio.ensure_future(stream.send_frame(body, aiohttp.WSMsgType.TEXT))
        async for _ in stream:
            pass
        await asyncio.gather(sending, return_exceptions=True)
        return stream.close_code


DEEP = _bodies(b'{"input": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")
INVALID = _bodies(b'{"input": "\xff\xfe\x80 \xc3\x28 \xed\xa0\x80"}')
MANY = _bodies(b'{"input": [' + b'"a",' * 999_999 + b'"a"]}')
