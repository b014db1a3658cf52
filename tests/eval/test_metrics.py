"""Metrics: equal to scikit-learn's, undefined where they are, and intervals over clusters."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from fineline_eval.metrics import FUNCTIONS, Metric, cluster_counts, mean, metrics_of, share, with_interval

COUNTS = st.tuples(*[st.integers(0, 40)] * 4)
ROWS = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.sampled_from(["", "a", "b", "c", "d"])), min_size=1, max_size=40
)


def arrays(tp: int, fp: int, fn: int, tn: int) -> tuple[np.ndarray, np.ndarray]:
    truth = np.repeat([True, False, True, False], [tp, fp, fn, tn])
    return truth, np.repeat([True, True, False, False], [tp, fp, fn, tn])


def value(name: str, counts: tuple[int, ...]) -> float:
    return float(FUNCTIONS[name](np.array(counts, dtype=float)))


def split(rows: list[tuple[bool, bool, str]]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    truth, flagged, clusters = zip(*rows, strict=True)
    return np.array(truth), np.array(flagged), list(clusters)


def undefined(metric: Metric) -> bool:
    return all(math.isnan(number) for number in (metric.value, metric.low, metric.high))


# --- values


@given(COUNTS.filter(any))
@settings(max_examples=100, deadline=None)
def test_metrics_are_those_of_scikit_learn(counts):
    truth, flagged = arrays(*counts)
    options = {"zero_division": np.nan}
    per_class = f1_score(truth, flagged, average=None, labels=[False, True], **options)
    expected = {
        "accuracy": accuracy_score(truth, flagged),
        "precision": precision_score(truth, flagged, **options),
        "recall": recall_score(truth, flagged, **options),
        "lawful_flagged": 1 - recall_score(truth, flagged, pos_label=False, **options),
        "f1": per_class[1],
        "macro_f1": per_class.mean(),
    }
    if not np.isnan(per_class).any():
        expected["weighted_f1"] = f1_score(truth, flagged, average="weighted", **options)
    assert {name: value(name, counts) for name in expected} == pytest.approx(expected, nan_ok=True)


@given(ROWS)
@settings(max_examples=50, deadline=None)
def test_cluster_counts_add_up_to_the_confusion_matrix(rows):
    truth, flagged, clusters = split(rows)
    counts = cluster_counts(truth, flagged, clusters)
    (tn, fp), (fn, tp) = confusion_matrix(truth, flagged, labels=[False, True])
    assert counts.sum(axis=0).tolist() == [tp, fp, fn, tn]
    assert len(counts) == len({name for name in clusters if name}) + clusters.count("")


def test_rows_of_one_cluster_share_a_line_and_unnamed_rows_stand_alone():
    truth = np.array([True, True, False, False])
    flagged = np.array([True, False, True, False])
    counts = cluster_counts(truth, flagged, ["a", "", "a", ""])
    assert sorted(counts.tolist()) == [[0, 0, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0]]


def test_share_is_the_share_of_hits():
    found = share(np.array([True, False, False, False]), [""] * 4)
    assert (found.value, found.n) == (0.25, 4)


# --- what is not defined


@pytest.mark.parametrize(
    ("counts", "names"),
    [
        ((0, 0, 0, 0), set(FUNCTIONS)),
        ((0, 0, 0, 9), {"recall", "precision", "f1", "macro_f1", "weighted_f1"}),
        ((9, 0, 0, 0), {"lawful_flagged", "macro_f1", "weighted_f1"}),
        ((0, 5, 0, 4), {"recall"}),
        ((0, 0, 5, 4), {"precision"}),
    ],
)
def test_a_metric_without_the_class_it_needs_is_nan(counts, names):
    truth, flagged = arrays(*counts)
    found = metrics_of(truth, flagged, [""] * len(truth), tuple(FUNCTIONS))
    assert {name for name, metric in found.items() if math.isnan(metric.value)} == names
    assert all(undefined(found[name]) for name in names)
    assert all(found[name].n == 0 for name in names & {"recall", "precision", "lawful_flagged"})


def test_n_counts_the_rows_a_metric_is_about():
    truth, flagged = arrays(3, 5, 7, 11)
    found = metrics_of(truth, flagged, ["a"] * 13 + ["b"] * 13, tuple(FUNCTIONS))
    about = {"recall": 10, "precision": 8, "lawful_flagged": 16}
    assert {name: metric.n for name, metric in found.items()} == dict.fromkeys(FUNCTIONS, 26) | about


def test_no_row_at_all_gives_nan_and_zero_rows():
    found = share(np.zeros(0, dtype=bool), [])
    assert undefined(found)
    assert found.n == 0


def test_a_resample_without_the_class_is_left_out_of_the_interval():
    # Two positive rows in twenty, one of them found: a resample without either says nothing about recall.
    truth, flagged = np.arange(20) < 2, np.arange(20) < 1
    found = metrics_of(truth, flagged, [""] * 20, ("recall",))["recall"]
    assert (found.value, found.low, found.high) == (0.5, 0, 1)


def test_one_cluster_alone_gives_no_interval():
    found = share(np.array([True, False, False]), ["a"] * 3)
    assert (found.value, found.n) == (0.3333, 3)
    assert math.isnan(found.low) and math.isnan(found.high)


# --- intervals


@given(ROWS)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_the_interval_contains_the_value(rows):
    for metric in metrics_of(*split(rows), tuple(FUNCTIONS)).values():
        if math.isnan(metric.value):
            assert undefined(metric)
        else:
            assert not metric.low > metric.value and not metric.high < metric.value
            assert math.isnan(metric.low) or 0 <= metric.low <= metric.high <= 1


@pytest.mark.parametrize("rows", [1, 5, 73, 339])
def test_no_hit_and_no_miss_get_the_exact_bound_instead_of_certainty(rows):
    none, every = share(np.zeros(rows, dtype=bool), [""] * rows), share(np.ones(rows, dtype=bool), [""] * rows)
    exact = binomtest(0, rows).proportion_ci(0.95, method="exact")
    assert (none.value, none.low, none.high) == (0, 0, pytest.approx(exact.high, abs=1e-4))
    assert (every.value, every.low, every.high) == (1, pytest.approx(1 - exact.high, abs=1e-4), 1)


def test_the_exact_bound_counts_clusters_that_hold_rows_of_the_kind():
    # Five clusters, of which two hold a flagged row: both are found, each by four rows.
    truth = np.arange(20) < 8
    clusters = [str(index // 4) for index in range(20)]
    found = metrics_of(truth, truth, clusters, ("recall", "lawful_flagged", "accuracy"))
    for name, trials in (("recall", 2), ("lawful_flagged", 3), ("accuracy", 5)):
        reach = binomtest(0, trials).proportion_ci(0.95, method="exact").high
        metric = found[name]
        assert metric.high - metric.low == pytest.approx(reach, abs=1e-4), name


def test_a_mean_of_zero_is_no_share_without_a_hit():
    found = mean(np.zeros(40), [""] * 40)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_interval_has_the_width_that_theory_gives():
    hits = np.arange(400) < 100
    found = share(hits, [""] * 400)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    assert (found.low, found.high) == pytest.approx((0.25 - half, 0.25 + half), abs=0.006)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_clusters_whose_rows_agree_give_wider_intervals(name):
    rng = np.random.default_rng(3)
    truth = np.repeat(rng.random(60) < 0.5, 8)
    flagged = np.repeat(rng.random(60) < 0.5, 8)
    clusters = [str(index // 8) for index in range(len(truth))]
    alone, together = (metrics_of(truth, flagged, names, (name,))[name] for names in ([""] * len(truth), clusters))
    assert alone.value == together.value
    # Eight rows that agree are worth one: theory says sqrt(8) = 2.8 times as wide.
    assert 2 < (together.high - together.low) / (alone.high - alone.low) < 4


def test_more_rows_give_a_narrower_interval():
    few, many = (share(np.tile([True, False], n), [""] * 2 * n) for n in (20, 500))
    assert many.high - many.low < (few.high - few.low) / 3


def test_the_same_rows_give_the_same_interval():
    rng = np.random.default_rng(5)
    truth, flagged = rng.random((2, 50)) < 0.5
    clusters = [f"c{index // 3}" for index in range(50)]
    first = metrics_of(truth, flagged, clusters, tuple(FUNCTIONS))
    assert metrics_of(truth, flagged, clusters, tuple(FUNCTIONS)) == first
    order = rng.permutation(50)
    assert metrics_of(truth[order], flagged[order], [clusters[i] for i in order], tuple(FUNCTIONS)) == first


def test_values_have_four_decimals():
    found = with_interval(FUNCTIONS["recall"], np.array([[1.0, 0, 2, 0], [2.0, 0, 5, 0]]))
    assert found.value == 0.3
    assert share(np.array([True, False, False]), [""] * 3).value == 0.3333


def test_mean_is_that_of_the_values_and_may_be_negative():
    values = np.random.default_rng(4).normal(-0.5, 1, size=900)
    found = mean(values, [""] * 900)
    assert found.value == pytest.approx(values.mean(), abs=1e-4)
    assert found.n == 900
    half = 1.96 / math.sqrt(900)
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)
