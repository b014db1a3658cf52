"""The command line: what it prints, what it keeps, and that an error is one line with a code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline import cli
from fineline.errors import ConfigError
from fineline.extras import require
from fineline.rows import score_file

MARKER = "zebrawhisper"
BLOCK = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Block())
"""


@pytest.fixture
def run(capsys, monkeypatch):
    """Call ``main`` as the installed command does; returns (exit status, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fineline", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(caught.value.code or 0), out, err

    return call


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_classify_prints_a_table(run, tiny_bundle):
    status, out, _ = run("classify", "Tell anyone", "他说", "--bundle", tiny_bundle)
    assert status == 0
    assert all(part in out for part in ("action", "flagged", "Tell anyone", "他说"))


@pytest.mark.parametrize(
    "text", ["[/]", "\\[/red]", "[red]", ":smile:", "[link=x]", "a\ud800b", "", "[bold]x[/bold]\\"]
)
def test_a_text_with_markup_is_printed_as_it_is(run, tiny_bundle, text):
    status, out, _ = run("classify", text, "--bundle", tiny_bundle)
    assert status == 0
    assert text.encode("utf-8", "replace").decode() in out


def test_classify_json_is_one_verdict_a_line(run, tiny_bundle, classifier):
    texts = ["Tell anyone", "", "\ud800 他说"]
    status, out, _ = run(
        "classify", *texts, "--json", "--bundle", tiny_bundle, "--context", "Why?", "--policy", "minors"
    )
    assert status == 0
    found = [json.loads(line) for line in out.splitlines()]
    expected = classifier.classify(texts, ["Why?"] * 3, policy="minors")
    for got, verdict in zip(found, expected, strict=True):
        assert got["policy"] == "minors"
        assert got["scores"] == pytest.approx(verdict.scores, abs=0.05)  # int8: another thread count, another split
        assert got["action"] == verdict.action


def test_classify_reads_standard_input_a_text_a_line(tiny_bundle):
    result = CliRunner().invoke(
        cli.app, ["classify", "-", "--json", "--bundle", str(tiny_bundle)], input=b"one\r\n\xff\xfe broken\n\nlast"
    )
    assert result.exit_code == 0, result.output
    ends = [json.loads(line)["windows"][-1]["end"] for line in result.output.splitlines()]
    assert ends == [3, 9, 0, 4]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("classify", "x", "--bundle", "{tmp}/none"), "bundle_missing"),
        (("classify", "x", "--bundle", "{tmp}"), "bundle_missing"),
        (("classify", "x", "--bundle", "{bundle}", "--policy", "lax"), "policy_unknown"),
        (("verify", "--bundle", "{tmp}/none"), "bundle_missing"),
        (("score", "{tmp}/none.jsonl", "{tmp}/out.jsonl", "--bundle", "{bundle}"), "input_file"),
        (("score", "{tmp}", "{tmp}/out.jsonl", "--bundle", "{bundle}"), "input_file"),
        (("score", "{tmp}/in.jsonl", "{tmp}", "--bundle", "{bundle}"), "output_file"),
        (("score", "{tmp}/in.jsonl", "{tmp}/in.jsonl/out.jsonl", "--bundle", "{bundle}"), "output_file"),
    ],
)
def test_an_error_is_one_line_with_its_code(run, tiny_bundle, tmp_path, words, code):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    filled = [word.format(tmp=tmp_path, bundle=tiny_bundle) for word in words]
    status, out, err = run(*filled)
    assert status == 1
    assert out == ""
    assert err.strip().startswith(f"error [{code}]: ")  # a progress line may have been wiped before it
    assert err.strip().count("\n") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_a_damaged_bundle_is_one_line(run, tiny_bundle, tmp_path):
    for path in tiny_bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-1])
    (tmp_path / "bundle.json").write_bytes((tiny_bundle / "bundle.json").read_bytes())
    status, _, err = run("classify", "x", "--bundle", tmp_path)
    assert status == 1
    assert err.startswith("error [bundle_hash_mismatch]: ")


def test_verify_states_the_difference(run, tiny_bundle):
    status, out, _ = run("verify", "--bundle", tiny_bundle)
    assert status == 0
    assert out.startswith("tiny@0.0.1: files match")


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_help_lists_commands_without_importing_training(run, words):
    _, out, err = run(*words)
    assert all(name in out + err for name in ("classify", "score", "serve", "verify"))


def test_a_wrong_option_is_a_usage_error(run):
    status, _, err = run("classify", "x", "--colour", "red")
    assert status == 2
    assert "--colour" in err


# --- score


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_scoring_keeps_fields_and_order_and_every_row(classifier, tmp_path):
    source = write(
        tmp_path / "in.jsonl",
        b'{"id": 1, "text": "one", "nested": {"a": [1, null]}, "action": "old"}',
        b"{not json " + MARKER.encode(),
        b'{"id": 3}',
        b'["text", "' + MARKER.encode() + b'"]',
        b"",
        b'{"id": 6, "text": null}',
        b'{"id": 7, "text": "seven", "context": 5}',
        b'{"id": 8, "text": "eight", "context": null}',
        b'{"id": 9, "text": "\\ud800 nine", "context": "why?"}',
        b'{"id": 10, "text": "\xff"}',
        '{"id": 11, "text": "他说\u2028行"}'.encode(),
        b'{"id": 12, "text": "", "n": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"id": 14, "text": "last"}',
    )
    counts: list[int] = []
    result = score_file(classifier, source, tmp_path / "out.jsonl", on_rows=counts.append)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [row.get("id") for row in rows] == [1, None, None, None, None, None, 8, 9, None, 11, None, None, 14]
    assert [row.get("line") for row in rows] == [None, 2, 3, 4, 6, 7, None, None, 10, None, 12, 13, None]
    assert result.scored == 5
    assert [line for line, _ in result.refused] == [2, 3, 4, 6, 7, 10, 12, 13]
    assert sum(counts) == 13
    assert rows[0]["nested"] == {"a": [1, None]}
    assert rows[0]["action"] == classifier.classify(["one"])[0].action
    assert rows[7]["text"] == "\ud800 nine"
    assert rows[9]["text"] == "他说\u2028行"
    assert all(set(row["scores"]) == set(classifier.labels) for row in rows if "scores" in row)
    assert all(set(row) == {"error", "line"} for row in rows if "error" in row)
    assert MARKER not in (tmp_path / "out.jsonl").read_text()


def test_scores_of_a_file_are_those_of_the_classifier(classifier_fp32, tmp_path):
    texts = [f"{i} " + "word " * (i % 13) for i in range(1100)]
    source = write(tmp_path / "in.jsonl", *(json.dumps({"t": text, "c": "why?"}).encode() for text in texts))
    score_file(classifier_fp32, source, tmp_path / "out.jsonl", text_field="t", context_field="c")
    expected = classifier_fp32.classify(texts, ["why?"] * len(texts))
    for row, text, verdict in zip(rows_of(tmp_path / "out.jsonl"), texts, expected, strict=True):
        assert row["t"] == text
        assert row["scores"] == pytest.approx(verdict.scores, abs=1e-4)
        assert row["flagged"] == list(verdict.flagged)


def test_score_says_how_many_rows_and_fails_when_one_was_refused(run, tiny_bundle, tmp_path):
    source = write(tmp_path / "in.jsonl", b'{"text": "a"}', MARKER.encode())
    status, _, err = run("score", source, tmp_path / "new" / "out.jsonl", "--bundle", tiny_bundle)
    assert status == 1
    assert "line 2: not valid JSON" in err
    assert "1 rows scored, 1 refused" in err
    assert MARKER not in err
    good = write(tmp_path / "good.jsonl", b'{"body": "a"}')
    status, _, err = run("score", good, tmp_path / "out.jsonl", "--text-field", "body", "--bundle", tiny_bundle)
    assert status == 0


def test_an_empty_file_gives_an_empty_file(classifier, tmp_path):
    score_file(classifier, write(tmp_path / "in.jsonl", b"", b"  "), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_a_scoring_that_dies_leaves_the_old_result(classifier, tmp_path):
    source = write(tmp_path / "in.jsonl", *[b'{"text": "a"}'] * 600)
    target = tmp_path / "out.jsonl"
    target.write_text("old\n")

    def die(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_file(classifier, source, target, on_rows=die)
    assert target.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_file_can_be_scored_in_place(classifier, tmp_path):
    source = write(tmp_path / "in.jsonl", b'{"text": "a"}', b'{"text": "b"}')
    score_file(classifier, source, source)
    assert [row["text"] for row in rows_of(source)] == ["a", "b"]
    assert all("action" in row for row in rows_of(source))


# --- extras and the commands of other packages


def command(
    env: dict[str, str], blocked: set[str], *words: object, before: str = ""
) -> subprocess.CompletedProcess[str]:
    code = f"BLOCKED = {blocked!r}\n{BLOCK}\n{before}\nfrom fineline.cli import main\nmain()\n"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client"])
def test_serve_without_its_extra_says_what_to_install(tiny_bundle, source_env, missing):
    done = command(source_env, {missing}, "serve", "--bundle", tiny_bundle)
    assert done.returncode == 1
    assert done.stderr == (
        f"error [extra_missing]: This command needs '{missing}': install it with pip install 'fineline[serve]'.\n"
    )


ENTRY_POINTS = """
import importlib.metadata
class Entry:
    name, module = "train", "fineline_training.commands.train"
    def load(self):
        import fineline_training.commands.train as found
        return found.app
