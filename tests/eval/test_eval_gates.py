"""Gates: a measure beyond its floor or limit fails by name, and floors hold what shipped."""

import math
from dataclasses import replace

import pytest

from fineline.errors import ConfigError
from fineline_eval.card.failures import load_failure_modes
from fineline_eval.gates import (
    Floors,
    check_gates,
    excused,
    load_gates,
    loosened,
    read_floors,
    record_floors,
    write_floors,
)
from fineline_eval.measures import report_measures
from fineline_eval.metrics import Metric

GATES = load_gates()


def failing(report, floors):
    return {failure.measure for failure in check_gates(report_measures(report), GATES, floors, policy=report.policy)}


def test_floors_are_the_worse_ends_of_the_recorded_intervals(report, floors, tmp_path):
    assert floors.floors["authored/all/lawful_flagged"] == report.authored.lawful_flagged.high
    label = report.authored.labels[0]
    assert floors.floors[f"authored/label={label.label}/recall"] == label.recall.low
    assert "authored/all/pairs_right" not in floors.floors, "no gate names it"
    write_floors(floors, tmp_path / "floors.json")
    assert read_floors(tmp_path / "floors.json") == floors


def test_a_measure_beyond_its_floor_fails_by_name_and_at_it_passes(report, floors):
    def with_flagged(value):
        metric = replace(report.authored.lawful_flagged, value=value)
        return replace(report, authored=replace(report.authored, lawful_flagged=metric))

    floor = floors.floors["authored/all/lawful_flagged"]
    name = "authored/all/lawful_flagged"
    assert name not in failing(with_flagged(floor), floors)
    assert name in failing(with_flagged(floor + 0.0002), floors)


def test_a_lost_label_and_a_suite_not_judged_fail_by_name(report, floors):
    fewer = replace(report.authored, labels=report.authored.labels[1:])
    label = report.authored.labels[0].label
    assert f"authored/label={label}/recall" in failing(replace(report, authored=fewer), floors)
    assert "cold/slice=anti_bias/lawful_flagged" in failing(replace(report, suites=()), floors)


def test_the_cap_on_refusals_holds_whatever_shipped_before(report):
    high = Metric(value=0.06, low=0.05, high=0.07, n=600)
    measures = {"should_not_refuse/all/lawful_flagged": high}
    lax = Floors(model="m", policy="p", floors={"should_not_refuse/all/lawful_flagged": 0.5})
    (failure,) = (f for f in check_gates(measures, GATES, lax, policy="p") if f.gate == "refusals")
    assert failure.bound == 0.05
    assert "is 0.0600, bound 0.0500" in str(failure)


def test_a_gate_that_guards_nothing_is_a_failure():
    empty = Floors(model="m", policy="p", floors={})
    assert {failure.gate for failure in check_gates({}, GATES, empty, policy="p")} == {gate.name for gate in GATES.gate}


def test_floors_of_another_policy_are_refused(report, floors):
    with pytest.raises(ConfigError) as caught:
        failing(replace(report, policy="minors"), floors)
    assert caught.value.code == "gates_policy"
    with pytest.raises(ConfigError):
        loosened(floors, replace(floors, policy="minors"), GATES)


def test_a_measure_with_a_limit_must_be_measured():
    name, nan = "parity/all/golden_gap", float("nan")
    measures = {name: Metric(value=nan, low=nan, high=nan, n=0)}
    found = check_gates(measures, GATES, Floors(model="m", policy="p", floors={}), policy="p")
    assert [str(f) for f in found if f.measure == name] == [f"golden scores: {name} was not measured, bound 0.7500"]


@pytest.mark.parametrize(
    ("old", "new", "excused_is"),
    [
        (0.050, 0.050, True),
        (0.050, 0.051, True),  # within the slack
        (0.050, 0.300, False),  # worse than the side that missed the bound before
        (0.001, 0.050, False),  # only the new side misses it
        (0.050, None, False),  # measured before, and not now
        (None, None, True),
        (None, 0.050, False),
    ],
)
def test_a_shared_comparison_excuses_what_the_old_side_missed_as_far(old, new, excused_is):
    name, floors = "calibration/all/brier", Floors(model="m", policy="p", floors={"calibration/all/brier": 0.01})
    before, after = (
        {name: Metric(value=value, low=math.nan, high=math.nan, n=90)} if value is not None else {}
        for value in (old, new)
    )
    missed, beyond = (
        [f for f in check_gates(side, GATES, floors, policy="p") if f.measure == name] for side in (before, after)
    )
    assert [excused(failure, before, missed, GATES) for failure in beyond] == [excused_is]


