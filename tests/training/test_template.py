"""``fineline labels new``: a file that is read once it is filled in, and not before."""

import re
import tomllib

import pytest
from typer.testing import CliRunner

from fineline.errors import ConfigError
from fineline.own_labels import read_own_labels
from fineline.taxonomy import load_taxonomy
from fineline_training.commands.labels import app
from fineline_training.labels.template import own_label_template


def filled(text):
    """Each empty string becomes a text."""
    return re.sub('""', '"Text 文本."', text)


@pytest.mark.parametrize("label_id", ["prompt_attack", "discrimination/accent"])
def test_a_template_is_read_only_once_it_is_filled_in(tmp_path, label_id):
    file = tmp_path / "own.toml"
    blanks = own_label_template(label_id).split("\n")
    empty = [place for place, line in enumerate(blanks) if '""' in line and not line.startswith("#")]
    assert len(empty) == 8
    for left in empty:
        lines = [line if place == left else filled(line) for place, line in enumerate(blanks)]
        file.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(ConfigError, match=re.escape(key_of(blanks[left]))) as caught:
            read_own_labels([file])
        assert caught.value.code == "own_label_empty"
    file.write_text(filled("\n".join(blanks)), encoding="utf-8")
    (label,) = read_own_labels([file])
    assert (label.id, label.group, label.action, label.flag_zh) == (label_id, "own", "review", ("Text 文本.",))
    load_taxonomy().extended([label])


def key_of(line):
    return line.split(" = ")[0]


@pytest.mark.parametrize("label", load_taxonomy().labels, ids=lambda label: label.id)
def test_the_template_of_a_label_of_ours_says_what_ours_says(tmp_path, label):
    text = own_label_template(label.id)
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8")
    assert tomllib.loads(text) == label.as_table() | {"action": "review"}
    with pytest.raises(ConfigError) as caught:
        read_own_labels([file])
    assert caught.value.code == "own_label_unchanged"
    file.write_text(text.replace(label.definition, "Narrower."), encoding="utf-8")
    assert read_own_labels([file])[0].definition == "Narrower."


@pytest.mark.parametrize("label_id", ["any", "Cure", "hate", "a b", "../x"])
def test_an_id_that_will_not_do_is_refused_before_anything_is_written(tmp_path, label_id):
    found = CliRunner().invoke(app, ["new", label_id, "--out", str(tmp_path / "own.toml")])
    assert found.exception.code == "own_label_id"
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_file_once_and_says_what_comes_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["new", "discrimination/accent"])
    assert done.exit_code == 0, done.output
    assert "labels/discrimination_accent.toml written" in done.output
    assert "--own-label labels/discrimination_accent.toml" in done.output
    before = (tmp_path / "labels/discrimination_accent.toml").read_text(encoding="utf-8")
    again = CliRunner().invoke(app, ["new", "discrimination/accent"])
    assert again.exception.code == "own_label_exists"
    assert (tmp_path / "labels/discrimination_accent.toml").read_text(encoding="utf-8") == before
