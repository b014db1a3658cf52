"""An import from files to the store: the report says what became of every row, and the rest is imported."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fineline.errors import DataError
from fineline.files import sha256_of
from fineline.taxonomy import load_taxonomy
from fineline_training.commands.labels import app
from fineline_training.labels.importing import ImportOptions, import_files
from fineline_training.labels.reading import ReadOptions
from fineline_training.labels.store import LabelStore
from fineline_training.labels.team_gates import GateOutcome, Placed
from fineline_training.records import Refusal

SPAM = replace(load_taxonomy()["insult"], id="spam", action="review", group="own", overlaps=())
RIGHTS = {"licence": "own work", "basis": "contract"}


def passing(rows: Sequence[Placed]) -> GateOutcome:
    return GateOutcome(rows=tuple(rows), dropped=(), report={"checked": len(rows)})


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore.open(tmp_path / "store", create=True)


def run(store: LabelStore, *paths: Path, gates: Any = passing, **options: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"rights": RIGHTS, "own": (SPAM,), "read": ReadOptions(annotator="ann"), **options}
    done = import_files(store, paths, ImportOptions(**values), gates)
    assert json.loads(done.path.read_text()) | done.record == json.loads(done.path.read_text())
    return done.record


def test_record_says_what_an_audit_asks(tmp_path: Path, store: LabelStore) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"text": "one", "labels": {"spam": 1}, "lang": "en"},
        {"text": "two", "labels": {"spam": 0}, "lang": "zh"},
        {"text": "three", "labels": {"nothing": 0}},
    )
    record = run(store, path, collected_by="the team")
    assert record["files"] == [
        {
            "name": "a.jsonl",
            "sha256": sha256_of(path),
            "read_as": "a table",
            "rows": 3,
            "refused": 1,
            "unanswered": 0,
            "recovered": 0,
        }
    ]
    assert (record["licence"], record["basis"], record["collected_by"]) == ("own work", "contract", "the team")
    assert record["languages"] == {"en": 1, "zh": 1}
    assert record["labels"] == {"spam": {"positive": 1, "negative": 1, "disputed": 0}}
    assert record["annotators"] == {"ann": 2}
    assert record["refusals"] == [{"file": "a.jsonl", "line": 3, "reason": record["refusals"][0]["reason"]}]
    assert record["gates"] == {"checked": 2}
    assert list(record["own_labels"]) == ["spam"]
    assert [row.text for row in LabelStore.open(store.path).rows()] == ["one", "two"]
    assert "one" not in json.dumps(record["refusals"])


def test_annotators_of_several_files_meet_on_one_row(tmp_path: Path, store: LabelStore) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "one", "labels": {"spam": 1}}, {"text": "two", "labels": {"spam": 1}})
    run(store, path)
    record = run(store, lines(path, {"text": "one", "labels": {"spam": 0}}), read=ReadOptions(annotator="bob"))
    assert (record["new"], record["votes_added"], record["rows_of_store"]) == (0, 1, 2)
    assert record["labels"]["spam"] == {"positive": 0, "negative": 0, "disputed": 1}
    assert store.rows()[0].votes == {"ann": {"spam": 1}, "bob": {"spam": 0}}


def test_same_file_again_changes_nothing_but_leaves_its_record(tmp_path: Path, store: LabelStore) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "one", "labels": {"spam": 1}})
    run(store, path)
    before = store.digest()
    record = run(store, path)
    assert (record["new"], record["repeated"]) == (0, 1)
    assert store.digest() == before
    assert len(store.imports()) == 2


def test_two_files_with_the_same_ids(tmp_path: Path, store: LabelStore) -> None:
    first = lines(tmp_path / "a.jsonl", {"id": "1", "text": "one", "labels": {"spam": 1}})
    (tmp_path / "b").mkdir()
    second = lines(
        tmp_path / "b" / "a.jsonl",
        {"id": "1", "text": "one", "labels": {"spam": 1}},
        {"id": "1", "text": "other", "labels": {"spam": 1}},
    )
    record = run(store, first, second)
    assert (record["new"], record["repeated"]) == (1, 1)
    (refusal,) = record["refusals"]
    assert (refusal["file"], refusal["line"], refusal["other"]) == (str(second), 2, f"{first} line 1")


def test_empty_class_unused_label_and_new_definition_are_warned_of(tmp_path: Path, store: LabelStore) -> None:
    record = run(store, lines(tmp_path / "a.jsonl", {"text": "one", "labels": {"insult": 0}}))
    assert record["warnings"] == [
        "empty class: no row of the store says 1 for insult; add such rows",
        "no row of the store knows spam",
    ]
    anew = replace(SPAM, definition="Narrower.")
    record = run(store, lines(tmp_path / "b.jsonl", {"text": "two", "labels": {"insult": 1, "spam": 1}}), own=(anew,))
    assert record["warnings"] == [
        "empty class: no row of the store says 0 for spam; add such rows",
        "defined anew: spam; earlier rows were labelled by the old definition",
    ]


def test_rows_that_a_gate_drops_are_refusals(tmp_path: Path, store: LabelStore) -> None:
    def dropping(rows: Sequence[Placed]) -> GateOutcome:
        return GateOutcome(rows=tuple(rows[1:]), dropped=(Refusal(rows[0].file, rows[0].line, "leak"),), report={})

    path = lines(tmp_path / "a.jsonl", {"text": "one", "labels": {"spam": 1}}, {"text": "two", "labels": {"spam": 0}})
    record = run(store, path, gates=dropping)
    assert (record["new"], record["refused"], record["files"][0]["refused"]) == (1, {"leak": 1}, 1)


def test_gate_that_stops_leaves_nothing_behind(tmp_path: Path, store: LabelStore) -> None:
    def stopping(rows: Sequence[Placed]) -> GateOutcome:
        raise DataError("personal_data", "a.jsonl: line 1 holds personal data.")

    with pytest.raises(DataError):
        run(store, lines(tmp_path / "a.jsonl", {"text": "one", "labels": {"spam": 1}}), gates=stopping)
    assert not store.path.exists()


def test_every_kind_of_bad_input_at_once_leaves_the_rest(tmp_path: Path, store: LabelStore) -> None:
    good = lines(tmp_path / "good.jsonl", *({"text": f"row {n}", "labels": {"spam": n % 2}} for n in range(6)))
    table = tmp_path / "b.csv"
    with table.open("w", encoding="gb18030", newline="") as stream:
        rows = [
            ["text", "spam"],
            ["他说要是你不把钱还给我，我就去你的公司找你", "1"],
            ["too", "many", "cells"],
            ["row 0", "1"],
        ]
        csv.writer(stream).writerows(rows)
    (tmp_path / "half.parquet").write_bytes(b"PAR1" + b"\0" * 99)
    record = run(store, good, table, tmp_path / "half.parquet")
    assert record["new"] == 6
    places = [(part["file"], part["line"]) for part in record["refusals"]]
    assert places == [("b.csv", 3), ("b.csv", 4), ("good.jsonl", 1), ("half.parquet", 0)]
    assert record["files"][1]["recovered"] == 1


def test_command_prints_the_report_and_says_by_its_exit_that_rows_were_refused(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"text": "buy cheap watches here", "tag": "bad"},
        {"text": "SECRET", "tag": "what"},
        {"text": "see you at lunch", "tag": "fine"},
    )
    (tmp_path / "map.toml").write_text('labels = "tag"\nknown = ["insult"]\n[names]\nbad = ["insult"]\nfine = []\n')
    words = ["import", str(path), "--store", str(tmp_path / "store"), "--mapping", str(tmp_path / "map.toml")]
    words += ["--licence", "own work", "--basis", "contract", "--annotator", "ann"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "refused, 1: entry 1 of the labels" in result.output and "a.jsonl line 2" in result.output
    assert "2 new rows" in result.output
    assert "SECRET" not in result.output
    lines(path, {"text": "see you at lunch", "tag": "fine"})
    assert CliRunner().invoke(app, words).exit_code == 0
    assert {row.id: row.votes for row in LabelStore.open(tmp_path / "store").rows()}.popitem()[1] == {
        "ann": {"insult": 0}
    }


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--licence", "unknown", "--basis", "contract"], "licence_missing"),
        (["--licence", "MIT", "--basis", " "], "basis_missing"),
        (["--licence", "MIT", "--basis", "contract", "--format", "xml"], "import_format"),
        (["--licence", "MIT", "--basis", "contract", "--personal", "keep"], "import_personal"),
        (["--licence", "MIT", "--basis", "contract", "--known", "nothing"], "import_map_label"),
    ],
)
def test_command_refuses_before_it_writes(tmp_path: Path, options: list[str], code: str) -> None:
    path = lines(tmp_path / "a.jsonl", {"text": "t", "labels": {"insult": 1}})
    result = CliRunner().invoke(app, ["import", str(path), "--store", str(tmp_path / "store"), *options])
    assert getattr(result.exception, "code", "") == code
    assert not (tmp_path / "store").exists()
