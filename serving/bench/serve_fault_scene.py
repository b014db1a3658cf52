"""What the faults have in common: a server under a light load, and the judgement on what was seen."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from serve_asking import LOST
from serve_mix import KINDS, Mix
from serve_servers import Kind, Running, running
from serve_steady import accounts

_AROUND = 3.0
"""Seconds of load before the fault and after it."""

_GROWTH = 100e6
"""Bytes by which a fault may leave the server larger: less than any of the bodies, models or crowds it threw."""


class Scene:
    """A server that something is done to.

    Attributes:
        server: It; another one after ``restart``.
        mix: The load on it.
        folder: For files; the bundle in use is ``one`` in it.
    """

    def __init__(self, kind: Kind, folder: Path, mix: Callable[[str], Mix], stack: ExitStack) -> None:
        self._kind = kind
        self._stack = stack
        self.folder = folder
        self.server: Running = stack.enter_context(running(kind, folder))
        self.mix = mix(self.server.base)

    async def restart(self) -> float:
        """Start the server anew where it was, as whoever looks after it would; returns the seconds to readiness."""
        port = int(self.server.base.rpartition(":")[2])
        self.server = await asyncio.to_thread(self._stack.enter_context, running(self._kind, self.folder, port))
        return self.server.start_seconds

    async def status(self, path: str, body: bytes | None = None, method: str = "POST") -> int:
        """Status of the answer to a request of its own; 0 if none came."""
        return (await self.answer(path, body, method))[0]

    async def answer(self, path: str, body: Any = None, method: str = "POST") -> tuple[int, Any]:
        """Status and JSON of the answer to a request of its own; 0 and ``None`` if none came."""
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        try:
            async with (
                self.mix.session() as session,
                session.request(method, path, data=raw, headers=headers) as response,
            ):
                content = await response.read()
        except LOST:
            return 0, None
        return response.status, json.loads(content) if content else None

    async def appeal(self, verdict_id: str | None = None) -> int:
        """Status of an appeal, against a new verdict if none is given."""
        verdict_id = verdict_id or await self.verdict()
        body = {"verdict_id": verdict_id, "expected_labels": [], "reason": "other"}
        return (await self.answer("/v1/feedback", body))[0]

    async def verdict(self) -> str:
        """Id of a new verdict."""
        _, answer = await self.answer("/v1/classify", {"input": "How was your day?"})
        return str(answer["results"][0]["verdict_id"])

    async def until(self, condition: Callable[[], Awaitable[bool]], patience: float = 60.0) -> float:
        """Wait for something; returns the seconds it took.

        Raises:
            TimeoutError: It did not come to that.
        """
        began = time.perf_counter()
        async with asyncio.timeout(patience):
            while not await condition():
                await asyncio.sleep(0.05)
        return round(time.perf_counter() - began, 3)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: In the result.
        done: What is done, in words.
        inject: Does it; returns what was seen, with ``expected``, whether that is what should be seen, and
            ``recovered_seconds`` where there is something to recover from.
        ends: Whether the process ends: then requests may stay without an answer, which their clients notice.
        kinds: The load.
    """

    name: str
    done: str
    inject: Callable[[Scene], Awaitable[dict[str, Any]]]
    ends: bool = False
    kinds: Mapping[str, int] = field(default_factory=lambda: KINDS)


async def under_load(scene: Scene, fault: Fault, rate: float) -> dict[str, Any]:
    """Inject a fault while requests come, and report."""
    load = asyncio.create_task(scene.mix.run(rate, 3600, fault.kinds))
    try:
        await asyncio.sleep(_AROUND)
        before = scene.server.memory()["now"]
        try:
            seen = await fault.inject(scene)
        except (*LOST, KeyError, TypeError) as error:
            seen = {"expected": False, "failed": type(error).__name__}
        await asyncio.sleep(_AROUND)
    finally:
        scene.mix.stop()
        await load
    return report(fault, seen, accounts(scene.mix.records), before, scene.server.memory()["now"], await _left(scene))


async def _left(scene: Scene) -> dict[str, int]:
    """What the server still holds when all clients are gone."""

    async def held() -> dict[str, int]:
        found = await scene.mix.metrics()
        names = ("fineline_requests_running", "fineline_streams", "fineline_queue_tokens")
        return {name: round(found[name]) - (name == "fineline_requests_running") for name in names}

    async def nothing() -> bool:
        return not any((await held()).values())

    try:
        await scene.until(nothing, 20)
    except (*LOST, KeyError):
        pass
    try:
        return await held()
    except aiohttp.ClientError:
        return {"answers": 0, "unreachable": 1}


def report(
    fault: Fault, seen: Mapping[str, Any], load: Mapping[str, Any], before: int, after: int, left: Mapping[str, int]
) -> dict[str, Any]:
    """What was seen of a fault, and what of it was not survived.

    Args:
        fault: What was done.
        seen: What its injection saw.
        load: ``accounts`` of the load.
        before: Resident bytes before.
        after: And after; of the new process if it was started anew.
        left: What the server held at the end.
    """
    outcomes = load["outcomes"]
    harm = ("mixed_up", "wrong") if fault.ends else ("mixed_up", "wrong", "lost", "unreachable")
    broken = [name for name in harm if outcomes.get(name)]
    broken += [] if seen["expected"] else ["not as expected"]
    broken += ["memory"] if after - before > _GROWTH else []
    broken += ["left in the server"] if any(left.values()) else []
    most = [kind["right"]["most"] for kind in load["kinds"].values() if kind["right"]["most"] is not None]
    statuses: dict[str, int] = {}
    for kind in load["kinds"].values():
        for status, count in kind["statuses"].items():
            statuses[status] = statuses.get(status, 0) + count
    return {
        "done": fault.done,
        "seen": {name: value for name, value in seen.items() if name not in ("expected", "recovered_seconds")},
        "recovered_seconds": seen.get("recovered_seconds"),
        "load": {
            "sent": load["sent"],
            "outcomes": outcomes,
            "statuses": dict(sorted(statuses.items())),
            "slowest_right_ms": max(most, default=None),
            "errors": load["errors"],
        },
        "memory": {"before": before, "after": after},
        "broken": broken,
        "survived": not broken,
    }
