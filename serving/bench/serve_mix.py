"""A load of mixed requests: every route that judges, streams, appeals, bad requests, clients that leave."""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from serve_asking import LOST, Asker, Known
from serve_load import moments

KINDS = {"classify": 40, "moderations": 20, "infer": 14, "bad": 10, "stream": 8, "appeal": 6, "leave": 2}
"""What is asked, and how often."""

_PIECE = 20
"""Characters of a message of a stream."""

_IMAGE = [{"type": "image_url", "image_url": {"url": "x"}}]
_BAD: tuple[tuple[str, bytes, dict[str, str], int], ...] = (
    ("/v1/classify", b'{"input": ', {}, 422),
    ("/v1/classify", b'{"input": "\xff\xfe"}', {}, 422),
    ("/v1/classify", b'{"input": ' + b"[" * 10_000, {}, 422),
    ("/v1/classify", b'{"input": "a", "unknown": 1}', {}, 422),
    ("/v1/classify", b'{"input": []}', {}, 400),
    ("/v1/classify", b'{"input": "a", "policy": "unknown"}', {}, 400),
    ("/v1/classify", b'{"input": "a"}', {"content-type": "text/plain"}, 415),
    ("/v1/classify", b'{"input": "a"}', {"x-deadline-ms": "soon"}, 400),
    ("/v1/classify", json.dumps({"input": ["a"] * 3000}).encode(), {}, 422),
    ("/v1/moderations", json.dumps({"input": _IMAGE}).encode(), {}, 400),
    ("/v1/feedback", b'{"verdict_id": "x", "expected_labels": [], "reason": "other"}', {}, 400),
    ("/v1/nowhere", b"{}", {}, 404),
)
"""Requests that must be refused: path, body, headers, status."""