def test_a_measure_of_few_rows_gets_no_floor_that_would_hold_nothing():
    names = ["evasion/slice=digits,latin/recall", "long/slice=20000,latin,end/recall", "calibration/all/brier"]
    few, many = (Metric(value=0.9, low=0.6, high=1.0, n=n) for n in (9, 90))
    plain = Metric(value=0.1, low=math.nan, high=math.nan, n=0)
    measured = dict(zip(names, (many, few, plain), strict=True))
    assert record_floors(measured, GATES, model="m", policy="p").floors == {names[0]: 0.6, names[2]: 0.1}


def test_the_endpoint_must_decide_as_python_in_every_text():
    name = "parity/lang=en/http_same"
    for value, failures in ((1.0, 0), (0.9, 1)):
        measured = {name: Metric(value=value, low=0.7, high=1.0, n=10)}
        found = check_gates(measured, GATES, Floors(model="m", policy="p", floors={name: 0.7}), policy="p")
        assert len([f for f in found if f.measure == name]) == failures


def test_a_suite_of_one_verdict_has_no_macro_f1(report):
    lawful = next(suite for suite in report.suites if suite.id == "vihos")
    nothing = replace(lawful.metrics["recall"], n=0)
    suite = replace(lawful, metrics=dict(lawful.metrics) | {"recall": nothing})
    names = report_measures(replace(report, suites=(suite,)))
    assert "vihos/all/lawful_flagged" in names and "vihos/all/macro_f1" not in names


def test_laxer_and_lost_floors_are_found_and_stricter_ones_are_not(floors):
    lawful, recall = "authored/all/lawful_flagged", "cold/all/macro_f1"
    assert {lawful, recall} <= set(floors.floors)

    def moved(by):
        """``by`` added to a metric that should be low, taken from one that should be high."""
        return replace(
            floors,
            floors=floors.floors | {lawful: floors.floors[lawful] + by, recall: floors.floors[recall] - by},
        )

    assert loosened(floors, floors, GATES) == {}
    assert loosened(floors, moved(-0.001), GATES) == {}
    assert loosened(floors, moved(0.001), GATES) == {name: floors.floors[name] for name in (lawful, recall)}
    gone = replace(floors, floors={name: floor for name, floor in floors.floors.items() if name != lawful})
    assert loosened(floors, gone, GATES) == {lawful: floors.floors[lawful]}
    ungated = replace(floors, floors=floors.floors | {"old/all/measure": 0.5})
    assert loosened(ungated, floors, GATES) == {}, "no gate names it any more"


def test_the_direction_of_every_measure_is_told(report):
    assert not set(GATES.lower_is_better) & set(GATES.higher_is_better)
    for name in (*report_measures(report), *(mode.measure for mode in load_failure_modes())):
        GATES.is_lower_better(name)
    with pytest.raises(ConfigError) as caught:
        GATES.is_lower_better("authored/all/curve_area")
    assert caught.value.code == "gates_metric"
    assert "curve_area" in caught.value.message


@pytest.mark.parametrize(("content", "code"), [(None, "floors_missing"), ('{"model": "m"', "floors_syntax")])
def test_missing_and_truncated_floors_are_refused(tmp_path, content, code):
    if content:
        (tmp_path / "floors.json").write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_floors(tmp_path / "floors.json")
    assert caught.value.code == code


def test_the_gates_the_project_promises_are_there(report):
    gated = {gate.name for gate in GATES.gate}
    assert {"over-blocking", "political speech", "bias gaps", "label recall", "parity"} <= gated
    measures = report_measures(report)
    for name in ("authored/lang=en/lawful_flagged", "identity/grounds/lawful_gap", "parity/lang=en/same_flags"):
        assert name in measures and GATES.of(name) is not None, name


def test_a_floor_of_a_share_of_rows_leaves_room_for_chance(report):
    measures = report_measures(report)
    name = next(name for name in measures if name.endswith("same_flags") and measures[name].value < 1)
    floors = record_floors(measures, GATES, model="m", policy="p").floors
    assert measures[name].value - 0.1 < floors[name] < measures[name].value
