"""Texts of a request to verdicts: limits, tokens, batches, verdicts. Every route judges through this."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from fineline.bundle import Bundle
from fineline.classifier import Verdict, check_texts
from fineline.encoding import Window
from fineline.errors import InputError
from fineline.policy import get_policy
from fineline.server.bodies import TooLongError, TooManyError
from fineline.server.faults import DeadlineError, OverloadError
from fineline.server.models import Model, ModelSlot
from fineline.server.settings import LimitSettings, available_cores

_T = TypeVar("_T")
_CHUNK = 64
"""Texts tokenised at once: between two chunks other requests get their turn, and a cancelled one stops."""

_LONG = 20_000
"""Characters from which a chunk is tokenised apart: it takes up to a tenth of a second and more."""

_INLINE = 32
"""Windows or verdicts that are worked on on the event loop; more go to the pool."""


@dataclass(kw_only=True)
class Usage:
    """What one HTTP request has cost, for its log line."""

    began: float = field(default_factory=time.monotonic)
    texts: int = 0
    tokens: int = 0


usage: ContextVar[Usage | None] = ContextVar("usage", default=None)
"""Set by the middleware for each request."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Verdicts, and the bundle that gave them."""

    verdicts: list[Verdict]
    bundle: Bundle


class Judge:
    """Judges texts with the model in use.

    Args:
        slot: Where the model is.
        limits: Of a request.
    """

    def __init__(self, slot: ModelSlot, limits: LimitSettings) -> None:
        self.slot = slot
        self._limits = limits
        self._metrics = slot.metrics
        self._pool = ThreadPoolExecutor(min(4, available_cores()), thread_name_prefix="tokenise")
        # Of its own: a few texts of a megabyte would keep short ones waiting for seconds.
        self._long_pool = ThreadPoolExecutor(1, thread_name_prefix="tokenise-long")

    def close(self) -> None:
        """Stop the threads."""
        for pool in (self._pool, self._long_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    async def judge(
        self,
        texts: Sequence[str],
        contexts: Sequence[str | None] | None = None,
        *,
        policy: str | None = None,
        deadline: float | None = None,
    ) -> list[Verdict]:
        """Judge texts; a call that is cancelled costs nothing from then on.

        Args:
            texts: As for ``Classifier.classify``.
            contexts: As for ``Classifier.classify``.
            policy: Policy of this call.
            deadline: Seconds from the request's arrival in which the answer is of use; the server's limit when ``None``
                or above it.

        Returns:
            One verdict a text, in order.

        Raises:
            InputError: As ``Classifier.classify``.
            ConfigError: The policy is unknown.
            TooManyError: There are more texts than a request may hold.
            TooLongError: They are longer than a request may be.
            OverloadError: Too much waits already.
            DeadlineError: The time is over.
            EngineError: The engine failed.
            NotReadyError: There is no model.
        """
        return (await self.judged(texts, contexts, policy=policy, deadline=deadline)).verdicts

    async def judged(
        self,
        texts: Sequence[str],
        contexts: Sequence[str | None] | None = None,
        *,
        policy: str | None = None,
        deadline: float | None = None,
        count: bool = True,
        charge: Callable[[int], None] = lambda characters: None,
    ) -> Judged:
        """As ``judge``, with the bundle that gave the verdicts.

        Args:
            texts: As for ``judge``.
            contexts: As for ``judge``.
            policy: As for ``judge``.
            deadline: As for ``judge``.
            count: Whether metrics count the verdicts.
            charge: Called with the characters once nothing forbids to judge them; raises where the caller may not.
        """
        if policy is not None:
            get_policy(policy)
        characters = self._measure(texts, contexts)
        request, allowed = usage.get(), self._limits.deadline_seconds
        due = (request.began if request else time.monotonic()) + min(allowed, deadline or allowed)
        try:
            self.slot.check_room()
            with self.slot.use() as model:
                charge(characters)
                model.judging += 1
                try:
                    verdicts = await self._run(model, texts, contexts, policy, characters, due)
                finally:
                    model.judging -= 1
                bundle = model.classifier.bundle
        except OverloadError:
            self._metrics.overloads.inc()
            raise
        except DeadlineError:
            self._metrics.deadlines.inc()
            raise
        if count:
            self._metrics.count(verdicts)
        return Judged(verdicts=verdicts, bundle=bundle)

    def _measure(self, texts: Sequence[str], contexts: Sequence[str | None] | None) -> int:
        check_texts(texts, contexts)
        if not texts:
            raise InputError("input_empty", "input: the list is empty; send at least one text.")
        if len(texts) > self._limits.max_inputs:
            raise TooManyError(
                "too_many_inputs",
                f"input: {len(texts)} texts; send at most {self._limits.max_inputs} in one request.",
            )
        characters = sum(map(len, texts)) + sum(len(context or "") for context in contexts or ())
        if characters > self._limits.max_characters:
            raise TooLongError(
                "input_too_long",
                f"input: {characters} characters; send at most {self._limits.max_characters} in one request.",
            )
        return characters

    async def _run(
        self,
        model: Model,
        texts: Sequence[str],
        contexts: Sequence[str | None] | None,
        policy: str | None,
        characters: int,
        due: float,
    ) -> list[Verdict]:
        began = time.monotonic()
        estimate = characters // 2 + 4 * len(texts)
        model.batcher.reserve(estimate, due)
        try:
            async with asyncio.timeout(due - began):
                encoded = await self._tokenise(model, texts, contexts)
        except TimeoutError:
            raise DeadlineError from None
        finally:
            model.batcher.release(estimate)
        self._metrics.stage("tokenise", time.monotonic() - began)
        windows = [window for part in encoded for window in part]
        if found := usage.get():
            found.texts += len(texts)
            found.tokens += sum(len(window.ids) for window in windows)
        logits = await model.batcher.logits(windows, due)
        began = time.monotonic()

        def verdicts() -> list[Verdict]:
            made, at = [], 0
            for part in encoded:
                made.append(model.classifier.verdict(part, logits[at : at + len(part)], policy))
                at += len(part)
            return made

        answer = await self.aside(verdicts, len(windows))
        self._metrics.stage("answer", time.monotonic() - began)
        return answer

    async def _tokenise(
        self, model: Model, texts: Sequence[str], contexts: Sequence[str | None] | None
    ) -> list[list[Window]]:
        encoded: list[list[Window]] = []
        for low in range(0, len(texts), _CHUNK):
            part = texts[low : low + _CHUNK]
            beside = contexts[low : low + _CHUNK] if contexts is not None else None
            size = sum(map(len, part)) + sum(len(context or "") for context in beside or ())
            encoded += await self.tokenising(partial(model.classifier.encode, part, beside), size)
        return encoded

    async def tokenising(self, call: Callable[[], _T], characters: int) -> _T:
        """Make a call that tokenises so many characters, on a thread."""
        pool = self._long_pool if characters > _LONG else self._pool
        return await asyncio.get_running_loop().run_in_executor(pool, call)

    async def aside(self, call: Callable[[], _T], size: int) -> _T:
        """Make a call that works on so many windows or verdicts: on a thread if they are many."""
        if size <= _INLINE:
            return call()
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)
