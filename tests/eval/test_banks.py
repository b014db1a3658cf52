"""Banks of questions: what is read, what is refused, how it is counted, and that the shipped ones are whole."""

import json
import math
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import yaml

from fineline.errors import ConfigError, DataError
from fineline.taxonomy import load_taxonomy
from fineline_eval.banks import (
    BANKS_DIR,
    FLAG_FORMS,
    PASS_FORMS,
    TOPICS,
    BankKind,
    evaluate_banks,
    exact_share,
    load_banks,
    read_bank,
)
from fineline_eval.card.metadata import LANGUAGES
from fineline_eval.report import _plain

IDS = load_taxonomy().ids


def bank(folder, name="b.yaml", **fields):
    head = {"lang": "en", "kind": "should_not_refuse", "topics": {"culture": ["Why?", "How?"]}} | fields
    file = folder / name
    file.write_text(yaml.safe_dump({key: value for key, value in head.items() if value is not None}), encoding="utf-8")
    return file


@pytest.fixture
def judge(rule_scorer):
    """Flags questions with an exclamation mark."""
    return rule_scorer(lambda row: {"insult": float("!" in row.text)})


# --- reading


def test_a_question_that_must_not_be_refused_carries_no_label(tmp_path):
    rows = read_bank(bank(tmp_path))
    assert [(row.text, row.lang, row.meta["topic"], row.split) for row in rows] == [
        ("Why?", "en", "culture", "test"), ("How?", "en", "culture", "test"),
    ]  # fmt: skip
    assert all(row.labels == dict.fromkeys(IDS, 0) for row in rows)


def test_a_question_that_should_be_refused_carries_the_label_of_its_topic(tmp_path):
    (row,) = read_bank(bank(tmp_path, kind="should_refuse", topics={"privacy": ["Find her."]}))
    assert row.labels == {"privacy": 1}
    assert row.meta == {"topic": "privacy", "kind": "should_refuse"}


def test_functional_texts_pass_or_break_a_rule_that_their_form_leaves_open(tmp_path):
    (flag,) = read_bank(bank(tmp_path, kind="must_flag", topics={"implicit": ["You know how they are."]}))
    (lawful,) = read_bank(bank(tmp_path, kind="must_pass", topics={"report": ["She reported it."]}))
    assert flag.unlawful and not flag.labels and "discrimination/sex" in flag.any_of
    assert not lawful.unlawful and lawful.labels == dict.fromkeys(IDS, 0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "refuse"}, "kind"),
        ({"lang": False}, "lang"),
        ({"lang": None}, "keys"),
        ({"author": "me"}, "keys"),
        ({"topics": {}}, "topics"),
        ({"topics": ["Why?"]}, "topics"),
        ({"topics": {"privacy": ["Why?"]}}, "'privacy' is unknown"),
        ({"kind": "should_refuse"}, "'culture' is unknown"),
        ({"topics": {"culture": []}}, "'culture'"),
        ({"topics": {"culture": "Why?"}}, "'culture'"),
        ({"topics": {"culture": ["Why?", 3]}}, "text 2"),
        ({"topics": {"culture": ["Why?", " "]}}, "text 2"),
        ({"topics": {"culture": ["Why?"], "image": ["How?", "Why?"]}}, "text 2 of topic 'image'"),
    ],
)
def test_a_bank_that_breaks_the_form_is_refused_by_name(tmp_path, fields, said):
    with pytest.raises(ConfigError) as caught:
        read_bank(bank(tmp_path, **fields))
    assert caught.value.code == "bank"
    assert caught.value.message.startswith("b.yaml: ") and said in caught.value.message
    assert "Why?" not in caught.value.message


def test_a_bank_that_is_no_yaml_or_not_there_is_refused(tmp_path):
    file = tmp_path / "b.yaml"
    file.write_text('lang: en\nkind: "', encoding="utf-8")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_bank(file)
    with pytest.raises(ConfigError) as caught:
        read_bank(tmp_path / "c.yaml")
    assert caught.value.code == "bank_missing"


def test_a_folder_without_banks_is_an_error(tmp_path):
    with pytest.raises(DataError) as caught:
        load_banks(tmp_path)
    assert caught.value.code == "banks_empty"


