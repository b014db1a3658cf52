"""The retention job: it runs at once and again, survives failures, and does not believe a clock that was set."""

import asyncio
import logging

import pytest

pytest.importorskip("fastapi")
from fineline.errors import FinelineError
from fineline.server.retention import Steadiness, keep_retention

MARKER = "zebrawhisper"


def job(results, *, clock=None, passes=None):
    """Run the job until it has used up the results; exceptions among them are raised. Returns how often it ran."""
    left, ran = list(results), []

    async def purge() -> int:
        ran.append(1)
        result = left.pop(0) if left else 0
        if isinstance(result, Exception):
            raise result
        return result

    async def scene() -> None:
        async with keep_retention(purge, clock=clock, every=0.001), asyncio.timeout(10):
            while len(ran) < (passes or len(results)):
                await asyncio.sleep(0.001)

    asyncio.run(scene())
    return len(ran)


def test_the_job_runs_at_once_and_again_and_ends_with_its_block(caplog):
    caplog.set_level(logging.INFO)
    job([3, 0, 2])
    assert [record.getMessage() for record in caplog.records] == [
        "retention: 3 appeals deleted",
        "retention: 2 appeals deleted",
    ]


def test_the_job_outlives_a_database_in_trouble_and_logs_no_message(caplog):
    job([FinelineError("feedback_unavailable", MARKER), ValueError(MARKER), 5], passes=3)
    assert "feedback_unavailable; the next pass tries again" in caplog.text
    assert "ValueError; the next pass tries again" in caplog.text
    assert MARKER not in caplog.text


class Times:
    def __init__(self):
        self.wall, self.steady = 1_790_000_000.0, 500.0

    def pass_(self, seconds, step=0.0):
        self.steady += seconds
        self.wall += seconds + step


def test_a_clock_that_was_set_is_noticed_once():
    times = Times()
    clock = Steadiness(lambda: times.wall, lambda: times.steady)
    assert not clock.jumped()
    times.pass_(3600, step=30)
    assert not clock.jumped()
    for step in (86_400.0, -86_400.0, 700.0):
        times.pass_(3600, step=step)
        assert clock.jumped()
        times.pass_(3600)
        assert not clock.jumped()


def test_nothing_is_deleted_in_the_pass_after_the_clock_was_set(caplog):
    class Set(Steadiness):
        def __init__(self):
            self.answers = [True, True]

        def jumped(self):
            return bool(self.answers) and self.answers.pop()

    clock = Set()
    assert job([1], clock=clock) >= 1
    assert clock.answers == []
    assert caplog.text.count("the clock was set") == 2
