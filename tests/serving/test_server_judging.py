"""Judging: what the classifier says, within the limits, and nothing for those who are gone or late."""

import asyncio
import threading
import time

import pytest

pytest.importorskip("fastapi")

from fineline import Classifier, ConfigError, InputError
from fineline.server.bodies import TooLongError, TooManyError
from fineline.server.faults import DeadlineError, EngineError, NotReadyError, OverloadError
from fineline.server.judging import Judge, Usage, usage
from fineline.server.models import ModelSlot
from fineline.server.settings import EngineSettings, LimitSettings, ServerSettings

TEXTS = ["tell anyone", "", "他说要打断你的手", "never report 😀 help " * 30, "مرحبا"]


@pytest.fixture
def own(tiny_bundle):
    """A classifier that a test may break."""
    return Classifier.load(tiny_bundle, threads=1)


def run(test, classifier, *, open_slot=True, engine=None, **limits):
    settings = ServerSettings(limits=LimitSettings(**limits), engine=engine or EngineSettings())
    slot = ModelSlot.holding(classifier, settings)
    judge = Judge(slot, settings.limits)

    async def main():
        if open_slot:
            await slot.open()
        try:
            await test(judge)
        finally:
            await slot.close()
            judge.close()

    asyncio.run(asyncio.wait_for(main(), 200))
    return slot.metrics.registry


def dicts(verdicts):
    return [verdict.as_dict() for verdict in verdicts]


def test_verdicts_are_the_classifiers(classifier_fp32):
    contexts = ["Why?", None, "", "为什么", None]

    async def test(judge):
        found = await judge.judge(TEXTS, contexts, policy="minors")
        for verdict, expected in zip(found, classifier_fp32.classify(TEXTS, contexts, policy="minors"), strict=True):
            assert verdict.scores == pytest.approx(expected.scores, abs=1e-6)
            assert verdict.flagged == expected.flagged
            assert [(w.start, w.end) for w in verdict.windows] == [(w.start, w.end) for w in expected.windows]
            assert verdict.policy == "minors"

    run(test, classifier_fp32)


def test_many_requests_at_once_each_get_their_own(classifier_fp32):
    batches = [[f"{'tell anyone help 他说 ' * (n % 9)}{n}", "word " * (n * 7 % 50)] for n in range(60)]

    async def test(judge):
        found = await asyncio.gather(*(judge.judge(texts) for texts in batches))
        for texts, verdicts in zip(batches, found, strict=True):
            for verdict, expected in zip(verdicts, classifier_fp32.classify(texts), strict=True):
                assert verdict.scores == pytest.approx(expected.scores, abs=1e-5)
                assert verdict.windows[-1].end == expected.windows[-1].end

    registry = run(test, classifier_fp32)
    assert sum(
        registry.get_sample_value("fineline_texts_total", {"action": action}) or 0
        for action in ("allow", "review", "block")
    ) == 2 * len(batches)


def test_more_texts_than_are_tokenised_at_once_keep_their_order(classifier):
    texts = ["word " * (n % 13) + str(n) for n in range(300)]

    async def test(judge):
        found = await judge.judge(texts)
        assert [verdict.windows[-1].end for verdict in found] == [len(text) for text in texts]

    run(test, classifier)


@pytest.mark.parametrize(
    ("texts", "contexts", "policy", "error"),
    [
        ([], None, None, InputError),
        (["a"] * 5, None, None, TooManyError),
        (["a" * 101], None, None, TooLongError),
        (["a"], ["a" * 100], None, TooLongError),
        (["a", "b"], ["c"], None, InputError),
        (["a", 7], None, None, InputError),
        (["a"], None, "none of these", ConfigError),
    ],
)
def test_what_is_not_allowed_is_refused_before_it_costs_anything(own, monkeypatch, texts, contexts, policy, error):
    async def test(judge):
        monkeypatch.setattr(own, "encode", None)
        with pytest.raises(error):
            await judge.judge(texts, contexts, policy=policy)

    run(test, own, max_inputs=4, max_characters=100)


def test_without_a_model_it_says_so(classifier):
    async def test(judge):
        with pytest.raises(NotReadyError):
            await judge.judge(["a"])

    run(test, classifier, open_slot=False)


def test_an_engine_error_reaches_its_request_without_the_text(own, monkeypatch):
    def fail(windows):
        raise RuntimeError("zebrawhisper")

    async def test(judge):
        monkeypatch.setattr(own.engine, "logits", fail)
        with pytest.raises(EngineError) as caught:
            await judge.judge(["zebrawhisper"])
        assert "zebra" not in str(caught.value)
        monkeypatch.undo()
        assert len(await judge.judge(["a"])) == 1

    registry = run(test, own)
    assert registry.get_sample_value("fineline_engine_errors_total") == 1