real = importlib.metadata.entry_points
importlib.metadata.entry_points = lambda **of: [Entry()] if of == {"group": "fineline.commands"} else real(**of)
"""


@pytest.mark.parametrize("missing", ["torch", "pyarrow", "transformers", "accelerate", "onnx", "scipy"])
def test_train_without_its_extra_says_what_to_install(source_env, tmp_path, missing):
    done = command(source_env, {missing}, "train", "--out", tmp_path / "run", before=ENTRY_POINTS)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert done.stderr.startswith(f"error [extra_missing]: This command needs '{missing}'")
    assert "fineline[train]" in done.stderr


def test_commands_of_other_packages_are_listed_and_run(source_env, tmp_path):
    listed = command(source_env, {"torch"}, "--help", before=ENTRY_POINTS)
    assert "train" in listed.stdout
    assert "from fineline_training" in listed.stdout
    done = command(source_env, {"none"}, "train", "--recipe", "nosuch", before=ENTRY_POINTS)
    assert done.returncode == 1
    assert done.stderr.startswith("error [recipe_missing]: ")


def test_require_names_the_module_behind_a_failed_import(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    require("serve", "json")
    with pytest.raises(ConfigError, match=r"'surely_not_installed'.*fineline\[serve\]"):
        require("serve", "json", "needs_more")
