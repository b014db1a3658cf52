"""Batches: every answer goes to its own request, nothing waits for ever, and what nobody waits for costs nothing."""

import asyncio
import gc
import math
import random
import threading
import time
import weakref

import numpy as np
import pytest

pytest.importorskip("fastapi")

from fineline.encoding import Window
from fineline.server.batcher import Batcher
from fineline.server.faults import DeadlineError, EngineError, NotReadyError, OverloadError
from fineline.server.line import Job, Line
from fineline.server.metrics import Metrics

SOON = 60.0


def window(length, mark=0):
    return Window(ids=np.full(length, mark, dtype=np.int64), types=np.zeros(length, dtype=np.int64), start=0, end=0)


class Engine:
    """Answers with length and mark of each window; ``hold`` keeps it from starting."""

    def __init__(self, fail=None, seconds=0.0):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.fail = fail
        self.seconds = seconds

    def logits(self, windows):
        self.batches.append([(len(one.ids), int(one.ids[0])) for one in windows])
        self.entered.release()
        assert self.gate.wait(SOON)
        time.sleep(self.seconds)
        if self.fail and any(one.ids[0] == 666 for one in windows):
            raise self.fail
        return np.array([[len(one.ids), one.ids[0]] for one in windows], dtype=np.float32)

    @property
    def marks(self):
        return [mark for batch in self.batches for _, mark in batch]


def run(test, *engines, budget=64, bound=100_000):
    """Run an async test with a batcher, and see that it leaves nothing behind."""
    metrics = Metrics()
    batcher = Batcher(engines, batch_tokens=budget, queue_tokens=bound, metrics=metrics)

    async def main():
        try:
            await test(batcher)
        finally:
            for engine in engines:
                engine.gate.set()
            await asyncio.to_thread(batcher.close)

    asyncio.run(asyncio.wait_for(main(), 200))
    assert batcher.waiting == 0
    assert metrics.registry.get_sample_value("fineline_queue_tokens") == 0


def later():
    return time.monotonic() + SOON


async def started(engine, times=1):
    for _ in range(times):
        assert await asyncio.to_thread(engine.entered.acquire, timeout=SOON)


async def until(condition):
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to that")


# --- answers


@pytest.mark.parametrize("workers", [1, 3])
def test_each_window_gets_its_own_answer_in_its_own_place(workers):
    engines = [Engine() for _ in range(workers)]
    chance = random.Random(7)

    async def one(batcher, number):
        windows = [window(chance.randint(1, 300), number * 100 + place) for place in range(chance.randint(1, 40))]
        await asyncio.sleep(chance.random() / 50)
        logits = await batcher.logits(windows, later())
        assert logits.dtype == np.float32
        assert logits.tolist() == [[len(each.ids), each.ids[0]] for each in windows]

    async def test(batcher):
        await asyncio.gather(*(one(batcher, number) for number in range(120)))

    run(test, *engines, budget=256)
    assert all(engine.batches for engine in engines)


def test_a_batch_keeps_to_its_budget_and_to_similar_lengths():
    engine, chance = Engine(), random.Random(3)

    async def test(batcher):
        windows = [window(chance.randint(1, 200)) for _ in range(500)]
        await batcher.logits(windows, later())

    run(test, engine, budget=512)
    for batch in engine.batches:
        lengths = [length for length, _ in batch]
        assert len(batch) == 1 or len(batch) * max(lengths) <= 512
        assert max(lengths) <= 16 or max(lengths) - min(lengths) <= max(8, max(lengths) / 4)
    full = sum(length for batch in engine.batches for length, _ in batch)
    padded = sum(len(batch) * max(length for length, _ in batch) for batch in engine.batches)
    assert full / padded > 0.85


def test_windows_of_several_requests_share_a_batch_once_the_worker_is_free():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        first = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        rest = [asyncio.create_task(batcher.logits([window(5, mark)], later())) for mark in (2, 3, 4)]
        await until(lambda: batcher.waiting == 15)
        engine.gate.set()
        await asyncio.gather(first, *rest)

    run(test, engine)
    assert engine.batches == [[(5, 1)], [(5, 2), (5, 3), (5, 4)]]


def test_a_window_longer_than_the_budget_is_run_alone():
    engine = Engine()

    async def test(batcher):
        assert len(await batcher.logits([window(100), window(100)], later())) == 2

    run(test, engine, budget=64)
    assert [len(batch) for batch in engine.batches] == [1, 1]


# --- turns


def job(length, count):
    windows = [window(length) for _ in range(count)]
    return Job(windows=windows, deadline=math.inf, arrived=0, waiting=length * count, queued=count, missing=count)