@pytest.mark.parametrize("slow", ["encode", "engine"])
def test_a_request_is_answered_at_its_deadline_whatever_is_slow(own, monkeypatch, slow):
    held = own.encode if slow == "encode" else own.engine.logits

    gate = threading.Event()

    def wait(*arguments):
        gate.wait(60)
        return held(*arguments)

    async def test(judge):
        if slow == "encode":
            monkeypatch.setattr(own, "encode", wait)
        else:
            monkeypatch.setattr(own.engine, "logits", wait)
        with pytest.raises(DeadlineError):
            await judge.judge(["a"], deadline=0.1)
        # The server's own limit holds where the caller asks for more.
        with pytest.raises(DeadlineError):
            await judge.judge(["a"], deadline=60)
        gate.set()

    registry = run(test, own, deadline_seconds=0.15)
    assert registry.get_sample_value("fineline_deadlines_total") == 2


def test_time_counts_from_the_arrival_of_the_request(classifier):
    async def test(judge):
        usage.set(Usage(began=time.monotonic() - 5))
        with pytest.raises(DeadlineError):
            await judge.judge(["a"], deadline=4)
        await judge.judge(["a"], deadline=20)

    run(test, classifier)


def test_a_cancelled_request_stops_between_two_chunks_of_tokenising(own, monkeypatch):
    calls = []
    encode = own.encode

    def slow(texts, contexts=None):
        calls.append(len(texts))
        time.sleep(0.05)
        return encode(texts, contexts)

    async def test(judge):
        monkeypatch.setattr(own, "encode", slow)
        task = asyncio.create_task(judge.judge(["a"] * 2000))
        await asyncio.sleep(0.12)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert judge.slot.model.batcher.waiting == 0
        assert judge.slot.model.users == 0

    run(test, own)
    assert len(calls) < 6


def test_long_texts_do_not_keep_short_ones_from_being_tokenised(own, monkeypatch):
    encode, gate = own.encode, threading.Event()

    def slow(texts, contexts=None):
        if len(texts[0]) > 50_000:
            assert gate.wait(60)
        return encode(texts, contexts)

    async def test(judge):
        monkeypatch.setattr(own, "encode", slow)
        long = [asyncio.create_task(judge.judge(["word " * 20_000])) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert len(await judge.judge(["a"] * 200)) == 200
        gate.set()
        assert len(await asyncio.gather(*long)) == 3

    run(test, own, deadline_seconds=120)


def test_much_work_is_done_beside_the_event_loop(classifier):
    async def test(judge):
        assert await judge.aside(threading.get_ident, 2) == threading.get_ident()
        assert await judge.aside(threading.get_ident, 2000) != threading.get_ident()

    run(test, classifier)


def test_overload_is_refused_before_tokenising_and_counted(own, monkeypatch):
    async def test(judge):
        model = judge.slot.model
        for _ in range(4):
            model.batcher.reserve(25, time.monotonic() + 60)
        monkeypatch.setattr(own, "encode", None)
        with pytest.raises(OverloadError) as caught:
            await judge.judge(["a"])
        assert caught.value.headers["Retry-After"] == "1"
        for _ in range(4):
            model.batcher.release(25)

    registry = run(test, own, queue_tokens=100)
    assert registry.get_sample_value("fineline_overloads_total") == 1


def test_no_more_requests_wait_than_may(own, monkeypatch):
    gate, encode = threading.Event(), own.encode

    def slow(texts, contexts=None):
        assert gate.wait(60)
        return encode(texts, contexts)

    async def test(judge):
        monkeypatch.setattr(own, "encode", slow)
        waiting = [asyncio.create_task(judge.judge(["a"])) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError):
            await judge.judge(["a"])
        gate.set()
        assert [len(found) for found in await asyncio.gather(*waiting)] == [1, 1, 1]
        assert len(await judge.judge(["a"])) == 1

    registry = run(test, own, max_requests=3)
    assert registry.get_sample_value("fineline_overloads_total") == 1


def test_what_a_request_costs_is_noted_for_its_log_line(classifier):
    async def test(judge):
        noted = Usage()
        usage.set(noted)
        await judge.judge(TEXTS)
        assert noted.texts == len(TEXTS)
        assert noted.tokens == sum(len(window.ids) for part in classifier.encode(TEXTS) for window in part)

    run(test, classifier)


def test_the_stages_are_timed(classifier):
    async def test(judge):
        await judge.judge(TEXTS)

    registry = run(test, classifier)
    for stage in ("tokenise", "wait", "run", "answer"):
        assert registry.get_sample_value("fineline_stage_seconds_count", {"stage": stage}) >= 1
    assert registry.get_sample_value("fineline_batch_windows_sum") == sum(map(len, classifier.encode(TEXTS)))


def test_requests_that_judge_nothing_leave_room(own):
    async def test(judge):
        with judge.slot.use(), judge.slot.use(), judge.slot.use():
            assert len(await judge.judge(["a"])) == 1

    run(test, own, max_requests=2)
