"""Calibration and thresholds against what is known of made-up data, and against brute force."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline.policy import load_policies
from fineline_training.calibrate import (
    HIGHEST,
    LOWEST,
    best_threshold,
    calibrate,
    choose_thresholds,
    fit_platt,
    threshold_table,
)

POLICY = load_policies()["cn_measures"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.4, 1.5), (2.5, -2.0), (0.8, -3.0)])
def test_platt_finds_a_known_scale_and_shift(rng, scale, shift):
    logits = rng.normal(0, 3, size=20_000)
    truth = (rng.random(20_000) < sigmoid(scale * logits + shift)).astype(np.int8)
    found = fit_platt(logits, truth)
    assert found.scale == pytest.approx(scale, rel=0.08)
    assert found.shift == pytest.approx(shift, abs=0.12)


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], []])
def test_one_class_alone_changes_nothing(truth):
    found = fit_platt(np.arange(len(truth), dtype=np.float64), np.array(truth, dtype=np.int8))
    assert (found.scale, found.shift) == (1.0, 0.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(-30, 30), st.integers(0, 1)), min_size=2, max_size=40))
def test_probabilities_always_rise_with_the_logit(rows):
    logits, truth = np.array([x for x, _ in rows]), np.array([y for _, y in rows], dtype=np.int8)
    found = fit_platt(logits, truth)
    assert np.isfinite([found.scale, found.shift]).all()
    steps = np.linspace(-5, 5, 30)
    assert found.scale > 0
    assert (np.diff(sigmoid(found.scale * steps + found.shift)) >= 0).all()


def test_few_rows_are_pulled_towards_the_identity(rng):
    few = fit_platt(np.array([8.0, -8.0]), np.array([0, 1], dtype=np.int8))
    many = fit_platt(np.tile([8.0, -8.0], 500), np.tile([0, 1], 500).astype(np.int8))
    assert abs(np.log(few.scale)) < abs(np.log(many.scale))


def test_labels_are_calibrated_on_the_rows_that_know_them(rng):
    logits = rng.normal(0, 3, size=(6000, 2)).astype(np.float32)
    labels = (rng.random((6000, 2)) < sigmoid(logits * [0.5, 2.0] + [1.0, -1.0])).astype(np.int8)
    labels[:2000, 0] = -1
    logits[:2000, 0] = 25  # would bend the scale if unknown rows were read as known
    fitted = calibrate(logits, labels, ["insult", "privacy"])
    assert fitted["insult"].scale == pytest.approx(0.5, rel=0.15)
    assert fitted["privacy"].scale == pytest.approx(2.0, rel=0.15)


def f_beta(threshold, probabilities, truth, beta):
    flagged = probabilities >= threshold
    hits = (flagged & (truth == 1)).sum()
    return (1 + beta**2) * hits / (flagged.sum() + beta**2 * (truth == 1).sum())


scored_rows = st.lists(
    st.tuples(st.integers(11, 190).map(lambda n: n / 200), st.integers(0, 1)), min_size=1, max_size=30
)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0]), st.floats(0.5, 3.0), st.floats(1.0, 4.0))
def test_the_best_threshold_is_the_best_for_calibrated_probabilities(seed, beta, one, other):
    rng = np.random.default_rng(seed)
    probabilities = rng.beta(one, other, size=20_000)
    truth = (rng.random(20_000) < probabilities).astype(np.int8)
    found = best_threshold(probabilities, truth, beta)
    assert LOWEST <= found <= HIGHEST

    def expected(cut: float) -> float:
        """F-beta with the expected number of hits: that of the drawn labels favours the cut that was lucky."""
        flagged = probabilities >= cut
        hits = probabilities[flagged].sum()
        return (1 + beta**2) * hits / (flagged.sum() + beta**2 * probabilities.sum())

    assert expected(found) > max(map(expected, np.linspace(0.02, 0.98, 97))) - 0.01


@given(scored_rows, st.sampled_from([0.05, 0.5, 1.0, 2.0]))
def test_the_best_threshold_is_the_best_f_beta_over_one_plus_beta_squared(rows, beta):
    probabilities = np.array([p for p, _ in rows])
    truth = np.array([y for _, y in rows], dtype=np.int8)
    found = best_threshold(probabilities, truth, beta)
    if not truth.any():
        assert found == 0.5
        return
    best = max(f_beta(cut, probabilities, truth, beta) for cut in probabilities)
    assert found == pytest.approx(np.clip(best / (1 + beta**2), LOWEST, HIGHEST))


def test_the_best_threshold_moves_little_with_the_rows(rng):
    probabilities = rng.beta(0.4, 4, size=4000)
    truth = (rng.random(4000) < probabilities).astype(np.int8)
    draws = [rng.integers(0, 4000, 4000) for _ in range(30)]
    found = np.array([best_threshold(probabilities[rows], truth[rows], 0.7) for rows in draws])
    assert np.log(found / (1 - found)).std() < 0.1


@settings(max_examples=300, deadline=None)
@given(scored_rows, st.floats(0.02, 3.0), st.floats(0.02, 3.0))
def test_more_weight_on_recall_never_raises_a_threshold(rows, one, other):
    probabilities = np.array([p for p, _ in rows])
    truth = np.array([y for _, y in rows], dtype=np.int8)
    low, high = sorted((one, other))
    assert best_threshold(probabilities, truth, high) <= best_threshold(probabilities, truth, low)


tables = st.integers(1, 25).flatmap(
    lambda rows: st.tuples(
        st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=rows, max_size=rows),
        st.lists(st.lists(st.sampled_from([-1, 0, 0, 0, 1]), min_size=3, max_size=3), min_size=rows, max_size=rows),
    )
)
IDS = ("insult", "privacy", "violence")


@settings(max_examples=300, deadline=None)
@given(tables, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_thresholds_respect_the_share_of_lawful_rows(table, limit):
    probabilities, labels = np.array(table[0]), np.array(table[1], dtype=np.int8)
    policy = dataclasses.replace(POLICY, max_lawful_flagged=limit)
    chosen = choose_thresholds(probabilities, labels, IDS, policy)
    cuts = np.array([chosen[label] for label in IDS])
    assert list(chosen) == list(IDS)
    assert ((cuts >= LOWEST) & (cuts <= HIGHEST)).all()
    lawful = probabilities[(labels == 0).all(axis=1)]
    if len(lawful):
        share = (lawful >= cuts).any(axis=1).mean()
        assert share <= limit or (cuts >= HIGHEST - 1e-9).all()


def test_thresholds_that_flag_no_lawful_row_are_the_best_ones(rng):
    truth = (rng.random((200, 3)) < 0.3).astype(np.int8)
    probabilities = np.where(truth == 1, rng.uniform(0.7, 0.9, (200, 3)), rng.uniform(0.1, 0.3, (200, 3)))
    chosen = choose_thresholds(probabilities, truth, IDS, POLICY)
    for column, label in enumerate(IDS):
        best = best_threshold(probabilities[:, column], truth[:, column], POLICY.beta)
        assert best <= chosen[label] <= best + 1.1e-4


def test_a_tighter_limit_never_lowers_a_threshold(rng):
    truth = (rng.random((800, 3)) < 0.15).astype(np.int8)
    probabilities = sigmoid(rng.normal(-1.5, 1.5, (800, 3)) + 2 * truth)
    tables = [
        choose_thresholds(probabilities, truth, IDS, dataclasses.replace(POLICY, max_lawful_flagged=limit))
        for limit in (0.5, 0.1, 0.01, 0.001)
    ]
    for loose, tight in itertools.pairwise(tables):
        assert all(tight[label] >= loose[label] for label in IDS)
    assert tables[0] != tables[-1]


def test_lawful_rows_that_do_not_count_raise_no_threshold_by_the_limit(rng):
    """Harder lawful text of one more round of writing: with it the limit would take recall everywhere."""
    truth = (rng.random((900, 3)) < 0.15).astype(np.int8)
    probabilities = sigmoid(rng.normal(-1.5, 1.0, (900, 3)) + 3 * truth)
    hard = np.arange(900) >= 700
    truth[hard] = 0
    probabilities[hard] = sigmoid(rng.normal(1.0, 1.0, (200, 3)))
    policy = dataclasses.replace(POLICY, max_lawful_flagged=0.02)
    all_count = choose_thresholds(probabilities, truth, IDS, policy)
    some_count = choose_thresholds(probabilities, truth, IDS, policy, counted=~hard)
    assert all(some_count[label] < all_count[label] for label in IDS)
    cuts = np.array([some_count[label] for label in IDS])
    lawful = probabilities[~hard & (truth == 0).all(axis=1)]
    assert (lawful >= cuts).any(axis=1).mean() <= 0.02
    # A table of many policies is told the same, also where a team's rows know another label.
    labels = np.column_stack([truth, np.full(900, -1, dtype=np.int8)])
    scores = np.column_stack([probabilities, rng.random(900)])
    table = threshold_table(scores, labels, (*IDS, "own"), {"one": policy}, own=["own"], counted=~hard)["one"]
    assert {label: table[label] for label in IDS} == some_count


def test_every_policy_gets_thresholds_and_more_recall_means_lower_ones(rng):
    truth = (rng.random((3000, 3)) < 0.2).astype(np.int8)
    probabilities = sigmoid(rng.normal(-1.5, 1.2, (3000, 3)) + 3 * truth)
    policies = {name: dataclasses.replace(policy, max_lawful_flagged=1.0) for name, policy in load_policies().items()}
    table = threshold_table(probabilities, truth, IDS, policies)
    assert set(table) == set(load_policies())
    for label in IDS:
        assert table["minors"][label] < table["cn_measures"][label] < table["international"][label]


def test_a_teams_label_moves_no_other_threshold_and_keeps_the_limit_on_its_own_rows(rng):
    ids, policies = ["insult", "violence", "own"], load_policies()
    truth = (rng.random((600, 3)) < 0.3).astype(np.int8)
    probabilities = np.clip(0.25 + 0.5 * truth + rng.normal(0, 0.2, truth.shape), 0.01, 0.99)
    shipped = threshold_table(probabilities[:, :2], truth[:, :2], ids[:2], policies)
    # 200 rows more know the team's label alone; no row of the others knows it.
    labels = np.full((800, 3), -1, dtype=np.int8)
    labels[:600, :2], labels[600:, 2] = truth[:, :2], truth[:200, 2]
    scores = rng.random((800, 3))
    scores[:600, :2], scores[600:, 2] = probabilities[:, :2], probabilities[:200, 2]
    found = threshold_table(scores, labels, ids, policies, own=["own"])
    negative = probabilities[:200, 2][truth[:200, 2] == 0]
    for name, policy in policies.items():
        assert list(found[name]) == ids
        assert {label: found[name][label] for label in ids[:2]} == shipped[name]
        assert (negative >= found[name]["own"]).mean() <= policy.max_lawful_flagged
        assert found[name]["own"] < 0.9
