"""Streams: what is judged when, at what cost, what events say, and that the end is the verdict on the whole."""

import random
import tomllib
from itertools import accumulate, cycle, islice, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline import Classifier, ConfigError, InputError, StreamGuard
from fineline.classifier import Verdict, WindowScore
from fineline.policy import Action, get_policy
from fineline.stream import _OPEN_SHARE, _SENTENCE_SHARE, Stretch, TextStream, context_end

MOST_READ = (1 + 1 / _SENTENCE_SHARE) + (1 + 1 / _OPEN_SHARE) + 1
"""Times that a character may be read, at most."""

POLICY = get_policy("cn_measures")


def pieces(text, sizes, seed=0):
    rng = random.Random(seed)
    cuts = accumulate(iter(lambda: rng.randint(*sizes), None))
    cuts = [0, *iter(lambda: min(next(cuts), len(text)), len(text)), len(text)]
    return [text[low:high] for low, high in pairwise(cuts)]


def fed(guard, deltas):
    return [event for delta in deltas for event in guard.feed(delta)]


# --- cost


class Counting(Classifier):
    """Counts what it encodes, and says no to everything without running the model."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.calls = self.characters = self.tokens = 0
        self.engine = SimpleNamespace(logits=lambda windows: np.full((len(windows), len(self.labels)), -9, np.float32))

    def encode(self, texts, contexts=None):
        encoded = super().encode(texts, contexts)
        self.calls += 1
        self.characters += sum(map(len, texts))
        self.tokens += sum(len(window.ids) for windows in encoded for window in windows)
        return encoded


@pytest.fixture
def counting(tiny_loaded):
    return Counting(tiny_loaded, threads=1)


TEXTS = {
    "sentences": "The nurse asked how she should report the threat. Nobody could tell! 他说要打断你的手，我很害怕。",
    "no sentence ends": "the nurse asked how she should report the threat and went on ",
    "nothing but ends": "a! b. 是。",
    "halves of emoji": "help \ud83d\ude00\ud83d\ude00 \ud83d",
    "marks": "e\u0301a\u0308\u0323o\u0302 \u0301\u0301\u0301",
    "invisible": "\u200b\u200d! ",
    "one letter": "a",
}


def cost(counting, text, context=None):
    counting.calls = counting.characters = counting.tokens = 0
    guard = StreamGuard(counting, context=context)
    fed(guard, pieces(text, (1, 20)))
    guard.close()
    return counting.calls, counting.characters, counting.tokens


CONTEXT = "What did the nurse say, and whom should she tell? " * 40


@pytest.mark.parametrize("size", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "context"), [*((kind, None) for kind in TEXTS), ("sentences", CONTEXT)])
def test_cost_is_linear_in_the_text(counting, kind, context, size):
    text = (TEXTS[kind] * (size // len(TEXTS[kind]) + 1))[:size]
    _, _, tokens = cost(counting, text[: size // 10], context)
    _, characters, ten_times = cost(counting, text, context)
    assert characters <= MOST_READ * size + len(context or "")
    # Until the first window is full, a judgement reads less than later on.
    assert ten_times <= (10.5 if size > 50_000 else 18) * tokens
    counting.tokens = 0
    counting.classify([text], [context])
    if counting.tokens > size / 20:
        assert ten_times < 14 * counting.tokens


def test_what_comes_at_once_is_read_little_more_than_once(counting):
    text = TEXTS["sentences"] * 200
    guard = StreamGuard(counting)
    guard.feed(text)
    assert counting.characters <= 1.1 * len(text)
    assert counting.calls <= 2
    assert guard.judged > 0.99 * len(text)


def test_a_judgement_reads_the_open_window_only(counting):
    guard = StreamGuard(counting)
    longest = 0
    for delta in pieces(TEXTS["sentences"] * 100, (1, 20)):
        before = counting.characters
        guard.feed(delta)
        longest = max(longest, counting.characters - before)
    assert longest < 800  # a window of 64 tokens and what may come before it is seen to be full


def test_the_end_of_a_context_makes_the_same_windows_as_all_of_it(classifier):
    context = " ".join(f"{TEXTS['sentences']} {n}" for n in range(60))
    end = context_end(classifier, context)
    assert len(end) < len(context) / 10
    for one, other in zip(*(classifier.encode(["tell anyone " * 40], [each]) for each in (context, end)), strict=True):
        assert [window.ids.tolist() for window in one] == [window.ids.tolist() for window in other]
    assert context_end(classifier, "Why?") == "Why?"
    assert context_end(classifier, None) is None


# --- the end


PARTS = st.sampled_from(
    [
        *(
            "tell anyone ",
            "find you. ",
            "他说要打断你的手。",
            "ありがとう",
            "شكرا؟ ",
            "никогда ",
            "never report! ",
            "ห้าม",
            "裡",
        ),
        *(
            "\ud83d",
            "\ude00",
            "😀",
            "\u0301",
            "\u200b",
            "h e l p ",
            "ｈｅｌｐ",
            "3.14",
            '."',
            " ",
            "\n\n",
            "</s>",
            "\ufdfa",
        ),
    ]
)
WHOLE = st.lists(st.one_of(PARTS, st.text(max_size=6)), max_size=60).map("".join)
SPLITS = st.tuples(st.integers(1, 4), st.integers(0, 60), st.integers())


@settings(deadline=None, max_examples=60)
@given(text=WHOLE, splits=SPLITS, context=st.sampled_from([None, "", "为什么?", "Why? " * 60]))
def test_the_end_is_the_verdict_on_the_whole_however_it_came(classifier, text, splits, context):
    guard = StreamGuard(classifier, context=context, policy="minors")
    events, received = [], 0
    for delta in pieces(text, (splits[0], splits[0] + splits[1]), splits[2]):
        received += len(delta)
        for event in guard.feed(delta):
            assert 0 <= event.start < event.end <= event.at == received
            assert event.since < event.at
            assert event.score >= 0.3
            events.append(event)
        assert guard.judged <= received
    assert guard.close() == classifier.classify([text], [context], policy="minors")[0]
    assert len({event.label for event in events}) == len(events)


def test_a_stream_without_text_is_the_empty_text(classifier):
    assert StreamGuard(classifier).close() == classifier.classify([""])[0]


def test_an_offence_is_told_before_the_end(classifier):
    flagged = classifier.classify(["tell anyone " * 60])[0].flagged
    guard = StreamGuard(classifier)
    events = fed(guard, pieces("tell anyone " * 60, (1, 20)))
    assert {event.label for event in events} >= set(flagged)
    assert events[0].at < 200
    assert events[-1].action is Action.BLOCK


def test_a_closed_stream_takes_no_more_and_keeps_its_verdict(classifier):
    guard = StreamGuard(classifier)
    guard.feed("tell anyone")
    verdict = guard.close()
    assert guard.close() is verdict
    with pytest.raises(InputError) as caught:
        guard.feed("more")
    assert caught.value.code == "stream_closed"


def test_bad_arguments_are_refused(classifier):
    with pytest.raises(ConfigError, match="policy"):
        StreamGuard(classifier, policy="nowhere")
    with pytest.raises(InputError, match="context"):
        StreamGuard(classifier, context=7)
    with pytest.raises(InputError) as caught:
        StreamGuard(classifier).feed(b"bytes")
    assert caught.value.code == "input_type"


def test_a_text_over_the_limit_is_refused_and_what_came_before_is_kept(classifier):
    guard = StreamGuard(classifier, max_characters=20)
    guard.feed("tell anyone")
    with pytest.raises(InputError) as caught:
        guard.feed("zebrawhisper")
    assert caught.value.code == "stream_too_long"
    assert "zebra" not in str(caught.value)
    guard.feed(" help him")
    assert guard.close() == classifier.classify(["tell anyone help him"])[0]


# --- when


def ends(*deltas):
    """Places at which sentences are seen to end, with nothing judged in between for other reasons."""
    stream, found = TextStream(), []
    for delta in deltas:
        stream.add(delta)
        while stretch := stream.due():
            stream.settle(stretch, judgement(stretch), POLICY)
            found.append(stream.judged)
    return found


def judgement(stretch, windows=1, **scores):
    """A verdict of so many windows of one size; a label has one score, or one for each window."""
    size = len(stretch.text)
    given = {label: each if isinstance(each, tuple) else (each,) * windows for label, each in scores.items()}
    places = [(size * n // windows, size * (n + 1) // windows) for n in range(windows)]
    highest = {label: max(each) for label, each in given.items()}
    return Verdict(
        action=Action.ALLOW,
        flagged=tuple(label for label, score in highest.items() if score >= 0.5),
        scores=highest,
        thresholds=dict.fromkeys(given, 0.5),
        windows=tuple(
            WindowScore(start=low, end=high, scores={label: each[n] for label, each in given.items()})
            for n, (low, high) in enumerate(places)
        ),
        rules={},
        model="none",
        policy="cn_measures",
    )


@pytest.mark.parametrize("mark", list("!?。！？؟।…\n"))
def test_a_sentence_is_judged_as_soon_as_it_ends(mark):
    assert ends("They went", f" away{mark}", " And") == [15]


def test_a_full_stop_ends_a_sentence_only_before_a_space():
    assert ends("It is 3.14", "15 or so") == []
    assert ends("He said so.") == []
    assert ends("He said so.", " Then") == [11]
    assert ends("He said so.", '"', "\u00a0") == [12]
    assert ends("He said so.", "'", '"', ")", " Then") == [14]


def test_text_without_ends_is_judged_as_it_grows():
    places = ends(*("word " for _ in range(100)))
    assert places[0] == 35
    assert all(0 <= high - low - max(32, low / 4) < 5 for low, high in pairwise(places))


def test_the_last_end_of_a_delta_counts_and_half_sentences_wait():
    stream = TextStream()
    stream.add("One. Two. Three. Fo")
    stretch = stream.due()
    assert stretch == Stretch("One. Two. Three.", 0, True)
    stream.settle(stretch, judgement(stretch), POLICY)
    assert stream.due() is None


def test_a_judgement_in_the_middle_of_a_sentence_does_not_put_off_its_end():
    stream = TextStream()
    stream.add("word " * 40)
    stretch = stream.due()
    assert not stretch.complete
    stream.settle(stretch, judgement(stretch), POLICY)
    stream.add("end!")
    assert stream.due().complete


# --- events


def told(stream, delta, windows=1, **scores):
    """Add a delta that makes a judgement due, judge it, and give the events."""
    stream.add(delta)
    stretch = stream.due()
    assert stretch, "nothing is due"
    return stream.settle(stretch, judgement(stretch, windows=windows, **scores), POLICY)


def test_a_complete_sentence_needs_one_judgement():
    stream = TextStream()
    assert told(stream, "All is well. ", violence=0.2) == []
    (event,) = told(stream, "He hits! Then", violence=0.8)
    assert (event.label, event.score, event.action) == ("violence", 0.8, Action.BLOCK)
    assert (event.start, event.end, event.since, event.at, event.delay) == (0, 21, 12, 26, 5)
    assert event.as_dict()["delay"] == 5


def test_in_the_middle_of_a_sentence_two_judgements_must_agree():
    stream = TextStream()
    assert told(stream, "a" * 40, violence=0.8, insult=0.8) == []
    (event,) = told(stream, "b" * 40, violence=0.2, insult=0.7, privacy=0.9)
    assert (event.label, event.score) == ("insult", 0.7)
    assert (event.start, event.end, event.since, event.at, event.delay) == (0, 40, 0, 80, 40)
    # Violence begins anew, privacy is confirmed.
    assert [event.label for event in told(stream, "c" * 40, violence=0.9, privacy=0.9)] == ["privacy"]
    (event,) = told(stream, "d" * 40, violence=0.9)
    assert (event.label, event.end, event.since, event.at) == ("violence", 120, 80, 160)


def test_what_flips_back_is_not_told_again():
    stream = TextStream()
    assert len(told(stream, "He hits! ", violence=0.8)) == 1
    for score in (0.2, 0.9, 0.1, 0.8):
        assert told(stream, "More of it. ", violence=score) == []
        stream.add(" ")


def test_flicker_at_every_word_tells_each_label_once(classifier):
    text = ("tell anyone help. never report nurse! " * 30)[:1000]
    for debounce in (1, 2, 5):
        events = fed(StreamGuard(classifier, debounce=debounce), text)
        assert len({event.label for event in events}) == len(events)


def test_a_finished_window_needs_one_judgement_and_is_not_read_again():
    stream = TextStream()
    (event,) = told(stream, "a" * 100, windows=2, violence=(0.8, 0.1), insult=(0.1, 0.8))
    assert (event.label, event.start, event.end) == ("violence", 0, 50)
    stream.add("b" * 60)
    assert stream.due().start == 50
    assert stream.text == "a" * 100 + "b" * 60


def test_the_action_is_that_of_all_that_was_told():
    stream = TextStream()
    assert [e.action for e in told(stream, "One! ", subversion=0.8)] == [Action.REVIEW]
    assert [e.action for e in told(stream, "And two! ", violence=0.8, subversion=0.1)] == [Action.BLOCK]
    assert [e.action for e in told(stream, "And then three! ", secession=0.8)] == [Action.BLOCK]


# --- the shipped model


@pytest.mark.model
@pytest.mark.slow
def test_an_offence_in_a_stream_is_told_within_a_sentence():
    shipped = Classifier.load(threads=1)
    data = tomllib.loads((Path(__file__).parents[1] / "data" / "streams.toml").read_text(encoding="utf-8"))
    delays, missed = [], []
    for lang, entry in data.items():
        for act in entry["acts"]:
            before = "".join(islice(cycle(entry["passages"]), act["before"]))
            text = before + act["text"] + " " + "".join(entry["passages"])
            guard = StreamGuard(shipped)
            events = fed(guard, pieces(text, (2, 6)))
            assert not [event for event in events if event.at <= len(before)], "told before it began"
            if events:
                delays.append(events[0].at - len(before) - len(act["text"]))
            elif guard.close().flagged:
                missed.append((lang, act["before"]))
    assert not missed, "flagged at the end and never told"
    assert len(delays) >= 18
    assert np.median(delays) <= 8
    assert np.quantile(delays, 0.9) <= 80