def test_short_requests_pass_a_long_one_and_neither_starves():
    line, long = Line(10_000), job(60, 200)
    line.add(long)
    shorts, waited, batches = [], [], 0
    while long.queued:
        if len(shorts) < 8:
            # More short requests than the engine can serve: eight wait at any time.
            shorts += [(job(10, 1), batches) for _ in range(8 - len(shorts))]
            for short, came in shorts:
                if came == batches:
                    line.add(short)
        line.take(64, 0)
        batches += 1
        waited += [batches - came for short, came in shorts if not short.queued]
        shorts = [(short, came) for short, came in shorts if short.queued]
    assert max(waited) <= 12, "a short request waited for a long one"
    assert batches < 6 * 200, "the long request got less than its share"


# --- what nobody waits for


def test_a_cancelled_request_is_never_run_and_frees_its_windows():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        running = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        held = [window(5, 2)]
        seen = weakref.ref(held[0])
        gone = asyncio.create_task(batcher.logits(held, later()))
        stays = asyncio.create_task(batcher.logits([window(5, 3)], later()))
        await until(lambda: batcher.waiting == 10)
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        del held, gone
        gc.collect()
        assert seen() is None
        assert batcher.waiting == 5
        engine.gate.set()
        await asyncio.gather(running, stays)

    run(test, engine)
    assert engine.marks == [1, 3]


def test_a_request_cancelled_while_it_runs_harms_nobody():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        gone = asyncio.create_task(batcher.logits([window(5, 1), window(50, 1)], later()))
        await started(engine)
        other = asyncio.create_task(batcher.logits([window(5, 2)], later()))
        await until(lambda: batcher.waiting > 5)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        engine.gate.set()
        assert (await other).tolist() == [[5, 2]]

    run(test, engine)
    assert engine.marks == [1, 2]


def test_many_cancelled_requests_leave_no_entries_behind():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        running = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        for _ in range(60):
            gone = asyncio.create_task(batcher.logits([window(9, 2)] * 200, later()))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.wait([gone])
        assert sum(map(len, batcher._line._lengths.values())) < 3000
        engine.gate.set()
        await running
        assert (await batcher.logits([window(7, 3)], later())).tolist() == [[7, 3]]

    run(test, engine)
    assert engine.marks == [1, 3]


def test_a_request_past_its_deadline_is_answered_then_and_never_run():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        running = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        with pytest.raises(DeadlineError):
            await batcher.logits([window(5, 2)], time.monotonic() + 0.05)
        engine.gate.set()
        await running

    run(test, engine)
    assert engine.marks == [1]


def test_a_deadline_that_has_passed_already_costs_nothing():
    engine = Engine()

    async def test(batcher):
        with pytest.raises(DeadlineError):
            await batcher.logits([window(5, 1)] * 1000, time.monotonic() - 1)

    run(test, engine)
    assert len(engine.marks) <= 12  # a batch may have begun before


def test_the_wall_clock_has_no_say(monkeypatch):
    engine = Engine()
    monkeypatch.setattr(time, "time", lambda: 0.0)

    async def test(batcher):
        assert len(await batcher.logits([window(5, 1)], later())) == 1

    run(test, engine)


# --- errors


@pytest.mark.parametrize("error", [ValueError("secret text"), MemoryError(), SystemExit(1), KeyboardInterrupt()])
def test_an_engine_error_fails_its_batch_alone_and_the_worker_lives_on(error, caplog):
    engine = Engine(fail=error)

    async def test(batcher):
        engine.gate.clear()
        first = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        # Of the request that fails, a window of another length stands in another batch.
        bad = asyncio.create_task(batcher.logits([window(5, 666), window(60, 5)], later()))
        beside = asyncio.create_task(batcher.logits([window(5, 2)], later()))
        other = asyncio.create_task(batcher.logits([window(40, 3)], later()))
        await until(lambda: batcher.waiting == 110)
        engine.gate.set()
        assert (await first).tolist() == [[5, 1]]
        with pytest.raises(EngineError, match=type(error).__name__) as caught:
            await bad
        assert "secret" not in str(caught.value)
        with pytest.raises(EngineError):
            await beside
        assert (await other).tolist() == [[40, 3]]
        assert (await batcher.logits([window(5, 4)], later())).tolist() == [[5, 4]]

    run(test, engine)
    assert type(error).__name__ in caplog.text
    assert "secret" not in caplog.text


def test_an_engine_that_answers_for_too_few_windows_is_not_believed():
    class Short(Engine):
        def logits(self, windows):
            return super().logits(windows)[:-1]

    async def test(batcher):
        with pytest.raises(EngineError):
            await batcher.logits([window(5), window(5)], later())

    run(test, Short())


