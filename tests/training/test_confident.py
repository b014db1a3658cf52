"""Confident learning on a set whose errors are known, because they were put in."""

import numpy as np
import pytest

from fineline_training.labels.confident import cross_predict, rank_doubts, too_few


def flipped_set(rng, rows=600, share=0.15, positive=0.3):
    truth = (rng.random(rows) < positive).astype(np.int8)
    features = rng.normal(size=(rows, 20)).astype(np.float32)
    features[:, :5] += 1.2 * (2 * truth[:, None] - 1)
    flipped = np.zeros(rows, dtype=bool)
    flipped[rng.permutation(rows)[: int(share * rows)]] = True
    return features, np.where(flipped, 1 - truth, truth).astype(np.int8), flipped


def test_flipped_labels_rank_high(rng):
    features, given, flipped = flipped_set(rng)
    doubts = rank_doubts(given, cross_predict(features, given))
    first = [doubt.row for doubt in doubts[: len(given) // 5]]
    # A fifth of the rows at random would hold a fifth of the errors.
    assert flipped[first].sum() >= 0.8 * flipped.sum()
    issues = [doubt.row for doubt in doubts if doubt.issue]
    assert len(issues) < 0.3 * len(given) and flipped[issues].mean() > 0.7


def test_missed_cases_of_a_rare_label_rank_high_too(rng):
    features, given, _ = flipped_set(rng, share=0.0, positive=0.1)
    missed, invented = np.flatnonzero(given == 1)[:10], np.flatnonzero(given == 0)[:10]
    given[missed], given[invented] = 0, 1
    first = {doubt.row for doubt in rank_doubts(given, cross_predict(features, given))[: len(given) // 10]}
    assert len(first & set(missed)) >= 8 and len(first & set(invented)) >= 8


def test_a_clean_set_is_left_alone(rng):
    features, given, _ = flipped_set(rng, share=0.0)
    features[:, :5] *= 3
    assert sum(doubt.issue for doubt in rank_doubts(given, cross_predict(features, given))) < 0.02 * len(given)


def test_no_row_is_predicted_by_a_model_that_saw_it(rng):
    # Labels by the toss of a coin: a model that saw a row's label would believe it.
    features = rng.normal(size=(400, 200)).astype(np.float32)
    given = (rng.random(400) < 0.5).astype(np.int8)
    probabilities = cross_predict(features, given)
    assert np.mean((probabilities > 0.5) == given) == pytest.approx(0.5, abs=0.08)


def test_the_seed_decides_the_folds(rng):
    features, given, _ = flipped_set(rng, rows=100)
    assert (cross_predict(features, given, seed=1) == cross_predict(features, given, seed=1)).all()
    assert (cross_predict(features, given, seed=1) != cross_predict(features, given, seed=2)).any()
    assert (cross_predict(features, given, folds=2) != cross_predict(features, given)).any()


def test_a_class_of_few_rows_is_not_ranked():
    assert too_few([1] * 9 + [0] * 90) and too_few([0] * 50) and not too_few([1] * 10 + [0] * 10)
