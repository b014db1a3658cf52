"""Decisions on disk, comparisons of them by slice, and gates: what is worse is named, and fails."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from fineline import cli
from fineline.errors import ConfigError
from fineline.taxonomy import load_taxonomy
from fineline_eval.compare import Outcome, compare
from fineline_eval.decisions import FILE, decide, read_decisions, write_decisions
from fineline_eval.gates import Floors, check_gates, load_gates, read_floors, record_floors
from fineline_eval.measures import report_measures
from fineline_eval.metrics import FUNCTIONS, Metric, cluster_counts, difference_with_interval
from fineline_eval.report import write_report

IDS = load_taxonomy().ids
LAWFUL = dict.fromkeys(IDS, 0)
GATES = load_gates()
WORD = "zebrawhisper"


@pytest.fixture
def part(row):
    """400 rows in 100 frames, half of them insults; flags are the truth unless told otherwise for some rows."""

    def make(wrong=(), name="authored", rows=400, lost=()):
        records = [
            row(
                f"{WORD} {i}",
                labels=LAWFUL | ({"insult": 1} if i % 2 else {}),
                lang="zh" if i % 3 else "en",
                meta={"act": "insult" if i % 2 else "political", "frame": f"f{i // 4}"},
            )
            for i in range(rows)
        ]
        truth = np.array([r.unlawful for r in records])
        flagged = truth.copy()
        flagged[list(wrong)] = ~truth[list(wrong)]
        reached = np.zeros((rows, len(IDS)), dtype=np.bool_)
        reached[:, IDS.index("insult")] = flagged
        reached[:, [IDS.index(label) for label in lost]] = False
        return decide(
            name,
            records,
            truth=truth,
            flagged=flagged,
            reached=reached,
            clusters=[r.meta["frame"] for r in records],
            slices=[r.meta["act"] for r in records],
        )

    return make


def outcomes(old, new):
    found = compare({"authored": old}, {"authored": new}, GATES)
    return {d.measure: d.outcome for d in found.differences}


# --- decisions


def test_decisions_are_read_as_they_were_written_and_hold_no_text(part, tmp_path):
    given = [part(wrong=[1, 2]), part(name="cold", rows=7)]
    write_decisions(given, tmp_path / FILE)
    found = read_decisions(tmp_path)
    assert list(found) == ["authored", "cold"]
    for one, other in zip(given, found.values(), strict=True):
        for field in ("keys", "clusters", "slices", "langs", "truth", "flagged"):
            assert np.array_equal(getattr(one, field), getattr(other, field)), field
        for label in IDS:
            assert all(np.array_equal(a, b) for a, b in zip(one.labels[label], other.labels[label], strict=True))
    assert WORD.encode() not in (tmp_path / FILE).read_bytes()
    assert list(read_decisions(tmp_path / "report.json")) == list(found), "a report stands for the file beside it"


def test_equal_rows_of_a_part_have_keys_of_their_own(row):
    rows = [row("same")] * 3 + [row("same", context="why")]
    none = np.zeros(4, dtype=np.bool_)
    reached = np.zeros((4, len(IDS)), dtype=np.bool_)
    found = decide("x", rows, truth=none, flagged=none, reached=reached, clusters=[""] * 4, slices=[""] * 4)
    assert len(set(found.keys.tolist())) == 4
    assert len(set(found.clusters.tolist())) == 4, "rows without a cluster stand alone"


@pytest.mark.parametrize(("content", "code"), [(None, "decisions_missing"), (b"PAR1 cut", "decisions_syntax")])
def test_missing_and_truncated_decisions_are_refused(tmp_path, content, code):
    if content is not None:
        (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_decisions(tmp_path)
    assert caught.value.code == code
    assert "fineline eval" in caught.value.message


# --- comparison


def test_the_same_decisions_are_undecided_everywhere(part):
    assert set(outcomes(part(), part()).values()) == {Outcome.UNDECIDED}


def test_more_lawful_text_flagged_is_worse_and_less_is_better(part):
    wrong = range(0, 60, 2)
    worse, better = outcomes(part(), part(wrong)), outcomes(part(wrong), part())
    for measure in ("authored/all/lawful_flagged", "authored/slice=political/lawful_flagged"):
        assert (worse[measure], better[measure]) == (Outcome.WORSE, Outcome.BETTER)
    assert worse["authored/all/recall"] is Outcome.UNDECIDED
    assert worse["authored/all/macro_f1"] is Outcome.WORSE


def test_missed_text_is_worse_for_its_label(part):
    found = outcomes(part(), part(range(1, 80, 2)))
    assert found["authored/label=insult/recall"] is Outcome.WORSE
    assert not any("privacy" in measure for measure in found), "no row holds it, so nothing is said of it"


def test_one_row_does_not_decide_and_neither_do_few(part):
    assert set(outcomes(part(), part([0])).values()) == {Outcome.UNDECIDED}
    assert set(outcomes(part(rows=20), part(range(20), rows=20)).values()) == {Outcome.UNDECIDED}


def test_rows_are_matched_by_their_content_and_not_by_their_place(part):
    old, new = part(range(0, 60, 2)), part(range(0, 60, 2), rows=300)
    order = np.random.default_rng(1).permutation(len(new.keys))
    shuffled = replace(
        new,
        **{field: getattr(new, field)[order] for field in ("keys", "clusters", "slices", "langs", "truth", "flagged")},
        labels={label: tuple(column[order] for column in columns) for label, columns in new.labels.items()},
    )
    found = compare({"authored": old}, {"authored": shuffled}, GATES)
    assert (found.matched, found.unmatched) == (300, 100)
    assert all(d.change == 0 for d in found.differences)


def test_a_part_of_the_old_side_alone_is_named(part):
    found = compare({"authored": part(), "cold": part(name="cold")}, {"authored": part()}, GATES)
    assert found.absent == ("cold",)


def test_sides_without_a_common_row_are_refused(part):
    with pytest.raises(ConfigError) as caught:
        compare({"authored": part()}, {"cold": part(name="cold")}, GATES)
    assert caught.value.code == "compare_rows"


def test_the_paired_interval_is_narrower_than_the_unpaired_spread(rng):
    truth = np.ones(500, dtype=np.bool_)
    old = rng.random(500) < 0.5
    new = old | (rng.random(500) < 0.05)
    clusters = [str(i) for i in range(500)]
    before, after = (cluster_counts(truth, flags, clusters) for flags in (old, new))
    change = difference_with_interval(FUNCTIONS["recall"], before, after)
    assert change.value == pytest.approx(new.mean() - old.mean(), abs=1e-4)
    assert 0 < change.low < change.value < change.high < 0.06


# --- gates


@pytest.fixture
def floors(report, tmp_path):
    return record_floors(report_measures(report), GATES, model="m", policy="p", path=tmp_path / "floors.json")


def failing(report, floors):
    return {failure.measure for failure in check_gates(report_measures(report), load_gates(), floors)}


def test_floors_are_the_worse_ends_of_the_recorded_intervals(report, floors, tmp_path):
    assert floors.floors["authored/all/lawful_flagged"] == report.authored.lawful_flagged.high
    label = report.authored.labels[0]
    assert floors.floors[f"authored/label={label.label}/recall"] == label.recall.low
    assert "authored/all/pairs_right" not in floors.floors, "no gate names it"
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
    (failure,) = (f for f in check_gates(measures, GATES, lax) if f.gate == "refusals")
    assert failure.bound == 0.05
    assert "is 0.0600, bound 0.0500" in str(failure)


def test_a_gate_that_guards_nothing_is_a_failure():
    empty = Floors(model="m", policy="p", floors={})
    assert {failure.gate for failure in check_gates({}, GATES, empty)} == {gate.name for gate in GATES.gate}


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


# --- the commands


def run(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["fineline", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def evaluated(report, part, tmp_path, monkeypatch):
    """Two folders as ``fineline eval`` leaves them, and floors recorded from the first."""
    monkeypatch.setenv("COLUMNS", "200")

    def make(name, wrong=()):
        write_report(report, tmp_path / name / "report.json")
        write_decisions([part(wrong)], tmp_path / name / FILE)
        return tmp_path / name

    record_floors(report_measures(report), GATES, model="m", policy="p", path=tmp_path / "floors.json")
    return make


def test_compare_fails_when_a_gated_slice_is_worse_and_passes_when_none_is(evaluated, monkeypatch, capsys):
    old, worse = evaluated("old"), evaluated("worse", range(0, 60, 2))
    # The toy report itself is beyond limits and lacks parts; only what the comparison adds is looked at here.
    floors = ("--floors", old.parent / "floors.json")
    assert run(monkeypatch, "compare", old, worse, *floors) == 1
    printed, told = capsys.readouterr()
    assert "failed: political speech: authored/slice=political/lawful_flagged 0.0000 to 0.1500, change +0.1500" in told
    assert "worse" in printed
    run(monkeypatch, "compare", worse, old, *floors)
    printed, told = capsys.readouterr()
    assert "better" in printed
    assert ", change " not in told


def test_gates_command_records_and_checks(report, tmp_path, monkeypatch, capsys):
    write_report(report, tmp_path / "report.json")
    floors = tmp_path / "recorded.json"
    assert run(monkeypatch, "gates", tmp_path, "--record", "--floors", floors) == 0
    assert "floors recorded" in capsys.readouterr().out
    worse = replace(report.authored, lawful_flagged=replace(report.authored.lawful_flagged, value=0.999))
    write_report(replace(report, authored=worse), tmp_path / "report.json")
    assert run(monkeypatch, "gates", tmp_path, "--floors", floors) == 1
    assert "failed: over-blocking: authored/all/lawful_flagged is 0.9990" in capsys.readouterr().err
