"""Clients that stall: half a header, an answer that nobody reads; and those that are only slow."""

import asyncio
import socket

import pytest

pytest.importorskip("fastapi")

import uvicorn

from fineline.server.connections import patient_protocol, patient_streams

PATIENCE = 0.4
GET = b"GET /small HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = (
    b"GET %b HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)
BIG = 32 * 2**20


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        if scope["path"] == "/big":
            await send({"type": "websocket.send", "text": "x" * BIG})
            return
        await asyncio.sleep(3 * PATIENCE)
        await send({"type": "websocket.send", "text": "late"})
        return
    if scope["path"] == "/refused":
        await send({"type": "http.response.start", "status": 429, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * PATIENCE)
    body = b"x" * (BIG if scope["path"] == "/big" else 5)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def served(talk, patience=PATIENCE):
    """Run ``talk(port, stalled)`` against a server; ``stalled`` lists the connections that were closed."""

    async def scene():
        stalled = []
        protocol = patient_protocol(patience, lambda: stalled.append(True))
        streams = patient_streams(patience, lambda: stalled.append(True))
        config = uvicorn.Config(
            app, port=0, http=protocol, ws=streams, lifespan="off", log_config=None, timeout_keep_alive=30
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            await server.startup(sockets=[listening])
            try:
                async with asyncio.timeout(60):
                    await talk(listening.getsockname()[1], stalled)
            finally:
                await server.shutdown(sockets=[listening])

    asyncio.run(scene())


async def opened(port):
    return await asyncio.open_connection("127.0.0.1", port, limit=2 * BIG)


async def closed(writer):
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("before", [b"", GET])
def test_half_a_header_is_not_waited_for(before):
    async def talk(port, stalled):
        reader, writer = await opened(port)
        writer.write(before)
        if before:
            await reader.readuntil(b"xxxxx")
        writer.write(GET[:20])
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        assert stalled == [True]
        await closed(writer)

    served(talk)


def test_a_header_that_trickles_in_is_not_waited_for():
    async def talk(port, stalled):
        reader, writer = await opened(port)
        answer = asyncio.ensure_future(reader.read())
        while not answer.done():  # the timeout around ends this
            writer.write(b"G")
            await asyncio.sleep(0.02)
        await asyncio.gather(answer, return_exceptions=True)  # a reset, if it wrote after the end
        assert stalled == [True]
        await closed(writer)

    served(talk)


def test_a_connection_that_says_nothing_is_closed():
    async def talk(port, stalled):
        reader, writer = await opened(port)
        assert await reader.read() == b""
        assert stalled == [True]
        await closed(writer)

    served(talk)


def test_an_answer_that_nobody_reads_is_given_up():
    async def talk(port, stalled):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(GET.replace(b"small", b"big"))
            while not stalled:  # the timeout around ends this
                await asyncio.sleep(0.02)

    served(talk)


def test_a_slow_reader_that_goes_on_reading_gets_all():
    async def talk(port, stalled):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            loop, read = asyncio.get_running_loop(), 0
            await loop.sock_sendall(client, GET.replace(b"small", b"big"))
            while read < BIG:
                read += len(await loop.sock_recv(client, 2**20))
                await asyncio.sleep(0.1)
            assert not stalled

    served(talk, patience=1.5)


def test_a_slow_answer_and_a_quiet_connection_after_it_are_left_alone():
    async def talk(port, stalled):
        reader, writer = await opened(port)
        for _ in range(2):
            writer.write(GET.replace(b"small", b"slow"))
            await reader.readuntil(b"xxxxx")
            await asyncio.sleep(1.5 * PATIENCE)
        assert not stalled
        await closed(writer)

    served(talk)


def test_a_websocket_is_left_alone():
    pytest.importorskip("websockets")
    from websockets.asyncio.client import connect

    async def talk(port, stalled):
        async with connect(f"ws://127.0.0.1:{port}/") as stream:
            assert await stream.recv() == "late"
        assert not stalled

    served(talk)


def test_the_rest_of_a_refused_body_is_no_header():
    async def talk(port, stalled):
        reader, writer = await opened(port)
        writer.write(b"POST /refused HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
        assert b"429" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"late")
        await asyncio.sleep(2 * PATIENCE)
        writer.write(GET)
        assert b"200" in await reader.readuntil(b"\r\n\r\n")
        assert not stalled
        await closed(writer)

    served(talk)


def test_a_stream_that_nobody_reads_is_given_up():
    pytest.importorskip("websockets")

    async def talk(port, stalled):
        _, writer = await opened(port)
        writer.transport.pause_reading()
        writer.write(UPGRADE % b"/big")
        for _ in range(300):
            if stalled:
                break
            await asyncio.sleep(0.1)
        assert stalled
        await closed(writer)

    served(talk)


def test_a_client_that_still_sends_is_let_finish_after_the_refusal():
    pytest.importorskip("websockets")

    async def talk(port, stalled):
        reader, writer = await opened(port)
        writer.write(UPGRADE % b"/")
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\xff" + BIG.to_bytes(8) + bytes(4))  # the head of a text message over the limit
        frame = await reader.readexactly(4)
        assert (frame[0], int.from_bytes(frame[2:4])) == (0x88, 1009)
        for _ in range(5):
            writer.write(bytes(2**16))
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write_eof()
        await closed(writer)

    served(talk)