# --- judging


def evaluated(folder, judge):
    rows = load_banks(folder)
    return evaluate_banks(rows, judge.probabilities("banks", rows), judge)


def test_shares_are_told_by_kind_language_and_topic(tmp_path, judge):
    bank(tmp_path, "a.yaml", topics={"image": ["a!"], "culture": ["b", "c", "d"]})
    bank(tmp_path, "b.yaml", lang="zh", topics={"culture": ["e!"]})
    bank(tmp_path, "c.yaml", kind="should_refuse", topics={"privacy": ["f!"], "insult": ["g!", "h"]})
    result = evaluated(tmp_path, judge)
    found = {(part.kind, part.lang): part for part in result.banks}
    assert list(found) == [
        ("should_not_refuse", "all"), ("should_not_refuse", "en"), ("should_not_refuse", "zh"),
        ("should_refuse", "all"), ("should_refuse", "en"),
    ]  # fmt: skip
    values = {key: (part.flagged.value, part.flagged.n) for key, part in found.items()}
    assert values["should_not_refuse", "all"] == (0.4, 5)
    assert values["should_not_refuse", "en"] == (0.25, 4)
    assert values["should_refuse", "all"] == (0.6667, 3)
    topics = [(part.topic, part.flagged.value, part.flagged.n) for part in found["should_not_refuse", "all"].topics]
    assert topics == [("image", 1, 1), ("culture", 0.25, 4)]
    topics = [(part.topic, part.flagged.value, part.flagged.n) for part in found["should_refuse", "en"].topics]
    assert topics == [("insult", 0.5, 2), ("privacy", 1, 1)]
    assert (result.cap, result.goal, result.floor) == (0.05, 0.01, 0.95)
    assert json.loads(json.dumps(_plain(asdict(result)), allow_nan=False))["banks"][0]["lang"] == "all"


def test_a_missing_kind_is_left_out(tmp_path, judge):
    bank(tmp_path)
    assert {part.kind for part in evaluated(tmp_path, judge).banks} == {"should_not_refuse"}


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # Clopper-Pearson: no hit in n bounds the share at 1 - 0.025 ** (1 / n); 2 of 10 is a textbook case.
    [(0, 520, 0.0, 0.0071), (0, 20, 0.0, 0.1684), (20, 20, 0.8316, 1.0), (2, 10, 0.0252, 0.5561)],
)
def test_the_interval_is_exact_and_never_claims_certainty(hits, n, low, high):
    found = exact_share(np.arange(n) < hits)
    assert (found.value, found.low, found.high, found.n) == (round(hits / n, 4), low, high, n)


def test_the_share_of_nothing_is_not_defined():
    found = exact_share(np.zeros(0, dtype=bool))
    assert math.isnan(found.value) and found.n == 0


# --- the shipped banks


@pytest.fixture(scope="module")
def shipped():
    return load_banks()


def test_the_shipped_banks_are_as_large_as_the_standard_asks(shipped):
    kept = Counter(row.meta["topic"] for row in shipped if row.meta["kind"] == BankKind.SHOULD_NOT_REFUSE)
    assert kept.total() >= 520
    assert set(kept) == set(TOPICS) and min(kept.values()) >= 20
    refused = Counter(row.meta["topic"] for row in shipped if row.meta["kind"] == BankKind.SHOULD_REFUSE)
    assert set(refused) == set(IDS) and min(refused.values()) >= 4


@pytest.mark.parametrize(("kind", "forms"), [(BankKind.MUST_FLAG, FLAG_FORMS), (BankKind.MUST_PASS, PASS_FORMS)])
def test_the_functional_tests_show_every_form_in_every_served_language(shipped, kind, forms):
    shown = Counter((row.lang, row.meta["topic"]) for row in shipped if row.meta["kind"] == kind)
    assert set(shown) == {(lang, form) for lang in LANGUAGES for form in forms}
    assert min(shown.values()) >= 3


def test_a_shipped_bank_is_named_after_its_kind_and_language():
    for file in BANKS_DIR.glob("*.yaml"):
        row = read_bank(file)[0]
        assert file.stem == f"{row.meta['kind']}_{row.lang}"
