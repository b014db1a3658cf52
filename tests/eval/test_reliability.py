"""Reliability: calibration error, Brier score, bins, and the curve of risk over coverage."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from fineline.config import build
from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_eval.reliability import (
    COVERAGES,
    ReliabilityReport,
    calibration_error,
    evaluate_reliability,
    reliability_bins,
    reliability_of,
    risk_coverage,
    sureness,
)

IDS = load_taxonomy().ids
LAWFUL = dict.fromkeys(IDS, 0)
THRESHOLDS = dict.fromkeys(IDS, 0.5)


@pytest.mark.parametrize(
    ("probabilities", "truth", "expected"),
    [
        ([0.25] * 4, [True, False, False, False], 0.0),
        ([1.0, 1.0], [True, True], 0.0),
        ([0.0, 1.0], [True, False], 1.0),
        ([0.95, 0.05], [False, True], 0.95),
        ([0.62, 0.62, 0.12, 0.12], [True, True, False, False], 0.25),
        ([0.8, 0.8, 0.8, 0.1], [True, False, False, False], 0.375),
        # 0.31 and 0.39 share a bin, and errors inside a bin even out; 0.29 and 0.31 do not.
        ([0.31, 0.39], [True, False], 0.15),
        ([0.29, 0.31], [True, False], 0.51),
    ],
)
def test_calibration_error_on_known_cases(probabilities, truth, expected):
    assert calibration_error(np.array(probabilities), np.array(truth)) == pytest.approx(expected, abs=1e-4)


def test_calibration_error_without_rows_is_not_defined():
    assert math.isnan(calibration_error(np.zeros(0), np.zeros(0, dtype=bool)))


def test_bins_hold_every_row_once_and_leave_out_the_empty():
    probabilities = np.array([0.0, 0.05, 0.1, 0.95, 1.0])
    found = reliability_bins(probabilities, np.array([False, True, True, True, True]))
    assert [(part.start, part.n, part.observed) for part in found] == [(0, 2, 0.5), (0.1, 1, 1), (0.9, 2, 1)]
    assert [part.predicted for part in found] == pytest.approx([0.025, 0.1, 0.975])


def test_the_brier_score_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    probabilities, truth = rng.random(200), rng.random(200) < 0.3
    found = reliability_of("x", probabilities, truth, [""] * 200)
    assert found.brier.value == pytest.approx(brier_score_loss(truth, probabilities), abs=1e-4)
    assert found.brier.low < found.brier.value < found.brier.high
    assert (found.n, found.positives, found.brier.n) == (200, int(truth.sum()), 200)


# --- risk and coverage


def test_sureness_is_the_distance_to_the_nearest_threshold_in_log_odds():
    probabilities = np.array([[0.5, 0.1], [0.9, 0.1], [0.1, 0.1], [0.1, 0.75]])
    found = sureness(probabilities, np.array([0.5, 0.75]))
    assert found == pytest.approx([0, math.log(9), math.log(9), 0], abs=1e-9)


def test_a_label_that_cannot_be_reached_does_not_count():
    probabilities = np.array([[0.4, 0.0], [0.1, 0.0]])
    with_it, without = (
        sureness(probabilities, np.array([0.5, math.inf])),
        sureness(probabilities[:, :1], np.array([0.5])),
    )
    assert with_it == pytest.approx(without)


def test_risk_falls_where_the_sure_are_right():
    sure, wrong = np.arange(100.0), np.arange(100) < 20
    curve, area = risk_coverage(sure, wrong, [""] * 100)
    risks = {point.coverage: point.risk for point in curve}
    assert tuple(risks) == COVERAGES
    assert (risks[0.5].value, risks[0.8].value, risks[1.0].value) == (0, 0, 0.2)
    assert (risks[0.5].n, risks[1.0].n) == (50, 100)
    worst = risk_coverage(-sure, wrong, [""] * 100)[1]
    assert area < 0.03 < 0.4 < worst


def test_the_area_is_the_mean_risk_over_all_coverages():
    _, area = risk_coverage(np.array([3.0, 1.0, 2.0]), np.array([False, True, True]), [""] * 3)
    assert area == pytest.approx((0 + 1 / 2 + 2 / 3) / 3, abs=1e-4)


# --- the whole


@pytest.fixture
def judge(row):
    """Rows as (labels, language, frame, probability of insult); evaluates them."""

    def evaluate(*given):
        rows = [row(labels=labels, lang=lang, meta={"frame": frame}) for labels, lang, frame, _ in given]
        probabilities = np.zeros((len(rows), len(IDS)))
        probabilities[:, IDS.index("insult")] = [entry[-1] for entry in given]
        return evaluate_reliability(rows, probabilities, (probabilities >= 0.5).any(axis=1), THRESHOLDS)

    return evaluate


def test_labels_and_languages_are_judged_apart_and_unknown_labels_not_at_all(judge):
    insult = {"insult": 1}
    found = judge((LAWFUL, "en", "a", 0.2), (LAWFUL | insult, "en", "b", 1.0), (insult, "zh", "c", 0.4))
    labels = {part.name: part for part in found.labels}
    langs = {part.name: part for part in found.langs}
    assert (labels["insult"].n, labels["insult"].positives, labels["privacy"].n) == (3, 2, 2)
    assert labels["insult"].calibration_error == pytest.approx((0.2 + 0 + 0.6) / 3, abs=1e-4)
    assert (langs["en"].n, langs["zh"].n, found.overall.n) == (2 * len(IDS), 1, 2 * len(IDS) + 1)
    assert langs["zh"].brier.value == pytest.approx(0.36)
    # Only labels with a positive row count in the mean.
    assert found.calibration_error == labels["insult"].calibration_error
    assert found.curve[-1].risk.value == pytest.approx(1 / 3, abs=1e-4)


def test_a_label_that_no_row_knows_is_not_defined(judge):
    found = judge(({"insult": 0}, "en", "a", 0.2))
    privacy = next(part for part in found.labels if part.name == "privacy")
    assert (privacy.n, privacy.bins) == (0, ())
    assert math.isnan(privacy.calibration_error)
    assert math.isnan(privacy.brier.value)
    assert math.isnan(found.calibration_error)


def test_no_row_is_refused_in_a_sentence():
    with pytest.raises(DataError) as caught:
        evaluate_reliability([], np.zeros((0, len(IDS))), np.zeros(0, dtype=bool), THRESHOLDS)
    assert caught.value.code == "reliability_rows"


def test_the_result_survives_a_file(judge):
    found = judge(*[(LAWFUL | {label: 1}, "en", label, 0.7) for label in IDS])
    assert build(ReliabilityReport, json.loads(json.dumps(asdict(found))), "report") == found