class Mix(Asker):
    """The load.

    Args:
        url: Where the server listens.
        model: Name of its model.
        known: What is sent, and what must come back.
        seed: Of the order.
        patience: Seconds after which an answer counts as lost.
    """

    def __init__(self, url: str, model: str, known: Known, *, seed: int = 0, patience: float = 90.0) -> None:
        super().__init__()
        self._url = url
        self.infer_path = f"/v2/models/{model}/infer"
        self._known = known
        self._seed = seed
        self._rng = random.Random(seed)
        self._patience = patience
        self._stopped = False

    def stop(self) -> None:
        """Send no more; what was sent is waited for."""
        self._stopped = True

    async def run(self, rate: float, seconds: float, kinds: Mapping[str, int] = KINDS) -> None:
        """Send ``rate`` requests a second, at the moments of a Poisson process, whatever becomes of earlier ones."""
        began = time.perf_counter()
        async with self.session() as session, asyncio.TaskGroup() as group:
            for moment in moments(rate, seconds, self._seed):
                if (wait := began + moment - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                if self._stopped:
                    break
                kind = self._rng.choices(list(kinds), list(kinds.values()))[0]
                place = self._rng.randrange(len(self._known.texts))
                group.create_task(getattr(self, kind)(session, place))

    def session(self) -> aiohttp.ClientSession:
        """Connections to the server."""
        # The server drops connections that idle for five seconds; a request sent at that very moment would be lost.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        return aiohttp.ClientSession(
            self._url, timeout=aiohttp.ClientTimeout(total=self._patience), connector=connector
        )

    async def metrics(self) -> dict[str, float]:
        """The server's metrics."""
        async with self.session() as session, session.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    async def classify(self, session: aiohttp.ClientSession, place: int, kind: str = "classify") -> Any:
        """Whole verdicts."""
        return await self.ask(
            session,
            kind,
            "/v1/classify",
            {"input": self._known.texts[place]},
            own=lambda answer: self._is_own(place, answer["results"][0]),
        )

    async def moderations(self, session: aiohttp.ClientSession, place: int) -> None:
        """OpenAI's API."""
        await self.ask(
            session,
            "moderations",
            "/v1/moderations",
            {"input": [self._known.texts[place]]},
            own=lambda answer: self._known.own(place, answer["results"][0]["category_scores"]),
        )

    async def infer(self, session: aiohttp.ClientSession, place: int) -> None:
        """The Open Inference Protocol."""

        def own(answer: Any) -> bool:
            found = next(one["data"] for one in answer["outputs"] if one["name"] == "probabilities")
            return self._known.own(place, dict(zip(self._known.labels, found, strict=True)))

        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [self._known.texts[place]]}
        await self.ask(session, "infer", self.infer_path, {"inputs": [tensor]}, own=own)

    async def bad(self, session: aiohttp.ClientSession, place: int) -> None:
        """A request that must be refused."""
        path, body, headers, status = _BAD[place % len(_BAD)]
        await self.ask(session, "bad", path, body, headers=headers, expected=status)

    async def appeal(self, session: aiohttp.ClientSession, place: int) -> None:
        """A verdict, an appeal against it, a look at that, and for some its withdrawal."""
        if (answer := await self.classify(session, place, "appeal")) is None:
            return
        filed = await self.ask(
            session,
            "appeal",
            "/v1/feedback",
            {
                "verdict_id": answer["results"][0]["verdict_id"],
                "expected_labels": ["insult"],
                "reason": "other",
                "text": self._known.texts[place],
                "consent": True,
            },
            expected=201,
        )
        if filed:
            one = f"/v1/feedback/{filed['id']}"
            await self.ask(session, "appeal", one, method="GET", own=lambda found: bool(found["id"] == filed["id"]))
            if place % 2:
                await self.ask(session, "appeal", one, method="DELETE", expected=204)

    async def stream(self, session: aiohttp.ClientSession, place: int) -> None:
        """A text that is judged while it is written."""
        began, seen = time.perf_counter(), []
        try:
            async with session.ws_connect("/v1/stream") as socket:
                with suppress(*LOST):  # what the server says before it closes is still to be read
                    await self._write(socket, self._known.texts[place])
                async with asyncio.timeout(self._patience):
                    seen = [self._read(raw.data, place) async for raw in socket]
        except aiohttp.WSServerHandshakeError as error:
            self.note("stream", began, error.status, "wrong", error)
        except LOST as error:
            self.note_loss("stream", began, error)
        else:
            code = socket.close_code or 0
            last = seen[-1] if seen else ""
            if code in (0, 1005, 1006) and last not in ("right", "mixed_up"):
                last = "lost"
            self.note("stream", began, code, last if last in ("right", "mixed_up", "lost") else "wrong")

    async def _write(self, socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
        await socket.send_json({"type": "start"})
        for low in range(0, len(text), _PIECE):
            await socket.send_json({"type": "delta", "text": text[low : low + _PIECE]})
            await asyncio.sleep(0.005)
        await socket.send_json({"type": "end"})

    def _read(self, raw: str, place: int) -> str:
        """The type of a message; of a verdict whether it is right."""
        message = json.loads(raw)
        if message["type"] == "verdict":
            return "right" if self._is_own(place, message) else "mixed_up"
        return str(message["type"])

    async def leave(self, session: aiohttp.ClientSession, place: int) -> None:
        """A client that goes away before it is answered."""
        address, began = urlsplit(self._url), time.perf_counter()
        body = json.dumps({"input": [self._known.texts[place]] * 20}).encode()
        head = f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        try:
            _, writer = await asyncio.open_connection(address.hostname, address.port)
            writer.write(head.encode() + b"\r\n\r\n" + body)
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.close()
        except OSError as error:
            self.note_loss("leave", began, error)
        else:
            self.note("leave", began, 0, "left")

    def _is_own(self, place: int, result: Mapping[str, Any]) -> bool:
        return self._known.own(place, result["scores"], result["windows"][-1]["end"])
