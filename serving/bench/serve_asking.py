"""Requests whose right answers are known, and a record of what became of each; beneath the load of soak and faults."""

import itertools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np

from serve_sums import mixed_up

LOST = (aiohttp.ClientError, TimeoutError, OSError)
"""What a client gets instead of an answer."""

_COME_AGAIN = (429, 503, 504, 1012, 1013)
"""Statuses, and close codes of a stream, that ask the client to come again."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one request.

    Attributes:
        kind: What was asked.
        status: Of the answer, or the close code of a stream; 0 if none came.
        outcome: ``right``, ``mixed_up`` (the answer of another text or request), ``wrong`` (an answer that it must not
            get), ``refused`` (asked to come again), ``lost`` (no whole answer), ``unreachable`` (nobody listened, so
            nothing was sent), or ``left`` (by its client).
        at: When it was sent, as by ``time.perf_counter``.
        seconds: To its end.
        error: Type of the client's error.
    """

    kind: str
    status: int
    outcome: str
    at: float
    seconds: float
    error: str = ""


class Known:
    """Texts with the scores that they have when they are judged alone.

    Args:
        texts: The texts.
        labels: In the order of the scores.
        scores: Shape (texts, labels).
    """

    def __init__(self, texts: Sequence[str], labels: Sequence[str], scores: Sequence[Sequence[float]]) -> None:
        self.texts = tuple(texts)
        self.labels = tuple(labels)
        self._scores = np.array(scores)
        self._lengths = [len(text) for text in texts]

    def own(self, place: int, scores: Mapping[str, float], end: int | None = None) -> bool:
        """Whether an answer is that of the text at ``place``; ``end`` is the end of its last window, if it tells."""
        row = np.array([[scores[label] for label in self.labels]])
        ends = [self._lengths[place] if end is None else end]
        return not mixed_up([place], row, self._scores, self._lengths, ends)


def mix_texts(short: Sequence[str], count: int, seed: int) -> list[str]:
    """The short texts, and others joined of two to thirty of them."""
    rng, found = random.Random(seed), dict.fromkeys(short)
    while len(found) < count:
        found["\n".join(rng.choices(short, k=round(2 * 15 ** rng.random())))] = None
    return list(found)[:count]


class Asker:
    """Sends requests and records what becomes of them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._numbers = itertools.count()

    def note(self, kind: str, began: float, status: int, outcome: str, error: BaseException | None = None) -> None:
        """Record what became of a request that was sent at ``began``; a status that asks to come again is no fault."""
        if status in _COME_AGAIN and outcome == "wrong":
            outcome = "refused"
        self.records.append(
            Record(
                kind=kind,
                status=status,
                outcome=outcome,
                at=began,
                seconds=round(time.perf_counter() - began, 5),
                error=type(error).__name__ if error else "",
            )
        )

    def note_loss(self, kind: str, began: float, error: BaseException) -> None:
        """Record a request that got no answer."""
        never_sent = isinstance(error, aiohttp.ClientConnectorError | ConnectionRefusedError)
        self.note(kind, began, 0, "unreachable" if never_sent else "lost", error)

    async def ask(
        self,
        session: aiohttp.ClientSession,
        kind: str,
        path: str,
        body: Any = None,
        *,
        method: str = "POST",
        headers: Mapping[str, str] | None = None,
        expected: int = 200,
        own: Callable[[Any], bool] = lambda answer: True,
    ) -> Any:
        """Send one request.

        Args:
            session: The connections; its base is the server.
            kind: Name in the record.
            path: Of the route.
            body: Sent as JSON; bytes as they are.
            method: Of HTTP.
            headers: Beside the usual ones.
            expected: The right status.
            own: Whether an answer of that status belongs to this request.

        Returns:
            The answer if it was the right one.
        """
        request_id = f"ask-{next(self._numbers)}"
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"content-type": "application/json", "x-request-id": request_id} | dict(headers or {})
        began = time.perf_counter()
        try:
            async with session.request(method, path, data=raw, headers=sent) as response:
                content, status = await response.read(), response.status
        except LOST as error:
            self.note_loss(kind, began, error)
            return None
        if status != expected:
            self.note(kind, began, status, "wrong")
            return None
        try:
            answer = json.loads(content) if content else None
            same = response.headers.get("x-request-id") == request_id and own(answer)
        except (ValueError, LookupError, TypeError) as error:  # no answer of that route
            self.note(kind, began, status, "wrong", error)
            return None
        self.note(kind, began, status, "right" if same else "mixed_up")
        return answer if same else None