def test_an_answer_that_cannot_be_handed_on_fails_its_batch_alone_and_the_worker_lives_on(monkeypatch):
    engine = Engine()

    async def test(batcher):
        def full(tokens, windows, seconds):
            monkeypatch.undo()
            raise MemoryError

        monkeypatch.setattr(batcher._metrics, "batch", full)
        with pytest.raises(EngineError, match="MemoryError"):
            await batcher.logits([window(5, 1)], later())
        assert (await batcher.logits([window(5, 2)], later())).tolist() == [[5, 2]]

    run(test, engine)


# --- bounds


def test_beyond_the_bound_a_request_is_refused_with_the_time_it_takes_to_drain():
    engine = Engine(seconds=0.05)

    async def test(batcher):
        await batcher.logits([window(16, 1)] * 40, later())  # ten full batches: 64 tokens in 0.05 s
        engine.gate.clear()
        waiting = asyncio.create_task(batcher.logits([window(16, 1)] * 200, later()))
        await started(engine, 11)
        with pytest.raises(OverloadError) as caught:
            for _ in range(4):
                batcher.reserve(2000, later() + 600)
        batcher.release(2000)
        batcher.release(2000)
        batcher.release(2000)
        assert 1 < caught.value.wait < 60  # 2,000 tokens at 1,280 a second, or fewer where others work too
        assert int(caught.value.headers["Retry-After"]) >= caught.value.wait
        batcher.reserve(500, later() + 600)
        batcher.release(500)
        engine.gate.set()
        await waiting

    run(test, engine, bound=8000)


def test_a_request_that_cannot_be_answered_in_time_is_refused_at_once():
    engine = Engine(seconds=0.05)

    async def test(batcher):
        await batcher.logits([window(16, 1)] * 40, later())
        waiting = asyncio.create_task(batcher.logits([window(16, 1)] * 200, later()))
        await asyncio.sleep(0)
        with pytest.raises(OverloadError):
            batcher.reserve(16, time.monotonic() + 0.5)
        batcher.reserve(16, later() + 600)
        batcher.release(16)
        waiting.cancel()
        await asyncio.wait([waiting])

    run(test, engine)


def test_an_empty_queue_takes_a_request_of_any_size():
    async def test(batcher):
        batcher.reserve(10_000, later())
        assert batcher.waiting == 10_000
        batcher.release(10_000)

    run(test, Engine(), bound=100)


def test_a_full_queue_has_no_room_for_anything():
    engine = Engine()

    async def test(batcher):
        batcher.check_room()
        engine.gate.clear()
        waiting = [asyncio.create_task(batcher.logits([window(16, 1)] * 20, later())) for _ in range(5)]
        await started(engine)
        with pytest.raises(OverloadError):
            batcher.check_room()
        engine.gate.set()
        await asyncio.gather(*waiting)
        batcher.check_room()

    run(test, engine, bound=1000)


def test_one_long_request_does_not_turn_all_others_away():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        long = asyncio.create_task(batcher.logits([window(64, 1)] * 100, later()))
        await started(engine)
        assert batcher.waiting == 99 * 64 > 1000
        for _ in range(3):  # it counts for a quarter of the queue, so others have the rest
            batcher.reserve(250, later())
        with pytest.raises(OverloadError):
            batcher.reserve(250, later())
        for _ in range(3):
            batcher.release(250)
        engine.gate.set()
        await long
        assert batcher._line.ahead == batcher._reserved_ahead == 0

    run(test, engine, bound=1000)


def test_what_is_given_up_no_longer_counts_for_those_who_come():
    line, one, other = Line(100), job(16, 20), job(16, 3)
    line.add(one)
    line.add(other)
    assert (line.tokens, line.ahead) == (23 * 16, 100 + 48)
    line.take(64, 0)
    assert line.ahead <= 100 + 48
    line.drop(one)
    assert line.tokens == line.ahead == other.waiting
    line.drop(other)
    assert line.tokens == line.ahead == 0


# --- the end


def test_closing_ends_what_runs_well_and_tells_what_waits():
    engine = Engine()

    async def test(batcher):
        engine.gate.clear()
        running = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        waits = asyncio.create_task(batcher.logits([window(5, 2)], later()))
        await until(lambda: batcher.waiting == 5)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        with pytest.raises(NotReadyError):
            await waits
        engine.gate.set()
        assert (await running).tolist() == [[5, 1]]
        await closing
        with pytest.raises(NotReadyError):
            await batcher.logits([window(5, 3)], later())

    run(test, engine)
    assert engine.marks == [1]


def test_a_loop_that_ended_without_waiting_does_not_kill_the_worker():
    engine = Engine()
    batcher = Batcher([engine], batch_tokens=64, queue_tokens=100, metrics=Metrics())

    async def leave():
        engine.gate.clear()
        task = asyncio.create_task(batcher.logits([window(5, 1)], later()))
        await started(engine)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(leave())
    engine.gate.set()

    async def again():
        assert len(await batcher.logits([window(5, 2)], later())) == 1

    asyncio.run(again())
    batcher.close()
