"""The report: what is written is what is read, and anything else is refused with a code."""

import json
import math
from dataclasses import replace

import pytest

from fineline.errors import ConfigError
from fineline_eval.metrics import Metric
from fineline_eval.report import REPORT_SCHEMA, read_report, write_report

NAN = float("nan")
UNDEFINED = Metric(value=NAN, low=NAN, high=NAN, n=40)


def reread(report, tmp_path):
    write_report(report, tmp_path / "report.json")
    return read_report(tmp_path / "report.json")


def refused(path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_report(path)
    assert path.name in caught.value.message
    return caught.value


@pytest.fixture
def raw(report, tmp_path):
    """The report as plain JSON data."""
    write_report(report, tmp_path / "raw.json")
    return json.loads((tmp_path / "raw.json").read_text())


def test_a_report_is_read_as_it_was_written(report, tmp_path):
    assert reread(report, tmp_path) == report


def test_undefined_numbers_survive_and_the_file_is_strict_json(report, tmp_path):
    labels = (replace(report.authored.labels[0], precision=UNDEFINED, average_precision=NAN, calibration_error=NAN),)
    authored = replace(report.authored, labels=labels, macro_f1_labels=NAN, pairs_right=UNDEFINED)
    value_only = Metric(value=0.5, low=NAN, high=NAN, n=1)
    suites = (replace(report.suites[0], lawful_flagged=value_only), *report.suites[1:])
    given = replace(report, authored=authored, suites=suites)
    found = reread(given, tmp_path)
    assert repr(found) == repr(given)  # NaN is not equal to itself, its text is
    assert math.isnan(found.authored.labels[0].precision.value)
    text = (tmp_path / "report.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_absent_parts_stay_absent(report, tmp_path):
    found = reread(report, tmp_path)
    assert found.suites[1].lawful_flagged is None
    assert found.suites[1].lawful_flagged_floors is None


def test_the_manifest_is_kept_as_the_bundle_has_it(report, tmp_path):
    manifest = {"recipe": {"cap": None, "list": [1, None, {"a": None}]}, "low": None, "b": True}
    assert reread(replace(report, manifest=manifest), tmp_path).manifest == manifest


def test_the_same_report_gives_the_same_bytes(report, tmp_path):
    write_report(report, tmp_path / "a.json")
    write_report(read_report(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_other_scripts_are_written_readably(report, tmp_path):
    given = replace(report, policy="政策")
    assert reread(given, tmp_path).policy == "政策"
    assert "政策" in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_a_folder_stands_for_the_report_in_it(report, tmp_path):
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path) == report


def test_a_missing_file_says_which_command_makes_it(tmp_path):
    error = refused(tmp_path / "none.json")
    assert error.code == "report_missing"
    assert "fineline eval" in error.message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(report, tmp_path, share):
    path = tmp_path / "report.json"
    write_report(report, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refused(path).code == "report_syntax"


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "report.json").write_bytes(b'{"schema": "\xff\xfe"}')
    assert refused(tmp_path / "report.json").code == "report_syntax"


@pytest.mark.parametrize("content", [{}, [], "1", None, {"schema": REPORT_SCHEMA + 1}, {"schema": str(REPORT_SCHEMA)}])
def test_another_schema_is_refused(tmp_path, content):
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert refused(tmp_path / "report.json").code == "report_schema"


def damage(raw: dict, kind: str) -> None:
    if kind == "top":
        raw["extra"] = 1
    elif kind == "nested":
        raw["authored"]["labels"][0]["f1"]["extra"] = 1
    elif kind == "gone":
        del raw["speed"]
    elif kind == "gone inside":
        del raw["suites"][0]["floors"]["ngrams"]["f1"]["n"]
    elif kind == "no manifest":
        del raw["manifest"]
    elif kind == "null":
        raw["authored"]["n"] = None
    else:
        raw["authored"]["n"] = "many"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("top", "config_unknown_key"),
        ("nested", "config_unknown_key"),
        ("gone", "config_missing_key"),
        ("gone inside", "config_missing_key"),
        ("no manifest", "config_missing_key"),
        ("null", "config_missing_key"),
        ("type", "config_type"),
    ],
)
def test_keys_and_types_are_checked_to_the_bottom(raw, tmp_path, kind, code):
    damage(raw, kind)
    (tmp_path / "report.json").write_text(json.dumps(raw))
    assert refused(tmp_path / "report.json").code == code
