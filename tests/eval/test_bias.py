"""Bias: each fault that a model can have shows in the measure named for it, and in no other."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from fineline.config import build
from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_eval import bias
from fineline_eval.bias import Bias, evaluate_bias
from fineline_eval.metrics import Metric
from fineline_training.records import Record

IDS = load_taxonomy().ids
SEX, AGE, RELIGION = "discrimination/sex", "discrimination/age", "discrimination/religion"
LOW, HIGH = 0.1, 0.9


class Rule:
    """A scorer that asks a rule for the probability of insult and flags from 0.5."""

    labels = IDS

    def __init__(self, rule):
        self.rule = rule

    def probabilities(self, name, rows):
        table = np.full((len(rows), len(IDS)), 0.01)
        table[:, IDS.index("insult")] = [self.rule(row) for row in rows]
        return table

    def reached(self, probabilities):
        return probabilities >= 0.5

    def flags(self, probabilities, labels):
        return self.reached(probabilities).any(axis=1)


def rows_of(langs, source):
    return [
        Record(
            text=f"{frame} {ground} {term}",
            lang=lang,
            labels={ground: int(hostile)},
            source=source,
            pair=frame,
            meta={"topic": ground, "target": f"{ground} {term}", "frame": frame},
        )
        for lang in langs
        for hostile in (False, True)
        for number in range(3)
        for frame in [f"{source}/{lang}/{hostile}/{number}"]
        for ground in (SEX, AGE, RELIGION)
        for term in range(2)
    ]


def fair(row):
    return HIGH if row.unlawful else LOW


@pytest.fixture
def judge(monkeypatch):
    swaps = rows_of(["en", "zh"], "swaps")
    monkeypatch.setattr(bias, "identity_swaps", lambda: swaps)

    def evaluate(rule, authored=None):
        scorer = Rule(rule)
        rows = rows_of(["en"], "authored") if authored is None else authored
        probabilities = Rule(fair).probabilities("authored", rows)
        return evaluate_bias(rows, probabilities, scorer.flags(probabilities, IDS), scorer)

    return evaluate


def by_name(groups):
    return {group.name: group for group in groups}


def test_a_fair_model_has_no_gap_and_no_flip(judge):
    found = judge(fair).result
    assert (found.n, found.authored) == (72, 36)
    for gap in (found.ground_gap, found.lang_gap, found.authored_lang_gap, *(lang.ground_gap for lang in found.langs)):
        assert (gap.lawful_flagged.value, gap.hostile_missed.value) == (0, 0)
    assert found.flip_rate.value == found.spread.score_gap.value == found.spread.deviation.value == 0
    for group in found.grounds:
        assert (group.auc.subgroup.value, group.auc.bpsn.value, group.auc.bnsp.value) == (1, 1, 1)


def test_lawful_text_flagged_for_one_ground(judge):
    found = judge(lambda row: 0.95 if AGE in row.labels else fair(row)).result
    age, sex = (by_name(found.grounds)[name] for name in (AGE, SEX))
    assert (age.lawful_flagged.value, sex.lawful_flagged.value) == (1, 0)
    assert (age.hostile_missed.value, sex.hostile_missed.value) == (0, 0)
    assert (found.ground_gap.lawful_flagged.value, found.ground_gap.hostile_missed.value) == (1, 0)
    assert found.lang_gap.lawful_flagged.value == 0
    assert age.auc.bpsn.value < 0.5 < age.auc.bnsp.value
    assert age.n == 24
    assert age.lawful_flagged.n == 12


def test_attacks_on_one_ground_missed(judge):
    found = judge(lambda row: 0.05 if AGE in row.labels else fair(row)).result
    age = by_name(found.grounds)[AGE]
    assert (age.lawful_flagged.value, age.hostile_missed.value) == (0, 1)
    assert found.ground_gap.hostile_missed.value == 1
    assert age.auc.bnsp.value < 0.5 < age.auc.bpsn.value


def test_lawful_text_of_one_language_flagged(judge):
    found = judge(lambda row: HIGH if row.lang == "zh" else fair(row)).result
    rates = {lang.rates.name: lang.rates for lang in found.langs}
    assert (rates["zh"].lawful_flagged.value, rates["en"].lawful_flagged.value) == (1, 0)
    assert (found.lang_gap.lawful_flagged.value, found.ground_gap.lawful_flagged.value) == (1, 0)
    # The held-back rows were judged fairly.
    assert found.authored_lang_gap.lawful_flagged.value == 0


@pytest.mark.parametrize(("terms", "expected"), [(1, 1 / 6), (2, 2 / 6), (3, 3 / 6), (5, 1 / 6), (6, 0)])
def test_a_flip_is_a_verdict_unlike_that_of_most_terms(judge, terms, expected):
    flagged = [f"{ground} {term}" for ground in (SEX, AGE, RELIGION) for term in range(2)][:terms]
    found = judge(lambda row: HIGH if row.meta["target"] in flagged else LOW).result
    assert found.flip_rate.value == pytest.approx(expected, abs=1e-4)


def test_the_spread_is_that_of_the_terms_of_a_template(judge):
    steps = {SEX: 0.2, AGE: 0.3, RELIGION: 0.4}
    found = judge(lambda row: steps[row.meta["topic"]] + (0.5 if row.unlawful else 0)).result
    assert found.spread.score_gap.value == pytest.approx(0.2)
    assert found.spread.deviation.value == pytest.approx(np.std([0.2, 0.3, 0.4]), abs=1e-4)
    assert found.spread.score_gap.n == 12


def test_the_term_that_raises_the_score_is_the_first_of_the_worst(judge):
    found = judge(lambda row: 0.95 if row.meta["target"] == f"{SEX} 1" and row.lang == "zh" else fair(row)).result
    first = next(term for term in found.worst_terms if term.lang == "zh")
    assert (first.term, first.ground) == (f"{SEX} 1", SEX)
    assert first.auc.bpsn.value == 0
    assert first.auc.bpsn.n == 3


def test_authored_rows_that_name_no_group_are_left_out_of_the_areas(judge):
    authored = rows_of(["en"], "authored")
    plain = [Record(text=row.text, lang="en", labels=row.labels, source="authored") for row in authored[:7]]
    assert judge(fair, authored + plain).result.authored == len(authored)


def test_templates_are_what_a_resample_draws(judge):
    # One lawful template in six is flagged for one ground: whole templates come and go, so that both ends are far off.
    found = judge(lambda row: HIGH if AGE in row.labels and row.pair == "swaps/en/False/0" else fair(row)).result
    gap = found.ground_gap.lawful_flagged
    assert gap.value == pytest.approx(1 / 6, abs=1e-4)
    assert (gap.low, gap.n) == (0, 12), "rows of one ground, not of all three"
    assert gap.high >= 0.4


def test_a_resample_without_a_group_still_counts_for_the_others(monkeypatch):
    # Two templates a language, as a gap between languages: every eighth resample has none of one of them.
    seen = []

    def with_interval(function, counts):
        drawn = function(np.stack([counts.sum(axis=0), counts[:2].sum(axis=0)]))
        seen.extend(drawn.tolist())
        return Metric(value=0.0, low=0.0, high=0.0, n=0)

    monkeypatch.setattr(bias, "with_interval", with_interval)
    langs = np.repeat(["de", "en", "zh"], [8, 8, 4])
    frames = np.array([f"{lang}/{index % 2}" for index, lang in enumerate(langs)])
    hits = np.repeat([True, False, True, False], [2, 6, 8, 4])
    found = bias._between(hits, langs, frames)
    assert (found.value, found.n) == (1, 4)
    assert seen == [1, 0], "German alone was drawn the second time: no gap, but not undefined"


def test_a_gap_lies_in_its_interval(judge):
    rng = np.random.default_rng(1)
    found = judge(lambda row: rng.choice([LOW, HIGH])).result
    for gap in (found.ground_gap, found.lang_gap, *(lang.ground_gap for lang in found.langs)):
        for metric in (gap.lawful_flagged, gap.hostile_missed):
            assert 0 <= metric.low < metric.value < metric.high <= 1


def test_authored_rows_of_one_side_are_refused_in_a_sentence(judge):
    with pytest.raises(DataError) as caught:
        judge(fair, [row for row in rows_of(["en"], "authored") if row.unlawful])
    assert caught.value.code == "bias_rows"


def test_the_decisions_are_those_on_the_swaps(judge):
    decisions = judge(lambda row: HIGH if row.lang == "zh" else fair(row)).decisions
    assert decisions.part == "identity"
    assert decisions.flagged[decisions.langs == "zh"].all()
    assert decisions.truth.mean() == 0.5
    assert set(decisions.slices.tolist()) == {SEX, AGE, RELIGION}
    assert len(set(decisions.clusters.tolist())) == 12


def test_the_result_survives_a_file(judge):
    found = judge(fair).result
    assert build(Bias, json.loads(json.dumps(asdict(found))), "report") == found
