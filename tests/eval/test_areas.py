"""Borkan's areas: equal to scikit-learn's, low for the fault each is named for, undefined without both classes."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fineline_eval.areas import Areas


def alone(rows):
    return np.array([f"c{row}" for row in range(rows)])


def test_areas_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth, inside = rng.random((2, 600)) < 0.4
    scores = rng.normal(truth + 0.5 * inside)
    found = Areas(scores, truth, alone(600)).of(inside)
    for name, chosen in (
        ("subgroup", inside),
        ("bpsn", (inside & ~truth) | (~inside & truth)),
        ("bnsp", (inside & truth) | (~inside & ~truth)),
    ):
        assert getattr(found, name).value == pytest.approx(roc_auc_score(truth[chosen], scores[chosen]), abs=0.005)


@pytest.mark.parametrize(("shift", "low", "high"), [(2.0, "bpsn", "bnsp"), (-2.0, "bnsp", "bpsn")])
def test_a_name_that_moves_the_score_lowers_one_area_only(shift, low, high):
    truth, inside = np.tile([True, True, False, False], 50), np.tile([True, False], 100)
    scores = truth + shift * inside + np.linspace(0, 0.1, 200)
    areas = Areas(scores, truth, alone(200))
    found = areas.of(inside)
    assert getattr(found, low).value == 0
    assert getattr(found, high).value == found.subgroup.value == 1
    assert areas.lowest(inside) == 0


def test_n_counts_the_rows_of_the_group():
    truth, inside = np.arange(100) < 30, np.arange(100) % 10 == 0
    found = Areas(np.linspace(0, 1, 100), truth, alone(100)).of(inside)
    assert (found.subgroup.n, found.bpsn.n, found.bnsp.n) == (10, 7, 3)


def test_equal_scores_are_worth_half():
    truth = np.tile([True, False], 20)
    assert Areas(np.zeros(40), truth, alone(40)).of(np.arange(40) < 20).bpsn.value == 0.5


def test_a_group_without_lawful_rows_has_only_one_area():
    truth = np.arange(40) < 20
    found = Areas(np.linspace(1, 0, 40), truth, alone(40)).of(np.arange(40) < 5)
    assert math.isnan(found.subgroup.value)
    assert math.isnan(found.bpsn.value)
    assert found.bnsp.value == 1


def test_rows_of_one_template_are_drawn_together():
    rng = np.random.default_rng(2)
    truth = np.repeat(np.arange(20) % 2 == 0, 30)
    scores = np.repeat(rng.normal(size=20), 30) + truth + rng.normal(size=600) / 100
    inside = np.arange(600) % 2 == 0
    single = Areas(scores, truth, alone(600)).of(inside).bpsn
    together = Areas(scores, truth, np.repeat(alone(20), 30)).of(inside).bpsn
    assert single.value == together.value
    assert together.high - together.low > 2 * (single.high - single.low)
