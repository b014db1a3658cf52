"""The build: every row is kept or counted once, contradictions are dropped, the gates stand at the end."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline.cli import main
from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_training import build as building
from fineline_training.build import build_dataset, contradicts, row_key
from fineline_training.commands.data import app
from fineline_training.leakage import EvaluationKeys
from fineline_training.records import Record, read_rows, write_rows
from fineline_training.sources import SourceFile
from fineline_training.sources import registry as registry_module
from fineline_training.sources.readers.base import READERS, Dropped
from fineline_training.sources.registry import Source, find_source

NOTHING = EvaluationKeys([])
GROUNDS = load_taxonomy().group("discrimination")


def row(
    text: str, source: str = "one", *, any_of: str = "", context: str | None = None, split: str = "train", **labels: int
) -> Record:
    meta = {"any_of": any_of} if any_of else {}
    return Record(text=text, context=context, lang="en", labels=labels, source=source, split=split, meta=meta)


MakeSource = Callable[..., Source]


@pytest.fixture
def make_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSource:
    """Register a made-up source whose file holds the rows given; the mirror is ``tmp_path``."""
    template, known = find_source("cold"), dict[str, Source]()
    monkeypatch.setattr(registry_module, "load_registry", lambda: known)

    def make(source_id: str, *rows: Record, kind: str = "labelled", drops: Sequence[str] = ()) -> Source:
        path = tmp_path / source_id / "rows.jsonl"
        write_rows(path, rows)
        file = SourceFile(
            name="rows.jsonl", upstream="rows.jsonl", sha256=hashlib.sha256(path.read_bytes()).hexdigest()
        )
        known[source_id] = replace(template, id=source_id, kind=kind, files=(file,))

        def read(folder: Path) -> Iterator[Record | Dropped]:
            yield from read_rows(folder / "rows.jsonl").records
            yield from (Dropped(reason) for reason in drops)

        monkeypatch.setitem(READERS, source_id, read)
        return known[source_id]

    return make


def test_every_row_is_kept_or_counted_with_its_reason(make_source: MakeSource, tmp_path: Path) -> None:
    make_source(
        "one",
        row("kept", insult=1),
        row("KEPT!", insult=1),
        row("call 13912345678", insult=0),
        row("in a suite", insult=0),
        row("fine", context="In a SUITE.", insult=0),
        row("knows nothing"),
        row("any", any_of="insult,violence"),
        row("dev row", split="dev", insult=0),
        row("test row", split="test", insult=0),
        drops=["too noisy", "too noisy"],
    )
    evaluation = NOTHING.with_texts(["In a suite"])
    dataset = build_dataset(["one"], tmp_path, evaluation=evaluation)
    (report,) = dataset.manifest.sources
    assert [record.text for record in dataset.records] == ["kept", "any", "dev row"]
    assert report.dropped == {
        building.DUPLICATE: 1,
        "holds a phone number": 1,
        building.LEAKED: 2,
        building.UNKNOWN: 1,
        "too noisy": 2,
    }
    assert report.read == 10 == report.kept + sum(report.dropped.values())
    assert report.splits == {"train": 2, "dev": 1}
    assert (report.labels["insult"].positive, report.labels["insult"].negative, report.any_of) == (1, 1, 1)
    assert report.unlawful_share == pytest.approx(2 / 3)
    assert [gate.gate for gate in dataset.manifest.gates] == [
        "licence",
        "provenance",
        "personal data",
        "leakage",
        "unlawful share",
    ]
    json.dumps(dataset.manifest.to_dict())


def test_contradicting_rows_are_dropped_on_both_sides(make_source: MakeSource, tmp_path: Path) -> None:
    make_source("one", row("same", insult=1), row("agrees", insult=1))
    make_source("two", row("Same.", "two", insult=0), row("agrees", "two", violence=1), row("own", "two", insult=0))
    dataset = build_dataset(["one", "two"], tmp_path, evaluation=NOTHING)
    assert [(record.source, record.text) for record in dataset.records] == [("one", "agrees"), ("two", "own")]
    one, two = dataset.manifest.sources
    assert one.dropped == {building.CONFLICT: 1}
    assert two.dropped == {building.CONFLICT: 1, building.DUPLICATE: 1}


def test_sources_asked_for_first_win(make_source: MakeSource, tmp_path: Path) -> None:
    make_source("one", row("same", insult=1))
    make_source("two", row("same", "two", insult=1))
    dataset = build_dataset(["two", "one", "two"], tmp_path, evaluation=NOTHING)
    assert [record.source for record in dataset.records] == ["two"]
    assert [report.id for report in dataset.manifest.sources] == ["two", "one"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (row("a", insult=1), row("a", insult=0), True),
        (row("a", insult=1), row("a", violence=0), False),
        (row("a", any_of="insult,violence"), row("a", insult=0, violence=0), True),
        (row("a", any_of="insult,violence"), row("a", insult=0), False),
        (row("a", any_of="insult,violence"), row("a", any_of="sexual"), False),
        (row("a"), row("a"), False),
    ],
)
def test_contradiction_is_symmetric(one: Record, other: Record, expected: bool) -> None:
    assert contradicts(one, other) is contradicts(other, one) is expected


def test_row_key_keeps_symbols_and_context_apart() -> None:
    assert row_key(row("I 🔪 them")) != row_key(row("I ❤ them"))
    assert row_key(row("sure", context="Lunch?")) != row_key(row("sure", context="Shall we rob it?"))
    assert row_key(row("Sure!", context="lunch")) == row_key(row("sure", context="Lunch?"))


def test_altered_file_stops_the_build(make_source: MakeSource, tmp_path: Path) -> None:
    make_source("one", row("a", insult=1))
    with (tmp_path / "one/rows.jsonl").open("a") as stream:
        stream.write("\n")
    for required in (True, False):
        with pytest.raises(DataError) as caught:
            build_dataset(["one"], tmp_path, required=required, evaluation=NOTHING)
        assert caught.value.code == "provenance_hash"


def test_missing_source_stops_or_is_named(make_source: MakeSource, tmp_path: Path) -> None:
    make_source("one", row("a", insult=1))
    make_source("two", row("b", "two", insult=1))
    (tmp_path / "two/rows.jsonl").unlink()
    with pytest.raises(DataError) as caught:
        build_dataset(["one", "two"], tmp_path, evaluation=NOTHING)
    assert caught.value.code == "provenance_missing"
    manifest = build_dataset(["one", "two"], tmp_path, required=False, evaluation=NOTHING).manifest
    assert ([report.id for report in manifest.sources], manifest.missing) == (["one"], ("two",))
    manifest = build_dataset(["one", "two"], None, required=False, evaluation=NOTHING).manifest
    assert (manifest.rows, manifest.missing) == (0, ("one", "two"))


def test_no_mirror_is_a_clear_error(make_source: MakeSource) -> None:
    make_source("one", row("a", insult=1))
    with pytest.raises(DataError, match="FINELINE_MIRROR"):
        build_dataset(["one"], None, evaluation=NOTHING)


def test_only_ordinary_sources_have_an_unlawful_limit(make_source: MakeSource, tmp_path: Path) -> None:
    rows = [row(f"text {n}", insult=int(n < 30)) for n in range(100)]
    make_source("one", *rows)
    assert build_dataset(["one"], tmp_path, evaluation=NOTHING).manifest.rows == 100
    make_source("one", *rows, kind="ordinary")
    with pytest.raises(DataError) as caught:
        build_dataset(["one"], tmp_path, evaluation=NOTHING)
    assert caught.value.code == "unlawful_share"
    assert build_dataset(["one"], tmp_path, unlawful_limit=0.3, evaluation=NOTHING).manifest.rows == 100


def test_judge_overrules_the_rows_own_labels(make_source: MakeSource, tmp_path: Path) -> None:
    make_source("one", *[row(f"text {n}", insult=0) for n in range(1000)], kind="ordinary")
    seen: list[int] = []

    def judge(sample: Sequence[Record]) -> list[bool]:
        seen.append(len(sample))
        return [record.text.endswith("7") for record in sample]

    with pytest.raises(DataError, match="one"):
        build_dataset(["one"], tmp_path, evaluation=NOTHING, judge=judge)
    build_dataset(["one"], tmp_path, evaluation=NOTHING, judge=judge, unlawful_limit=0.2)
    assert seen == [building.SAMPLE_ROWS, building.SAMPLE_ROWS]


# --- the command


def test_command_build_writes_rows_and_manifest(make_source: MakeSource, tmp_path: Path) -> None:
    make_source("one", row("a text", insult=1), row("another", insult=0))
    out = tmp_path / "out" / "data.jsonl.gz"
    result = CliRunner().invoke(app, ["build", "--mirror", str(tmp_path), "--sources", "one", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert [record.text for record in read_rows(out).records] == ["a text", "another"]
    manifest = json.loads((tmp_path / "out" / "data.jsonl.gz.manifest.json").read_text())
    assert manifest["sources"][0]["kept"] == 2
    assert "leakage" in result.output


def test_command_reports_an_error_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FINELINE_MIRROR", raising=False)
    for arguments, code in (
        (["build", "--sources", "cold", "--out", str(tmp_path / "x.jsonl")], "mirror_unset"),
        (["build", "--sources", "nope", "--out", str(tmp_path / "x.jsonl")], "source_unknown"),
        (
            ["build", "--sources", "xstest", "--mirror", str(tmp_path), "--out", str(tmp_path / "x.jsonl")],
            "licence_use",
        ),
        (["status", "--mirror", str(tmp_path / "gone")], "mirror_missing"),
        (["pull", "--mirror", str(tmp_path), "--out", str(tmp_path)], "pull_same_folder"),
    ):
        monkeypatch.setattr(sys, "argv", ["fineline", "data", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        told = capsys.readouterr()
        assert caught.value.code == 1, arguments
        assert told.out == ""
        assert told.err.startswith(f"error [{code}]: ")
        assert told.err.count("\n") == 1
    assert not (tmp_path / "x.jsonl").exists()


def test_command_status_and_pull(make_source: MakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINELINE_MIRROR", str(tmp_path))
    make_source("one", row("a", insult=1))
    out = tmp_path / "copy"
    status = CliRunner().invoke(app, ["status", "--sources", "one"])
    assert status.exit_code == 0
    assert "present" in status.output
    assert "1 files written" in CliRunner().invoke(app, ["pull", "--sources", "one", "--out", str(out)]).output
    assert "1 were there already" in CliRunner().invoke(app, ["pull", "--sources", "one", "--out", str(out)]).output
    (out / "one/rows.jsonl").write_text("altered")
    assert "hash mismatch" in CliRunner().invoke(app, ["status", "--sources", "one", "--mirror", str(out)]).output
