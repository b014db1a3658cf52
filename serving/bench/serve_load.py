"""A load generator in a process of its own: asyncio and one connection a client.

    python serving/bench/serve_load.py SPEC.json OUT.json

Closed: each of N clients sends its next request when the last one is answered. Open: requests leave at the moments of a
Poisson process whether or not earlier ones are answered, and their time counts from the planned moment, so that a slow
server cannot hide by being asked less often.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

_LIMIT = 8192
"""Open connections at most."""


def moments(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of a Poisson process, in seconds from the start."""
    rng, found, now = random.Random(seed), [], 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        found.append(now)
    return found


class Load:
    """Requests to one server.

    Args:
        spec: ``url``, ``body`` (JSON of a request; its ``input`` is set to a list of one text), ``texts``, ``headers``,
            ``patience`` (seconds after which an answer counts as lost), ``answers`` (whether to keep what came back),
            ``seed``, and ``clients`` with ``seconds`` and ``warm`` or ``rate`` with ``seconds``.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.records: list[dict[str, Any]] = []
        rng = random.Random(spec["seed"])
        self._order = list(range(len(spec["texts"])))
        rng.shuffle(self._order)
        self._sent = 0
        self._bodies = [json.dumps(spec["body"] | {"input": [text]}).encode() for text in spec["texts"]]

    async def _one(self, session: aiohttp.ClientSession, planned: float) -> None:
        number = self._sent
        self._sent += 1
        text, request_id = self._order[number % len(self._order)], f"bench-{number}"
        headers = {"content-type": "application/json", "x-request-id": request_id} | self.spec["headers"]
        record: dict[str, Any] = {"text": text, "status": 0, "same_id": True, "sent": time.perf_counter()}
        try:
            async with session.post(self.spec["url"], data=self._bodies[text], headers=headers) as response:
                content = await response.read()
                record |= {"status": response.status, "same_id": response.headers.get("x-request-id") == request_id}
            if self.spec["answers"] and record["status"] == 200:
                record["answer"] = _essence(json.loads(content))
        except (aiohttp.ClientError, TimeoutError) as error:
            record["error"] = type(error).__name__
        now = time.perf_counter()
        self.records.append(record | {"planned": planned, "seconds": now - planned, "done": now})

    async def _closed(self, session: aiohttp.ClientSession, clients: int, end: float) -> None:
        async def client() -> None:
            while (now := time.perf_counter()) < end:
                await self._one(session, now)

        await asyncio.gather(*(client() for _ in range(clients)))

    async def _open(self, session: aiohttp.ClientSession, began: float) -> None:
        async with asyncio.TaskGroup() as group:
            for moment in moments(self.spec["rate"], self.spec["seconds"], self.spec["seed"]):
                if (wait := began + moment - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                group.create_task(self._one(session, began + moment))

    async def run(self) -> dict[str, Any]:
        """Send everything; the result holds a record a request and what the generator itself cost."""
        timeout = aiohttp.ClientTimeout(total=self.spec["patience"])
        connector = aiohttp.TCPConnector(limit=_LIMIT)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            began = time.perf_counter()
            if "clients" in self.spec:
                began += self.spec["warm"]
                await self._closed(session, self.spec["clients"], began + self.spec["seconds"])
            else:
                await self._open(session, began)
        times = time.process_time()
        return {"began": began, "records": self.records, "generator_seconds": round(times, 2)}


def _essence(answer: dict[str, Any]) -> dict[str, Any]:
    result = answer["results"][0]
    return {"scores": list(result["scores"].values()), "end": result["windows"][-1]["end"]}


def texts_per_second(result: dict[str, Any], seconds: float) -> float:
    """Texts judged between the end of the warming and the end of the measurement, a second."""
    low, high = result["began"], result["began"] + seconds
    judged = [one for one in result["records"] if one["status"] == 200 and low <= one["done"] < high]
    return len(judged) / seconds


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(json.dumps(asyncio.run(Load(json.loads(source.read_text())).run())))
