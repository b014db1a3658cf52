"""``fineline scan`` on the command line: one command from corpus to report, and its subcommands."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline import cli
from fineline.errors import FinelineError, InputError


@pytest.fixture(scope="module")
def scanned(tiny_bundle, tmp_path_factory) -> Path:
    """A folder with ``in.jsonl`` and ``out``, made by one command."""
    folder = tmp_path_factory.mktemp("scan")
    rows = [{"text": f"tell anyone {i}", "lang": "en", "from": "forum"} for i in range(12)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    words = ["scan", folder / "in.jsonl", folder / "out", "--bundle", tiny_bundle, "--workers", 1, "--filter"]
    done = CliRunner().invoke(cli.app, [*map(str, words), "--lang-field", "lang", "--source-field", "from"])
    assert done.exit_code == 0, done.output
    assert "12 documents scored (0 exact duplicates), 1 rows rejected" in done.output
    return folder


def call(*words: object) -> str:
    done = CliRunner().invoke(cli.app, ["scan", *map(str, words)])
    if isinstance(done.exception, FinelineError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_one_command_scores_decides_filters_and_reports(scanned):
    out = scanned / "out"
    assert json.loads((out / "manifest.json").read_text())["counts"]["documents"] == 12
    assert json.loads((out / "report.json").read_text())["documents"] == 12
    assert (out / "report.html").is_file()
    assert (out / "decisions" / "cn_measures" / "part-00000.parquet").is_file()
    kept, dropped = (
        [json.loads(line) for path in (out / name).iterdir() for line in path.read_text().splitlines()]
        for name in ("kept", "dropped")
    )
    assert len(kept) + len(dropped) == 12
    assert all(row["from"] == "forum" for row in [*kept, *dropped])
    assert all("fineline_reason" in row for row in dropped)


def test_other_thresholds_need_no_scoring(scanned, tiny_bundle):
    out = scanned / "out"
    before = {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}
    call("decide", out, "--bundle", tiny_bundle, "--threshold", "insult=0.000001", "--name", "strict")
    rule = json.loads((out / "decisions" / "strict" / "decisions.json").read_text())
    assert rule["changed"] == ["insult"]
    call("report", out, "--decisions", "strict")
    assert json.loads((out / "report.json").read_text())["flagged"]["value"] == 1
    assert {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()} == before


def test_a_threshold_is_a_label_and_a_number(scanned, tiny_bundle):
    with pytest.raises(InputError, match=r"LABEL=0\.7"):
        call("decide", scanned / "out", "--bundle", tiny_bundle, "--threshold", "insult")


def test_a_sample_is_drawn_and_an_empty_sheet_is_refused(scanned):
    out = scanned / "out"
    call("sample", out, "--size", 5, "--share", "0.5")
    assert "tell anyone" in (out / "review_sheet.csv").read_text(encoding="utf-8-sig")
    with pytest.raises(InputError):
        call("assess", out / "review_sheet.csv")


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_lists_the_subcommands(words):
    done = CliRunner().invoke(cli.app, ["scan", *words])
    assert all(name in done.output for name in ("run", "decide", "report", "sample", "assess", "INPUT OUTPUT"))


def test_options_may_stand_before_the_input(scanned, tiny_bundle):
    words = ("--workers", 1, "--bundle", tiny_bundle, "--lang-field", "lang", "--source-field", "from", "--no-report")
    output = call(*words, scanned / "in.jsonl", scanned / "out")
    assert "1 of 1 shards were there" in output
