"""Kept and dropped sets: every row once, whole, in order, and only for the files that were scanned."""

import json

import pytest

from fineline import Action, Classifier, InputError
from fineline.scan.decide import decide
from fineline.scan.filtering import REASON, filter_rows


@pytest.fixture
def scan(make_scan, rows):
    scan = make_scan(rows, files=2)
    decide(scan.output, bundle=scan.bundle.path)
    return scan


def read(folder, file):
    return [json.loads(line) for line in (folder / f"part{file}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("drop", [Action.REVIEW, Action.BLOCK])
def test_each_row_is_kept_or_dropped_with_its_columns_and_its_reason(scan, drop):
    done = filter_rows(scan.output, drop=drop)
    classifier = Classifier.load(scan.bundle.path, threads=1)
    reasons = set()
    for file in range(2):
        kept, dropped = (read(scan.folder / name, file) for name in ("kept", "dropped"))
        expected_kept, expected_dropped = [], []
        for row in scan.rows[file::2]:
            if not isinstance(row.get("text"), str):
                expected_dropped.append(row)
                continue
            verdict = classifier.classify([row["text"]])[0]
            gone = verdict.action == Action.BLOCK or (verdict.action == Action.REVIEW and drop == Action.REVIEW)
            (expected_dropped if gone else expected_kept).append(row)
        assert kept == expected_kept
        assert [{name: value for name, value in row.items() if name != REASON} for row in dropped] == expected_dropped
        reasons |= {row[REASON].split(":")[0] for row in dropped}
        for row in dropped:
            if isinstance(row.get("text"), str):
                verdict = classifier.classify([row["text"]])[0]
                assert row[REASON] == f"{verdict.action}: {', '.join(verdict.flagged)}"
    assert {"block", "not judged"} <= reasons <= {"block", "not judged", *([str(drop)])}
    assert done.kept + done.dropped == len(scan.rows)
    assert done.unreadable == 0


def test_a_line_that_is_no_json_is_counted_and_not_written(make_scan, rows):
    scan = make_scan(rows[:5])
    source = scan.source / "part0.jsonl"
    with source.open("a") as file:
        file.write("{not json\n")
    with pytest.raises(InputError, match="other rows"):
        decide(scan.output, bundle=scan.bundle.path)
        filter_rows(scan.output)


@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_inputs_that_changed_are_refused(scan, change):
    source = scan.source / "part1.jsonl"
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    source.write_text("".join([*lines, lines[0]] if change == "longer" else lines[:-1]), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        filter_rows(scan.output)
    assert caught.value.code == "inputs_changed"


def test_inputs_may_have_been_moved(scan, tmp_path):
    scan.source.rename(tmp_path / "moved")
    with pytest.raises(InputError):
        filter_rows(scan.output)
    done = filter_rows(scan.output, inputs=str(tmp_path / "moved"))
    assert done.kept + done.dropped == len(scan.rows)
    (tmp_path / "moved/part0.jsonl").write_text('{"text": "other"}\n')
    with pytest.raises(InputError) as caught:
        filter_rows(scan.output, inputs=str(tmp_path / "moved"))
    assert caught.value.code == "inputs_changed"


def test_dropping_what_is_allowed_is_refused(scan):
    with pytest.raises(InputError):
        filter_rows(scan.output, drop=Action.ALLOW)
