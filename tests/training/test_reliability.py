"""Alpha and kappa against hand-worked examples, the libraries, and a bootstrap that draws rows one by one."""

import krippendorff
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from fineline_training.labels.reliability import RESAMPLES, alpha, kappa

VOTES = st.lists(st.lists(st.sampled_from([None, 0, 1]), min_size=3, max_size=3), min_size=1, max_size=25)
PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def test_alpha_of_krippendorffs_own_example():
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", B: ten items, two observers, binary: 0.095.
    first = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0]
    second = [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    found = alpha(list(zip(first, second, strict=True)))
    assert found.value == pytest.approx(1 - (20 - 1) * 4 / (14 * 6))
    assert round(found.value, 3) == 0.095
    assert found.rows == 10


def test_alpha_worked_by_hand_with_missing_votes():
    # Rows 1,1,0 / 0,0 / 1 (left out): disagreement 2*1/2 = 1; 3 no, 2 yes, n = 5: 1 - 4 * 1 / 6.
    assert alpha([[1, 1, 0], [0, 0], [1]]).value == pytest.approx(1 / 3)
    assert alpha([[1, 1, 0], [0, 0], [1]]).rows == 2


def test_kappa_worked_by_hand():
    # 20 both yes, 15 both no, 5 and 10 differ: observed 0.7, chance 0.5, kappa 0.4 (Cohen's usual example).
    first = [1] * 20 + [1] * 5 + [0] * 10 + [0] * 15
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    found = kappa(first, second)
    assert found.value == pytest.approx(0.4)
    assert found.low < 0.4 < found.high
    # Fleiss, Cohen and Everitt 1969: the standard error is 0.127 here, so the interval is about 0.15 to 0.65.
    assert found.low == pytest.approx(0.15, abs=0.04) and found.high == pytest.approx(0.65, abs=0.04)


@given(VOTES)
def test_alpha_is_what_the_library_computes(rows):
    votes = [[vote for vote in row if vote is not None] for row in rows]
    paired = [vote for row in votes if len(row) > 1 for vote in row]
    found = alpha(votes)
    if len(set(paired)) < 2:
        assert found.value is None is found.low
        return
    table = np.array([[np.nan if vote is None else vote for vote in row] for row in rows]).T
    expected = krippendorff.alpha(table, level_of_measurement="nominal")
    assert found.value == pytest.approx(float(expected), abs=1e-12)


@given(PAIRS)
def test_kappa_is_what_the_library_computes(pairs):
    first, second = (list(part) for part in zip(*pairs, strict=True))
    found = kappa(first, second)
    if set(first) == set(second) and len(set(first)) == 1:
        assert found.value is None
    else:
        assert found.value == pytest.approx(float(cohen_kappa_score(first, second, labels=[0, 1])), abs=1e-12)


@given(PAIRS, st.integers(0, 3))
def test_an_interval_holds_its_value_and_depends_on_the_seed_alone(pairs, seed):
    assume(len({vote for pair in pairs for vote in pair}) == 2)
    found = alpha(pairs, seed)
    assert found == alpha(pairs[::-1], seed)
    assert -1 <= found.low <= found.high <= 1


def test_the_interval_is_that_of_a_bootstrap_over_rows(rng):
    truth = rng.random(300) < 0.3
    votes = [np.where(rng.random(300) < 0.15, ~truth, truth).astype(int) for _ in range(3)]
    rows = [list(row) for row in zip(*votes, strict=True)]
    table = np.array(votes)
    drawn = [
        krippendorff.alpha(table[:, rng.integers(300, size=300)], level_of_measurement="nominal")
        for _ in range(RESAMPLES // 2)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    found = alpha(rows)
    assert found.low == pytest.approx(low, abs=0.02) and found.high == pytest.approx(high, abs=0.02)
