"""The windows that wait for the model, and which of them make the next batch.

A batch holds windows of one length, so that nothing is padded and no answer depends on its neighbours. Which length
comes next, and which of its windows, is a matter of turns: a window's turn is the number of tokens that had been
started when its request came, plus ``_SHARE`` times the tokens of its own request before it. Turns only grow, so
nothing waits for ever; a request of many windows keeps at least a ``_SHARE``-th of the engine, and short requests
pass it by meanwhile.
"""

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from fineline.encoding import Window

_SHARE = 4
_SWEEP = 1000
"""Entries of given-up requests that may stand around beside as many others."""


@dataclass(kw_only=True, eq=False)
class Job:
    """The windows of one request.

    Attributes:
        windows: All of them; none once it is closed.
        deadline: Moment at which it is given up.
        arrived: Moment at which it came.
        waiting: Tokens that are in no batch yet.
        queued: Windows that are in no batch yet.
        missing: Windows without an output.
        logits: Outputs so far.
        open: Whether it is neither answered, given up nor failed.
    """

    windows: Sequence[Window]
    deadline: float
    arrived: float
    waiting: int
    queued: int
    missing: int
    logits: NDArray[np.float32] | None = None
    open: bool = True


J = TypeVar("J", bound=Job)


class Place(NamedTuple, Generic[J]):
    """A window in a batch, and where its output belongs."""

    job: J
    window: Window
    row: int


class Line(Generic[J]):
    """Holds what waits; its caller takes care that one thread at a time uses it.

    Args:
        most: Tokens that a request counts for in ``ahead``, at most.

    Attributes:
        tokens: Tokens that wait.
        ahead: Those that a new request would wait for, about: of a large one only a part, as new ones pass it by.
    """

    def __init__(self, most: int) -> None:
        self.tokens = self.ahead = 0
        self._most = most
        # Of each length a heap of turn, number that makes it unique, row of the window, its request.
        self._lengths: defaultdict[int, list[tuple[int, int, int, J]]] = defaultdict(list)
        self._entries = 0
        self._dead = 0
        self._number = 0
        self._started = 0

    def add(self, job: J) -> None:
        """Put the windows of a request in."""
        turn = self._started
        for row, window in enumerate(job.windows):
            length = len(window.ids)
            heapq.heappush(self._lengths[length], (turn, self._number, row, job))
            self._number += 1
            turn += _SHARE * length
        self._entries += len(job.windows)
        self.tokens += job.waiting
        self.ahead += min(job.waiting, self._most)

    def drop(self, job: J) -> None:
        """Close a request; what of it waits is passed over at its turn, or swept out when that is much."""
        self._close(job)
        if 2 * self._dead > self._entries + _SWEEP:
            for entries in self._lengths.values():
                entries[:] = [entry for entry in entries if entry[3].open]
                heapq.heapify(entries)
            self._entries, self._dead = sum(map(len, self._lengths.values())), 0

    def _close(self, job: J) -> None:
        self._dead += job.queued
        self._begin(job, job.waiting)
        job.open, job.windows, job.queued = False, (), 0

    def _begin(self, job: J, tokens: int) -> None:
        """Take tokens of a request out of what waits."""
        left = job.waiting - tokens
        self.tokens -= tokens
        self.ahead -= min(job.waiting, self._most) - min(left, self._most)
        job.waiting = left

    def jobs(self) -> set[J]:
        """Requests with windows in no batch yet."""
        return {entry[3] for entries in self._lengths.values() for entry in entries if entry[3].open}

    def take(self, budget: int, now: float) -> tuple[list[Place[J]], list[J]]:
        """Make the next batch.

        Args:
            budget: Tokens it may hold; a longer window is taken alone.
            now: Requests whose deadline is not after this moment are closed and left out.

        Returns:
            The batch, empty when nothing waits, and the requests that were closed.
        """
        batch: list[Place[J]] = []
        late: list[J] = []
        while not batch and (heads := [entries for entries in self._lengths.values() if entries]):
            entries = min(heads, key=lambda each: each[0][:2])
            while entries:
                _, _, row, job = entries[0]
                if job.open and job.deadline > now:
                    window = job.windows[row]
                    length = len(window.ids)
                    if batch and (len(batch) + 1) * length > budget:
                        break
                    batch.append(Place(job, window, row))
                    self._begin(job, length)
                    job.queued -= 1
                    self._started += length
                elif job.open:
                    late.append(job)
                    self._close(job)
                    self._dead -= 1
                else:
                    self._dead -= 1
                heapq.heappop(entries)
                self._entries -= 1
        return batch, late
