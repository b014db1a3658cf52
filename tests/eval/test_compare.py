"""Decisions on disk and comparisons of them by slice, and the commands on them: what is worse is named, and fails."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from fineline import cli
from fineline.errors import ConfigError
from fineline.taxonomy import load_taxonomy
from fineline_eval.compare import Comparison, Difference, Outcome, beyond_chance, compare, gated
from fineline_eval.decisions import FILE, decide, origin, read_decisions, write_decisions
from fineline_eval.gates import (
    load_gates,
    read_floors,
    write_floors,
)
from fineline_eval.metrics import FUNCTIONS, cluster_counts, difference_with_interval
from fineline_eval.report import write_report

IDS = load_taxonomy().ids
LAWFUL = dict.fromkeys(IDS, 0)
GATES = load_gates()
WORD = "zebrawhisper"
ORIGIN = "m@1 cn_measures ab"


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
    write_decisions(given, tmp_path / FILE, ORIGIN)
    found = read_decisions(tmp_path, ORIGIN)
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


def test_decisions_of_another_evaluation_than_the_report_are_refused(part, tmp_path):
    write_decisions([part(rows=4)], tmp_path / FILE, ORIGIN)
    for model, policy, weights, digest in (
        ("m@2", "cn_measures", "ab", ""),
        ("m@1", "minors", "ab", ""),
        ("m@1", "cn_measures", "cd", ""),
        ("m@1", "cn_measures", "ab", "other thresholds"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_decisions(tmp_path, origin(model, policy, {"model.onnx": weights}, digest))
        assert caught.value.code == "decisions_other"
        assert ORIGIN in caught.value.message and "fineline eval" in caught.value.message


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


@pytest.mark.parametrize("old_has_it", [True, False])
def test_a_part_of_one_side_alone_is_refused_by_name(part, old_has_it):
    more, fewer = {"authored": part(), "cold": part(name="cold")}, {"authored": part()}
    with pytest.raises(ConfigError) as caught:
        compare(*((more, fewer) if old_has_it else (fewer, more)), GATES)
    assert caught.value.code == "compare_parts"
    assert f"cold ({'old' if old_has_it else 'new'} side only)" in caught.value.message


def test_sides_without_a_common_row_are_refused(part):
    other = part()
    with pytest.raises(ConfigError) as caught:
        compare({"authored": part()}, {"authored": replace(other, keys=other.keys + np.uint64(1))}, GATES)
    assert caught.value.code == "compare_rows"


def test_a_part_that_lost_more_than_a_tenth_of_its_rows_is_named(part):
    old = {"authored": part()}
    assert compare(old, {"authored": part(rows=360)}, GATES).thin == ()
    assert compare(old, {"authored": part(rows=359)}, GATES).thin == ("authored",)


def test_a_label_that_no_row_of_the_new_side_holds_is_named(part):
    old, new = part(), part()
    known, positive, reached = new.labels["insult"]
    without = {label: columns for label, columns in new.labels.items() if label != "insult"}
    for labels in (without, without | {"insult": (known, np.zeros_like(positive), reached)}):
        found = compare({"authored": old}, {"authored": replace(new, labels=labels)}, GATES)
        assert found.lost == ("authored/label=insult",)
    assert compare({"authored": old}, {"authored": new}, GATES).lost == ()


@pytest.mark.parametrize(("frames", "outcome"), [(5, Outcome.UNDECIDED), (6, Outcome.WORSE)])
def test_five_changed_clusters_decide_nothing_though_their_interval_leaves_zero_out(part, frames, outcome):
    found = compare({"authored": part()}, {"authored": part(range(0, 4 * frames, 4))}, GATES)
    (flagged,) = (d for d in found.differences if d.measure == "authored/all/lawful_flagged")
    assert flagged.low > 0
    assert flagged.outcome is outcome


def test_what_looks_worse_fails_only_beyond_chance(part):
    """Six frames of a hundred look worse, but among ten measures one does so by chance; sixteen do not."""
    same = {name: part(name=name) for name in ("cold", "edos")}
    for frames, fails in ((6, False), (16, True)):
        found = compare({"authored": part(), **same}, {"authored": part(range(0, 4 * frames, 4)), **same}, GATES)
        assert len(gated(found)) == 10
        worse = {d.measure for d in gated(found) if d.outcome is Outcome.WORSE}
        assert "authored/slice=political/lawful_flagged" in worse
        failed = {d.measure for d in beyond_chance(found)}
        assert failed <= worse
        assert ("authored/slice=political/lawful_flagged" in failed) is fails


def noise(rng, measures=100):
    """A comparison of equally good models: changes by chance alone, half of the measures without a gate."""
    changes = rng.normal(0, 0.01, 2 * measures)
    return Comparison(
        differences=tuple(
            Difference(
                measure=f"m{i}/all/lawful_flagged",
                n=100,
                old=0.1,
                new=0.1 + change,
                change=change,
                low=change - 0.0196,
                high=change + 0.0196,
                outcome=Outcome.WORSE if change > 0.0196 else Outcome.UNDECIDED,
                gate="over-blocking" if i % 2 else "",
            )
            for i, change in enumerate(changes)
        ),
        thin=(),
        lost=(),
        matched=1,
        unmatched=0,
    )


def test_equally_good_models_seldom_fail_however_many_measures_are_gated(rng):
    found = [noise(rng) for _ in range(200)]
    look_worse = sum(any(d.outcome is Outcome.WORSE for d in gated(one)) for one in found)
    assert look_worse > 150, "by their own intervals nearly all comparisons would fail"
    assert 0 < sum(bool(beyond_chance(one)) for one in found) <= 12


def test_two_models_that_differ_by_noise_pass(part, rng):
    one, other = (part(np.flatnonzero(rng.random(400) < 0.1)) for _ in range(2))
    assert beyond_chance(compare({"authored": one}, {"authored": other}, GATES)) == ()


def test_the_paired_interval_is_narrower_than_the_unpaired_spread(rng):
    truth = np.ones(500, dtype=np.bool_)
    old = rng.random(500) < 0.5
    new = old | (rng.random(500) < 0.05)
    clusters = [str(i) for i in range(500)]
    before, after = (cluster_counts(truth, flags, clusters) for flags in (old, new))
    change = difference_with_interval(FUNCTIONS["recall"], before, after)
    assert change.value == pytest.approx(new.mean() - old.mean(), abs=1e-4)
    assert 0 < change.low < change.value < change.high < 0.06


# --- the commands


def run(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["fineline", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.fixture
def evaluated(report, floors, part, tmp_path, monkeypatch):
    """Two folders as ``fineline eval`` leaves them, and floors recorded from the first."""
    monkeypatch.setenv("COLUMNS", "200")

    def make(name, wrong=()):
        write_report(report, tmp_path / name / "report.json")
        parts = [part(wrong), part(name="cold"), part(name="edos")]
        write_decisions(parts, tmp_path / name / FILE, origin(report.model, report.policy, report.files, report.digest))
        return tmp_path / name

    write_floors(floors, tmp_path / "floors.json")
    return make


def test_compare_fails_when_a_gated_slice_is_worse_and_passes_when_none_is(evaluated, monkeypatch, capsys):
    old, worse = evaluated("old"), evaluated("worse", range(0, 60, 2))
    # The toy report itself is beyond limits and lacks parts; only what the comparison adds is looked at here.
    floors = ("--floors", old.parent / "floors.json")
    assert run(monkeypatch, "compare", old, worse, *floors) == 1
    printed, told = capsys.readouterr()
    assert "failed: political speech: authored/slice=political/lawful_flagged 0.0000 to 0.1500, change +0.1500" in told
    assert "political speech: fails" in printed
    assert "gated measures; between equally good models" in printed
    run(monkeypatch, "compare", worse, old, *floors)
    printed, told = capsys.readouterr()
    assert "better" in printed
    assert ", change " not in told


def test_compare_can_leave_out_what_one_side_did_not_judge(evaluated, report, part, monkeypatch, capsys, tmp_path):
    old, new = evaluated("old"), evaluated("new", range(0, 60, 2))
    write_decisions(
        [part(range(0, 60, 2))], new / FILE, origin(report.model, report.policy, report.files, report.digest)
    )
    floors = ("--floors", old.parent / "floors.json")
    assert run(monkeypatch, "compare", old, new, *floors) == 1
    assert "Judged by one side only" in capsys.readouterr().err
    assert run(monkeypatch, "compare", old, new, *floors, "--shared", "--json", tmp_path / "found.json") == 1
    printed, told = capsys.readouterr()
    assert "left out: cold, edos" in printed
    assert "was not measured" not in told
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["left_out"] == ["cold", "edos"]
    assert [f"failed: {failure}" for failure in found["failures"]] == told.splitlines()
    assert any(d["measure"] == "authored/slice=political/lawful_flagged" for d in found["differences"])


def test_compare_of_shared_parts_fails_on_no_bound_that_both_sides_miss(evaluated, monkeypatch, capsys):
    old, same = evaluated("old"), evaluated("same")
    files = ("--floors", old.parent / "floors.json")
    assert run(monkeypatch, "compare", old, same, *files) == 1
    assert "edos/all/macro_f1 is 0.7250, bound 0.7260" in capsys.readouterr().err
    assert run(monkeypatch, "compare", old, same, *files, "--shared") == 0
    assert capsys.readouterr().err == ""


def test_compare_names_what_only_looks_worse_and_does_not_fail_on_it(evaluated, monkeypatch, capsys):
    old, new = evaluated("old"), evaluated("new", range(0, 24, 4))
    run(monkeypatch, "compare", old, new, "--floors", old.parent / "floors.json")
    printed, told = capsys.readouterr()
    assert "political speech: not beyond chance" in printed
    assert ", change " not in told


def test_compare_refuses_other_policies_and_decisions_of_other_evaluations(evaluated, report, monkeypatch, capsys):
    old, new = evaluated("old"), evaluated("new")
    write_report(replace(report, policy="minors"), new / "report.json")
    assert run(monkeypatch, "compare", old, new, "--floors", old.parent / "floors.json") > 0
    assert "Policies differ: cn_measures, minors" in capsys.readouterr().err
    write_report(replace(report, model="other@1"), new / "report.json")
    assert run(monkeypatch, "compare", old, new, "--floors", old.parent / "floors.json") > 0
    assert "the report beside it is of 'other@1 cn_measures" in " ".join(capsys.readouterr().err.split())


def test_gates_command_records_and_checks(report, tmp_path, monkeypatch, capsys):
    write_report(report, tmp_path / "report.json")
    floors = tmp_path / "recorded.json"
    assert run(monkeypatch, "gates", tmp_path, "--record", "--floors", floors) == 0
    assert "floors recorded" in capsys.readouterr().out
    worse = replace(report.authored, lawful_flagged=replace(report.authored.lawful_flagged, value=0.999))
    write_report(replace(report, authored=worse), tmp_path / "report.json")
    assert run(monkeypatch, "gates", tmp_path, "--floors", floors) == 1
    assert "failed: over-blocking: authored/all/lawful_flagged is 0.9990" in capsys.readouterr().err


def test_recording_again_loosens_no_floor_unless_told(report, tmp_path, monkeypatch, capsys):
    file, name = tmp_path / "recorded.json", "authored/all/lawful_flagged"

    def record(high, *options):
        lawful = replace(report.authored.lawful_flagged, high=high)
        changed = replace(report, authored=replace(report.authored, lawful_flagged=lawful))
        write_report(changed, tmp_path / "report.json")
        assert run(monkeypatch, "gates", tmp_path, "--record", "--floors", file, *options) == 0
        return read_floors(file).floors[name], capsys.readouterr().err

    assert record(0.5) == (0.5, "")
    floor, told = record(0.6)
    assert floor == 0.5
    assert f"stricter floor kept: {name} 0.5000, in this report 0.6" in told
    assert record(0.4) == (0.4, "")
    assert record(0.6, "--loosen") == (0.6, "")


def test_loosen_without_record_is_refused(report, tmp_path, monkeypatch, capsys):
    write_report(report, tmp_path / "report.json")
    assert run(monkeypatch, "gates", tmp_path, "--loosen") == 2
    assert "--record" in capsys.readouterr().err
