"""``fineline feedback``: purge, delete and export beside a server, by its settings."""

import json
import sys
import time
from contextlib import closing
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
from fineline import cli
from fineline.server.feedback import FeedbackStore
from fineline.server.feedback_settings import Keeping
from fineline.server.feedback_table import Appeal
from fineline.server.problems import NotFoundError
from fineline.server.sealing import Content, Sealer, write_secret

MARKER = "zebrawhisper"
DAY = 86_400


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Call ``main`` as the installed command does; returns (exit status, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fineline", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def config(tmp_path):
    """Settings of a server that encrypts texts; its other sections are not looked at."""
    write_secret(tmp_path / "key")
    file = tmp_path / "server.toml"
    file.write_text(
        f'[limits]\nmax_inputs = 3\n[feedback]\nurl = "sqlite:///{tmp_path}/feedback.db"\n'
        f'texts = "encrypted"\nkey_file = "{tmp_path}/key"\nretention_days = 30\n'
    )
    return file


@pytest.fixture
def store(config, tmp_path):
    with closing(FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", retention_days=30)) as store:
        yield store


@pytest.fixture
def file_appeal(store, tmp_path):
    sealer = Sealer(Keeping.ENCRYPTED, tmp_path / "key")

    def make(number: int, *, age: int = 0, text: str | None = None, **changes: object) -> Appeal:
        received = int(time.time()) - age * DAY
        form, content = sealer.seal(Content(text=text)) or (None, None)
        appeal = Appeal(
            id=f"{number:032x}",
            filed_by="team",
            received=received,
            delete_after=received + 30 * DAY,
            judged=received,
            model="fineline-1@1.2.0",
            bundle="0123456789abcdef",
            policy="cn_measures",
            action="block",
            flagged=["violence"],
            expected_labels=[],
            reason="other",
            form=form,
            content=content,
        )
        store.file(replace(appeal, **changes))
        return appeal

    return make


def test_purge_deletes_what_is_over(run, config, store, file_appeal):
    file_appeal(1, age=31, text=MARKER)
    file_appeal(2, age=29, text=MARKER)
    status, out, err = run("feedback", "purge", "--config", config)
    assert (status, out, err) == (0, "", "1 appeals deleted\n")
    assert [appeal.id for appeal in store.listed()] == [f"{2:032x}"]


def test_delete_takes_one_appeal(run, config, store, file_appeal):
    file_appeal(1)
    file_appeal(2)
    assert run("feedback", "delete", f"{1:032x}", "--config", config)[0] == 0
    with pytest.raises(NotFoundError):
        store.get(f"{1:032x}")
    status, _, err = run("feedback", "delete", f"{1:032x}", "--config", config)
    assert status == 1 and err.startswith("error [appeal_unknown]")


def test_export_writes_settled_appeals_as_rows_that_training_reads(
    run, config, store, file_appeal, tmp_path, monkeypatch
):
    from fineline_training.records import parse_row

    monkeypatch.setattr("fineline.server.feedback._PAGE", 5)
    for number in range(1, 13):
        file_appeal(number, text=f"{MARKER} 文本\u2028 {number}", lang="zh")
    file_appeal(200)
    file_appeal(201, text="open")
    for number in [*range(1, 13), 200]:
        decision, labels = ("upheld", []) if number % 2 else ("rejected", ["violence"])
        store.settle(f"{number:032x}", status=decision, labels=labels, known=["violence"], by="ops")
    out = tmp_path / "rows.jsonl"
    status, printed, err = run("feedback", "export", out, "--config", config)
    assert (status, printed) == (0, "")
    assert err == f"12 rows in {out}, 1 settled appeals without a text or labels\n"
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]
    assert set(rows[0]) == {"text", "labels", "known", "lang"}
    records = {row["text"]: parse_row(row).labels for row in rows}
    assert records == {f"{MARKER} 文本\u2028 {number}": {"violence": 1 - number % 2} for number in range(1, 13)}


def test_a_lost_key_leaves_no_half_file_and_no_text_in_the_message(run, config, store, file_appeal, tmp_path):
    file_appeal(1, text=MARKER)
    store.settle(f"{1:032x}", status="upheld", labels=[], known=["violence"], by="ops")
    (tmp_path / "key").unlink()
    write_secret(tmp_path / "key")
    status, _, err = run("feedback", "export", tmp_path / "rows.jsonl", "--config", config)
    assert status == 1 and err.startswith("error [feedback_key]")
    assert not (tmp_path / "rows.jsonl").exists()


def test_wrong_calls_are_one_line(run, config, tmp_path):
    assert run("feedback", "purge")[2].startswith("error [feedback_missing]")
    assert run("feedback", "purge", "--config", config)[2].startswith("error [feedback_missing]")
    assert run("feedback", "purge", "--config", tmp_path / "none.toml")[2].startswith("error [config_missing]")
    config.write_text("[feedback]\nzebra = 1\n")
    assert run("feedback", "purge", "--config", config)[2].startswith("error [config_unknown_key]")
    config.write_text(f'[feedback]\nurl = "sqlite:///{tmp_path}/feedback.db"\n')
    (tmp_path / "feedback.db").write_bytes(b"no database " * 500)
    status, _, err = run("feedback", "purge", "--config", config)
    assert status == 1 and err.splitlines()[-1].startswith("error [feedback_unavailable]")
