"""The benchmark of suggestions: rows that judge are not rows to choose from, and the gain is paired by draw."""

import random

import numpy as np
import pytest

from suggest_bench import JUDGED, POOL, _deal, _precision, _summary


@pytest.mark.parametrize("prevalence", [0.05, 0.3])
@pytest.mark.parametrize(("rows", "share"), [(1999, 0.24), (6000, 0.5)])
def test_pools_have_their_share_and_leave_the_judging_rows_alone(rows, share, prevalence):
    flagged = np.random.default_rng(0).random(rows) < share
    pool, judged = _deal(flagged, prevalence, random.Random(1))
    assert len(judged) == JUDGED
    assert not set(pool) & set(judged)
    assert len(set(pool)) == len(pool) <= POOL
    assert flagged[pool].mean() == pytest.approx(prevalence, abs=0.002)
    assert flagged[judged].mean() == pytest.approx(flagged.mean(), abs=0.05)
    assert _deal(flagged, prevalence, random.Random(2))[0] != pool


def test_precision_is_what_the_rows_teach():
    flagged = np.arange(400) % 4 == 0
    features = np.stack([flagged + 0.1 * np.sin(np.arange(400)), np.cos(np.arange(400))], axis=1).astype(np.float32)
    judged = list(range(200, 400))
    assert _precision(features, flagged, list(range(100)), judged) > 0.99
    assert _precision(features, flagged, list(range(0, 200, 4)), judged) == pytest.approx(0.25), (
        "one class teaches nothing"
    )


def test_the_gain_is_paired_by_draw():
    draws = [
        {
            "seed": seed,
            "flagged": {"suggest": 0.4, "random": 0.2},
            "average_precision": {"suggest": base + 0.02 + seed / 1000, "random": base},
        }
        for seed in range(5)
        for base in (0.3, 0.9)
    ]
    found = _summary(draws)
    assert found["draws"] == 10
    assert found["gain"]["mean"] == pytest.approx(0.022)
    assert 0.02 <= found["gain"]["low"] < found["gain"]["mean"] < found["gain"]["high"] <= 0.024
    assert found["flagged"] == {"suggest": pytest.approx(0.4), "random": pytest.approx(0.2)}
