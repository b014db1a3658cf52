"""Long texts: the sentence stands where it should, in lawful prose of its language, and is caught by its own label."""

import json
from dataclasses import asdict

import pytest

from fineline.taxonomy import load_taxonomy
from fineline_eval.long_texts import CASES, PLACES, PROSE, evaluate_long_texts
from fineline_eval.report import _plain

IDS = load_taxonomy().ids
INSULT = dict.fromkeys(IDS, 0) | {"insult": 1}
LAWFUL = dict.fromkeys(IDS, 0)
BAD = "You are a horrid fool."


def rule(row):
    """Reads the first 300 characters: an insult where they hold ``horrid``, a threat where they hold ``alarm``."""
    return {label: 0.9 for label, word in (("insult", "horrid"), ("violence", "alarm")) if word in row.text[:300]}


@pytest.fixture
def judge(rule_scorer):
    return rule_scorer(rule)


def texts_of(judge, characters):
    return [row.text for row in judge.seen[f"long-{characters}"]]


@pytest.fixture
def prose(row):
    def make(lang="en", word="calm", texts=20):
        return [
            row(f"{word} prose number {n} of a long text in {lang}, as people write it.", lang=lang, labels=LAWFUL,
                pair=f"{lang}{n}", meta={"register": "essay"})
            for n in range(texts)
        ]  # fmt: skip

    return make


def evaluate(rows, judge, **options):
    found = evaluate_long_texts(rows, judge.probabilities("authored", rows), judge, **options)
    return {(part.characters, part.group): part for part in found.lengths}


def test_the_sentence_is_set_at_the_start_in_the_middle_and_at_the_end(row, prose, judge):
    bad = row(BAD, labels=INSULT, pair="bad")
    found = evaluate([*prose(), bad], judge, cases={2_000: 1})
    start, middle, end, without = texts_of(judge, 2000)
    assert start.startswith(f"{BAD}\n") and end.endswith(f"\n{BAD}") and f"\n{BAD}\n" in middle
    assert 700 < middle.index(BAD) < 1_300
    assert {text.replace(f"{BAD}\n", "").replace(f"\n{BAD}", "") for text in (start, middle, end)} == {without}
    assert 2_000 <= len(without) + 1 < 2_000 + 80
    assert set(found) == {(2_000, "all"), (2_000, "en")}
    part = found[2_000, "en"]
    assert [part.alone.value, part.start.value, part.middle.value, part.end.value] == [1, 1, 0, 0]
    assert part.lawful_flagged.value == 0


def test_sentences_of_one_frame_are_drawn_together(row, prose, judge):
    # Four sentences, three of them of one frame: two trials, of which none is flagged without the sentence.
    bad = [row(f"{BAD} {n}", labels=INSULT, pair=str(n), meta={"frame": str(min(n, 1))}) for n in range(4)]
    part = evaluate([*prose(), *bad], judge, cases={1_000: 4})[1_000, "en"]
    assert (part.lawful_flagged.value, part.lawful_flagged.n) == (0, 4)
    assert part.lawful_flagged.high == pytest.approx(1 - 0.025**0.5, abs=1e-4)


def test_a_false_alarm_about_the_rest_is_no_catch(row, prose, judge):
    found = evaluate([*prose(word="alarm"), row("A polite insult.", labels=INSULT)], judge, cases={1_500: 1})
    part = found[1_500, "en"]
    assert [part.alone.value, part.start.value, part.end.value] == [0, 0, 0]
    assert (part.lawful_flagged.value, part.lawful_flagged.n) == (1, 1)


def test_texts_around_a_sentence_are_lawful_prose_of_its_language(row, prose, judge):
    rows = [
        *prose("en"), row(BAD, labels=INSULT, pair="e"),
        *prose("fr"), row("horrid, vraiment", lang="fr", labels=INSULT, pair="f"),
        row("chatty line", labels=LAWFUL, meta={"register": "chat"}), row("no register", labels=LAWFUL),
        row("flagged essay", labels=INSULT, context="why?", meta={"register": "essay"}),
    ]  # fmt: skip
    found = evaluate(rows, judge, cases={1_000: 4})
    assert (found[1_000, "all"].start.n, found[1_000, "en"].start.n, found[1_000, "other"].start.n) == (2, 1, 1)
    for text in texts_of(judge, 1000):
        lines = [line for line in text.split("\n") if "horrid" not in line]
        assert len({line.split(" in ")[-1][:2] for line in lines}) == 1
        assert all("prose number" in line for line in lines)
    assert "chat" not in PROSE


def test_little_prose_is_repeated_and_too_little_leaves_the_language_out(row, prose, judge):
    bad = row(BAD, labels=INSULT)
    evaluate([*prose(), bad], judge, cases={5_000: 1})
    lines = texts_of(judge, 5000)[-1].split("\n")
    assert len(lines) > 60 and len(set(lines[:20])) == 20, "no text comes again before all were used"
    assert evaluate([*prose(texts=5), bad], judge) == {}
    assert evaluate([], judge) == {}


def test_a_long_text_is_not_a_sentence(row, prose, judge):
    rows = [*prose(), row(BAD * 20, labels=INSULT), row(BAD, labels=INSULT, context="who?")]
    assert evaluate(rows, judge) == {}


def test_the_languages_of_a_group_take_turns(row, prose, judge):
    rows = [*prose("de"), *prose("it")]
    rows += [row(f"{BAD} {n}", lang="de", labels=INSULT) for n in range(9)] + [row(BAD, lang="it", labels=INSULT)]
    evaluate(rows, judge, cases={1_000: 2})
    assert {"in de,", "in it,"} == {text[text.index(" in ") + 1 :][:6] for text in texts_of(judge, 1000)}


def test_the_same_texts_are_made_each_time(row, prose, judge):
    rows = [*prose(), *(row(f"{BAD} {n}", labels=INSULT, pair=str(n)) for n in range(9))]
    evaluate(rows, judge, cases={1_000: 3})
    first = texts_of(judge, 1000)
    evaluate(rows, judge, cases={1_000: 3})
    assert texts_of(judge, 1000) == first
    assert len(first) == 3 * (len(PLACES) + 1)


def test_the_result_is_plain_data_with_the_shortest_length_first(row, prose, judge):
    rows = [*prose(), row(BAD, labels=INSULT)]
    result = evaluate_long_texts(rows, judge.probabilities("authored", rows), judge)
    plain = json.loads(json.dumps(_plain(asdict(result)), allow_nan=False))
    assert [part["characters"] for part in plain["lengths"] if part["group"] == "all"] == sorted(CASES)
