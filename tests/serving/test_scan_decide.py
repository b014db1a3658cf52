"""Decisions from stored scores: the classifier's own, under any policy, never of two rules at once."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from fineline import Classifier, ConfigError, InputError
from fineline.scan.decide import decide, read_decided, read_rule
from fineline.scan.store import Store


@pytest.fixture
def scan(make_scan, rows):
    return make_scan(rows)


def found(scan, name):
    store = Store(scan.output)
    return [row for _, table in read_decided(store, read_rule(store, name)) for row in table.to_pylist()]


@pytest.mark.parametrize("policy", ["cn_measures", "international", "minors"])
def test_decisions_are_the_verdicts(scan, policy):
    done = decide(scan.output, policy=policy, bundle=scan.bundle.path)
    good = [(i, row["text"]) for i, row in enumerate(scan.rows) if isinstance(row.get("text"), str)]
    classifier = Classifier.load(scan.bundle.path, policy=policy, threads=1)
    verdicts = classifier.classify([text for _, text in good])
    decisions = found(scan, policy)
    assert [row["row"] for row in decisions] == [place for place, _ in good]
    places = set()
    for decision, verdict, (_, text) in zip(decisions, verdicts, good, strict=True):
        assert decision["flagged"] == list(verdict.flagged)
        assert decision["action"] == verdict.action
        if not verdict.flagged:
            assert decision["start"] is decision["end"] is None
            continue
        scores = {(window.start, window.end): window.scores[verdict.flagged[0]] for window in verdict.windows}
        # A repeated text has equal windows; which of them is higher by rounding depends on the batch.
        assert scores[decision["start"], decision["end"]] == pytest.approx(max(scores.values()), abs=1e-5)
        places.add(decision["end"] - decision["start"] < len(text))
    assert places == {True, False}, "some flagged text has one window, some more"
    assert done.documents == len(good)
    assert done.actions == {a: sum(v.action == a for v in verdicts) for a in ("allow", "review", "block")}
    assert sum(done.flagged.values()) == sum(len(v.flagged) for v in verdicts)


def test_other_thresholds_need_no_new_scores(scan):
    stored = {path: path.read_bytes() for path in scan.folder.rglob("*") if path.is_file()}
    decide(scan.output, bundle=scan.bundle.path)
    usual = found(scan, "cn_measures")
    label = max(scan.bundle.meta.labels, key=lambda x: sum(x in row["flagged"] for row in usual))
    decide(scan.output, bundle=scan.bundle.path, thresholds={label: 0.9999999}, name="lenient")
    lenient = found(scan, "lenient")
    assert any(label in row["flagged"] for row in usual)
    assert [[x for x in row["flagged"] if x != label] for row in usual] == [row["flagged"] for row in lenient]
    assert read_rule(Store(scan.output), "lenient").changed == (label,)
    assert all(path.read_bytes() == content for path, content in stored.items())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"thresholds": {"violence": 0.123}}, "decision_name"),
        ({"thresholds": {"violence": 0.123}, "name": "minors"}, "decision_name"),
        ({"thresholds": {"violence": 0.123}, "name": "../up"}, "decision_name"),
        ({"thresholds": {"violence": 1.5}, "name": "mine"}, "threshold_value"),
        ({"thresholds": {"rudeness": 0.5}, "name": "mine"}, "threshold_label"),
    ],
)
def test_bad_arguments_are_refused(scan, arguments, code):
    with pytest.raises(InputError) as caught:
        decide(scan.output, bundle=scan.bundle.path, **arguments)
    assert caught.value.code == code
    assert not (scan.folder / "decisions").exists()


def test_an_unknown_policy_is_refused(scan):
    with pytest.raises(ConfigError):
        decide(scan.output, bundle=scan.bundle.path, policy="strict")


def test_the_bundle_must_be_the_one_that_scored(scan, tiny_bundle):
    with pytest.raises(InputError) as caught:
        decide(scan.output, bundle=tiny_bundle)
    assert caught.value.code == "decide_bundle"


def test_a_scan_must_be_there_and_finished(make_scan, rows, tmp_path):
    scan = make_scan(rows, complete=False)
    for output, code in ((scan.output, "output_incomplete"), (str(tmp_path / "none"), "output_missing")):
        with pytest.raises(InputError) as caught:
            decide(output, bundle=scan.bundle.path)
        assert caught.value.code == code


def test_decisions_of_two_rules_are_not_mixed(scan):
    decide(scan.output, bundle=scan.bundle.path, thresholds={"violence": 0.2}, name="mine")
    part = scan.folder / "decisions/mine/part-00001.parquet"
    old = part.read_bytes()
    decide(scan.output, bundle=scan.bundle.path, thresholds={"violence": 0.3}, name="mine")
    assert pq.read_table(part).num_rows
    part.write_bytes(old)  # as a run that was killed on the way back to the first rule leaves it
    with pytest.raises(InputError) as caught:
        found(scan, "mine")
    assert caught.value.code == "decisions_damaged"
    part.unlink()
    with pytest.raises(InputError) as caught:
        found(scan, "mine")
    assert caught.value.code == "decisions_damaged"


def test_decisions_are_the_same_each_time(scan):
    def stored():
        return {path.name: path.read_bytes() for path in (scan.folder / "decisions").rglob("*") if path.is_file()}

    decide(scan.output, bundle=scan.bundle.path)
    first = stored()
    decide(scan.output, bundle=scan.bundle.path)
    assert stored() == first
    assert len(first) == 1 + len(list((scan.folder / "scores").iterdir()))


def test_a_part_without_documents_is_decided(make_scan):
    scan = make_scan([{"text": 7}] * 16 + [{"text": "never report help"}])
    assert decide(scan.output, bundle=scan.bundle.path).documents == 1
    assert [row["row"] for row in found(scan, "cn_measures")] == [16]


def test_the_order_of_flags_is_that_of_the_scores(scan):
    decide(scan.output, bundle=scan.bundle.path, policy="minors")
    assert max(len(row["flagged"]) for row in found(scan, "minors")) > 1
    assert np.unique([len(row["flagged"]) for row in found(scan, "minors")]).size > 2
