"""The floor: it learns what a bag of characters can learn, from rows that know the target, the same each time."""

import numpy as np
import pytest

from fineline.taxonomy import load_taxonomy
from fineline_eval import floor as module
from fineline_eval.floor import FLOORS, KEYWORDS, MAJORITY, NGRAMS, floor_flags, floor_truth
from fineline_eval.suites import Suite

GROUNDS = load_taxonomy().group("discrimination")
SUITE = Suite(id="toy", title="Toy", source="edos", target="sex", headline=("f1",))
RUDE = ["you filthy {}", "what a filthy {}", "filthy filthy {}", "they are filthy, {}"]
KIND = ["you lovely {}", "what a lovely {}", "lovely lovely {}", "they are lovely, {}"]
THINGS = ["cat", "dog", "house", "garden", "river", "train"]


def suite_for(target: str) -> Suite:
    return Suite(id="toy", title="Toy", source="cold", target=target, headline=("f1",))


@pytest.fixture
def train(row):
    texts = [(form.format(thing), int(form in RUDE)) for thing in THINGS for form in (*RUDE, *KIND)]
    return [row(text, labels={"discrimination/sex": label}) for text, label in texts]


def test_the_floor_learns_a_toy_task(train):
    flags, rows = floor_flags(SUITE, train, ["a filthy boat", "a lovely boat", "ＦＩＬＴＨＹ boat"], ["en"])
    assert set(flags) == set(FLOORS)
    assert all(floor.dtype == np.bool_ for floor in flags.values())
    assert flags[NGRAMS].tolist() == flags[KEYWORDS].tolist() == [True, False, True]
    assert rows == len(train)


def test_the_majority_floor_says_what_most_training_rows_are(row, train):
    more = [row(f"rude {thing}", labels={"discrimination/sex": 1}) for thing in THINGS]
    assert floor_flags(SUITE, [*train, *more], ["any", "text"], ["en"])[0][MAJORITY].tolist() == [True, True]
    fewer = [r for i, r in enumerate(train) if i % 4 or not r.labels["discrimination/sex"]]
    assert floor_flags(SUITE, fewer, ["any", "text"], ["en"])[0][MAJORITY].tolist() == [False, False]


def test_the_keyword_list_finds_a_word_in_a_script_without_spaces(row):
    texts = [f"{thing}{word}" for word in ("是坏蛋的", "是好人的") for thing in ("他", "她", "谁", "狗", "猫", "人")]
    rows = [row(text, lang="zh", labels={"discrimination/sex": int("坏蛋" in text)}) for text in texts]
    flags, _ = floor_flags(SUITE, rows, ["我们都知道坏蛋在哪里", "我们都知道好人在哪里"], ["zh"])
    assert flags[KEYWORDS].tolist() == [True, False]


def test_flags_are_kept_and_bound_to_the_rows_they_come_from(train, tmp_path, monkeypatch):
    texts = ["a filthy boat", "a lovely boat"]
    first, rows = floor_flags(SUITE, train, texts, ["en"], tmp_path)
    monkeypatch.setattr(module, "_ngram_flags", lambda *_: pytest.fail("learned again"))
    again, rows_again = floor_flags(SUITE, train, texts, ["en"], tmp_path)
    assert rows == rows_again
    assert {name: floor.tolist() for name, floor in first.items()} == {n: f.tolist() for n, f in again.items()}
    with pytest.raises(pytest.fail.Exception):
        floor_flags(SUITE, train[:-1], texts, ["en"], tmp_path)
    (kept,) = tmp_path.iterdir()
    assert b"filthy" not in kept.read_bytes()


def test_the_floor_is_the_same_each_time(train):
    texts = [f"{word} {thing}" for word in ("filthy", "lovely", "lofty", "fly") for thing in ("boat", "moon", "hat")]
    first, again = (floor_flags(SUITE, train, texts, ["en"])[0][NGRAMS] for _ in range(2))
    assert first.tolist() == again.tolist()
    assert first.any() and not first.all()


def test_only_rows_of_the_suites_languages_that_know_its_target_are_learned_from(row, train):
    flipped = [row(r.text, labels={"discrimination/sex": 1 - r.labels["discrimination/sex"]}, lang="de") for r in train]
    unknown = [row(r.text, labels={"insult": 1}) for r in train]
    texts = ["a filthy boat", "a lovely boat"]
    flags, rows = floor_flags(SUITE, [*train, *flipped * 3, *unknown], texts, ["en"])
    assert (flags[NGRAMS].tolist(), rows) == ([True, False], len(train))
    flags, rows = floor_flags(SUITE, [*train, *flipped], texts, ["de"])
    assert (flags[NGRAMS].tolist(), rows) == ([False, True], len(flipped))
    assert floor_flags(SUITE, [*train, *flipped], texts, ["en", "de"])[1] == 2 * len(train)


@pytest.mark.parametrize(("kept", "rows"), [(slice(0), 0), (slice(1), 1)])
def test_there_is_no_floor_where_the_training_rows_are_of_one_class(train, kept, rows):
    assert floor_flags(SUITE, train[kept], ["text"], ["en"]) == ({}, rows)


@pytest.mark.parametrize(
    ("target", "labels", "any_of", "expected"),
    [
        ("sex", {"discrimination/sex": 1}, "", True),
        ("sex", {"discrimination/sex": 0}, "", False),
        ("sex", {"discrimination/age": 0}, "", None),
        ("sex", {}, "", None),
        ("hate", dict.fromkeys(GROUNDS, 0), "", False),
        ("hate", {"discrimination/sex": 0}, "", None),
        ("hate", {"discrimination/sex": 1}, "", True),
        ("hate", {"discrimination/sex": 0}, "ethnic_hatred,insult", True),
        # Ten labels: five known to be absent are not most of them, six are.
        ("hate", dict.fromkeys(GROUNDS[:5], 0), "", None),
        ("hate", dict.fromkeys(GROUNDS[:6], 0), "", False),
        ("hate", dict.fromkeys(GROUNDS[:5], 0) | {"insult": 0, "privacy": 0}, "", None),
        ("abuse", {"insult": 1}, "", True),
        ("hate", {"insult": 1}, "", None),
    ],
)
def test_a_row_counts_as_negative_only_if_it_knows_most_of_the_target(row, target, labels, any_of, expected):
    record = row(labels=labels, meta={"any_of": any_of} if any_of else {})
    assert floor_truth(suite_for(target), record) is expected
