"""The held-back frames: pairs count only when every text is right; lawful text flagged, by act."""

import math

import numpy as np
import pytest

from fineline.taxonomy import load_taxonomy
from fineline_eval.authored import evaluate_authored, pair_outcomes

IDS = load_taxonomy().ids
LAWFUL = dict.fromkeys(IDS, 0)
INSULT = LAWFUL | {"insult": 1}
THRESHOLDS = dict.fromkeys(IDS, 0.5)


@pytest.fixture
def judge(row):
    """Rows as (labels, act, pair, language, probability of insult); evaluates them."""

    def evaluate(*given):
        rows = [
            row(labels=labels, pair=pair, lang=lang, meta={"act": act, "frame": pair})
            for labels, act, pair, lang, _ in given
        ]
        probabilities = np.full((len(rows), len(IDS)), 0.1)
        probabilities[:, IDS.index("insult")] = [entry[-1] for entry in given]
        return evaluate_authored(rows, probabilities, (probabilities >= 0.5).any(axis=1), THRESHOLDS)

    return evaluate


# --- pairs


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        ([True, True, True], True),
        ([False, True, True], False),
        ([True, True, False], False),
        ([False, False, False], False),
    ],
)
def test_a_pair_is_right_only_if_all_its_texts_are(row, right, expected):
    rows = [row(labels=INSULT, pair="a"), row(labels=LAWFUL, pair="a"), row(labels=LAWFUL, pair="a")]
    outcomes, _, _ = pair_outcomes(rows, np.array(right))
    assert outcomes.tolist() == [expected]


def test_only_groups_with_both_sides_are_pairs(row):
    rows = [
        row(labels=INSULT, pair="both", lang="zh", meta={"frame": "f"}),
        row(labels=LAWFUL, pair="lawful"),
        row(labels=INSULT, pair="flagged"),
        row(labels=LAWFUL, pair="lawful"),
        row(labels=LAWFUL, pair="both", lang="zh", meta={"frame": "f"}),
        row(labels=INSULT, pair="flagged"),
    ]
    outcomes, frames, langs = pair_outcomes(rows, np.array([True, False, False, False, True, False]))
    assert (outcomes.tolist(), frames, langs) == ([True], ["f"], ["zh"])


def test_rows_without_a_pair_are_no_pair(row):
    outcomes, frames, langs = pair_outcomes([row(labels=INSULT), row(labels=LAWFUL)], np.array([True, True]))
    assert (outcomes.tolist(), frames, langs) == ([], [], [])


# --- the whole


def test_pairs_and_lawful_text_are_counted(judge):
    found = judge(
        (INSULT, "insult", "a", "en", 0.9),
        (LAWFUL, "mention", "a", "en", 0.2),
        (INSULT, "insult", "b", "en", 0.9),
        (LAWFUL, "mention", "b", "en", 0.8),
        (LAWFUL, "question", "c", "en", 0.1),
    )
    assert (found.n, found.pairs, found.pairs_right.value) == (5, 2, 0.5)
    assert (found.lawful_flagged.value, found.lawful_flagged.n) == (0.3333, 3)


def test_lawful_text_flagged_is_split_by_act(judge):
    found = judge(
        (LAWFUL, "mention", "a", "en", 0.9),
        (LAWFUL, "mention", "b", "en", 0.1),
        (LAWFUL, "question", "c", "en", 0.1),
        (INSULT, "insult", "d", "en", 0.9),
        (INSULT, "mention", "e", "en", 0.9),
    )
    assert {act.act: (act.lawful_flagged.value, act.lawful_flagged.n) for act in found.acts} == {
        "mention": (0.5, 2),
        "question": (0.0, 1),
    }


def test_results_are_split_by_language(judge):
    found = judge(
        (INSULT, "insult", "a", "zh", 0.9),
        (LAWFUL, "mention", "a", "zh", 0.1),
        (INSULT, "insult", "b", "en", 0.1),
        (LAWFUL, "mention", "b", "en", 0.9),
        (LAWFUL, "mention", "c", "fr", 0.1),
    )
    en, fr, zh = found.langs
    assert [part.lang for part in found.langs] == ["en", "fr", "zh"]
    assert (zh.n, zh.recall.value, zh.macro_f1.value, zh.lawful_flagged.value, zh.pairs_right.value) == (2, 1, 1, 0, 1)
    assert (en.n, en.recall.value, en.macro_f1.value, en.lawful_flagged.value, en.pairs_right.value) == (2, 0, 0, 1, 0)
    assert (fr.n, fr.lawful_flagged.value, fr.pairs_right.n) == (1, 0, 0)
    assert math.isnan(fr.recall.value)


def test_a_label_is_judged_at_its_own_threshold_on_rows_that_know_it(row):
    rows = [row(labels={"insult": 1}), row(labels={"insult": 0}), row(labels={"insult": 0}), row(labels={"privacy": 1})]
    probabilities = np.full((4, len(IDS)), 0.9)
    probabilities[:, IDS.index("insult")] = [0.6, 0.65, 0.2, 0.9]
    thresholds = dict.fromkeys(IDS, 0.99) | {"insult": 0.55}
    found = evaluate_authored(rows, probabilities, np.ones(4, dtype=bool), thresholds)
    labels = {label.label: label for label in found.labels}
    assert tuple(labels) == IDS
    insult, privacy = labels["insult"], labels["privacy"]
    assert (insult.positives, insult.precision.value, insult.recall.value) == (1, 0.5, 1)
    assert (insult.precision.n, insult.recall.n) == (2, 1), "flagged rows, and rows with the label"
    assert insult.average_precision == 0.5
    assert (privacy.positives, privacy.recall.value, privacy.recall.n) == (1, 0, 1)
    assert found.macro_f1_labels == pytest.approx((2 / 3 + 0) / 2, abs=1e-4)


def test_what_no_row_knows_is_undefined_and_not_zero(judge):
    found = judge((LAWFUL, "mention", "a", "en", 0.1))
    assert math.isnan(found.macro_f1_labels)
    assert all(math.isnan(label.average_precision) for label in found.labels)
    assert all(math.isnan(label.recall.value) for label in found.labels)
    assert found.pairs == 0
    assert math.isnan(found.pairs_right.value)
