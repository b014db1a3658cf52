"""Robustness: the same change on both verdicts, drawn the same way each time, against the text as written."""

import json
import math
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest

from fineline.taxonomy import load_taxonomy
from fineline_eval.report import _plain
from fineline_eval.robustness import evaluate_robustness, language_group
from fineline_training.evasion import Evasion, evasions_of

IDS = load_taxonomy().ids
INSULT = dict.fromkeys(IDS, 0) | {"insult": 1}
LAWFUL = dict.fromkeys(IDS, 0)


def rule(row):
    """Sure of an insult where a text spells ``horrid``, less so where it holds a digit."""
    return {"insult": 0.9 if "horrid" in row.text else 0.6 if any(c.isdigit() for c in row.text) else 0.1}


@pytest.fixture
def judge(rule_scorer):
    return rule_scorer(rule)


@pytest.fixture
def rows(row):
    return [
        text
        for pair in "abcdef"
        for text in (
            row("horrid", labels=INSULT, pair=pair, split="dev"),
            row("pleasant", labels=LAWFUL, pair=pair, split="dev", context="who?"),
        )
    ]


def evaluate(rows, judge, **options):
    plain = judge.probabilities("authored", rows)
    return {(r.kind, r.group): r for r in evaluate_robustness(rows, plain, judge, **options).evasions}


def test_a_hidden_word_lowers_recall_and_odd_spelling_may_flag_lawful_text(rows, judge):
    # Leetspeak turns horrid into h0rr1d, where the judge still sees digits, and pleasant into pl3454n7.
    found = evaluate(rows, judge)["leet", "en"]
    assert (found.recall.value, found.recall_evaded.value, found.kept.value) == (1, 1, 1)
    assert (found.lawful_flagged.value, found.lawful_flagged_evaded.value, found.lawful_extra.value) == (0, 1, 1)
    assert found.flagged_change.value == pytest.approx(-0.3)
    assert found.lawful_change.value == pytest.approx(0.5)
    # A space between letters hides the word altogether.
    found = evaluate(rows, judge)["spacing", "en"]
    assert (found.recall.value, found.recall_evaded.value, found.kept.value) == (1, 0, 0)
    assert (found.lawful_flagged_evaded.value, found.lawful_extra.value, found.lawful_change.value) == (0, 0, 0)
    assert found.flagged_change.value == pytest.approx(-0.8)


def test_what_was_never_caught_is_not_lost(row, judge):
    rows = [row("unkind words", labels=INSULT, pair="a"), row("pleasant words", labels=LAWFUL, pair="a")]
    found = evaluate(rows, judge)["spacing", "en"]
    assert (found.recall.value, found.recall_evaded.value, found.kept.n) == (0, 0, 0)
    assert math.isnan(found.kept.value)


def test_a_language_gets_the_kinds_that_make_sense_in_it(row, judge):
    texts = {"en": "some words here", "zh": "这些话说得很难听", "ru": "слова бывают разные", "hi": "यह बात ठीक नहीं"}
    rows = [
        row(f"{text} {verdict}", lang=lang, labels=labels, pair=lang)
        for lang, text in texts.items()
        for verdict, labels in (("horrid", INSULT), ("pleasant", LAWFUL))
    ]
    found = evaluate(rows, judge)
    for group, langs in (("en", ["en"]), ("zh", ["zh"]), ("other", ["ru", "hi"])):
        sensible = {str(kind) for lang in langs for kind in evasions_of(lang)}
        # Some kinds may find nothing to change in two short texts, but none is used where it makes no sense.
        assert {kind for kind, where in found if where == group} <= sensible
    assert {("homophone", "zh"), ("leet", "en"), ("emoji", "other")} <= set(found)
    assert found["emoji", "other"].recall.n == 2
    assert [language_group(lang) for lang in ("zh", "en", "ja")] == ["zh", "en", "other"]


def test_texts_in_which_nothing_changes_are_left_out(row, judge):
    rows = [
        row("horrid", labels=INSULT, pair="a"),
        row("oh no", labels=INSULT, pair="b"),
        row("pleasant", labels=LAWFUL, pair="c"),
    ]
    found = evaluate(rows, judge)
    assert (found["typo", "en"].recall.n, found["typo", "en"].lawful_flagged.n) == (1, 1)
    assert found["full_width", "en"].recall.n == 2
    written = {row.text for row in judge.seen.pop("authored")}
    assert not written & {row.text for scored in judge.seen.values() for row in scored}


def test_no_more_texts_than_asked_for_and_the_context_stays(rows, judge):
    found = evaluate(rows, judge, most=2)["leet", "en"]
    assert (found.recall.n, found.lawful_flagged.n) == (2, 2)
    assert list(judge.seen) == ["authored", *(f"evasion-{kind}" for kind in Evasion)]
    assert sorted((row.text, row.context) for row in judge.seen["evasion-leet"]) == [
        ("h0rr1d", None), ("h0rr1d", None), ("pl3454n7", "who?"), ("pl3454n7", "who?"),
    ]  # fmt: skip


def test_texts_are_drawn_by_pair_and_the_same_way_each_time(row, judge):
    rows = [
        row(f"{word} {pair} somebody", labels=labels, pair=pair)
        for pair in map(str, range(30))
        for word, labels in (("horrid", INSULT), ("pleasant", LAWFUL))
    ]
    evaluate(rows, judge, most=5)
    first = dict(judge.seen)
    evaluate(rows, judge, most=5)
    assert judge.seen == first
    pairs = Counter(row.pair for row in first["evasion-full_width"])
    assert len(pairs) == 5 and set(pairs.values()) == {2}, "a flagged text comes with its lawful twin"
    assert set(pairs) != set(map(str, range(5)))


@pytest.mark.parametrize("frames", [8, 40])
def test_expansions_of_one_frame_are_no_independent_texts(row, judge, frames):
    # Forty texts of either verdict, each a pair of its own; every other frame holds what the judge knows.
    rows = [
        row(
            f"{'horrid' if frame % 2 else 'unkind'} {'x' * n} {word}",
            labels=labels,
            pair=f"{n}",
            meta={"frame": f"{frame}"},
        )
        for n in range(40)
        for frame in [n % frames]
        for word, labels in (("people", INSULT), ("neighbours", LAWFUL))
    ]
    found = evaluate(rows, judge)["full_width", "en"].recall
    alone = 2 * 1.96 * (0.25 / frames) ** 0.5
    assert found.n == 40
    assert found.high - found.low == pytest.approx(alone, rel=0.25)


def test_a_group_without_one_of_the_verdicts_is_left_out(row, judge):
    rows = [row("horrid", labels=INSULT, pair="a"), row("很好听的话", lang="zh", labels=LAWFUL, pair="b")]
    assert evaluate(rows, judge) == {}
    assert evaluate_robustness([], np.zeros((0, len(IDS))), judge).evasions == ()


def test_the_result_is_plain_data(rows, judge):
    result = evaluate_robustness(rows, judge.probabilities("authored", rows), judge)
    assert json.loads(json.dumps(_plain(asdict(result)), allow_nan=False))["evasions"][0]["group"] == "en"
