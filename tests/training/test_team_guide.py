"""The guide of a team's labels: which rows it shows, what it says of the labels, what it never shows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline.errors import DataError
from fineline.files import sha256_of
from fineline.own_labels import read_own_labels
from fineline.taxonomy import load_taxonomy
from fineline_training.commands.labels import app
from fineline_training.guide import GUIDES
from fineline_training.labels.guide import choose_examples, write_guide
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow

LABEL = "insult"
OWN = Path(__file__).parents[2] / "training" / "examples" / "prompt_attack" / "label.toml"


def row(key, text, *marks, lang="en", **more):
    votes = {f"p{number}": {LABEL: mark} for number, mark in enumerate(marks)}
    return LabelledRow(id=key, text=text, lang=lang, source="team", votes=votes, **more)


ROWS = [
    row("a", "You are a *worthless* worm, he wrote.", 0),
    row("b", "You are a *worthless* worm, he-he.", 1),
    row("c", "A parcel came.", 0),
    row("d", "Worms like you should keep quiet.", 1, 1),
    row("e", "Nice try, genius.", 1, 0),
    row("f", "Mail worm-hater@real-post.org, you worm.", 1),
    row("g", "You worm. " * 30, 1),
    row("h", "你这条虫。", 1, lang="zh"),
    row("i", "他说：你这条虫。", 0, lang="und"),
]


def test_examples_are_short_agreed_and_beside_their_nearest_lawful_text():
    found = choose_examples(ROWS, LABEL, "en")
    assert (found.pairs[0].flagged.id, found.pairs[0].lawful.id) == ("b", "a")
    assert {pair.flagged.id for pair in found.pairs} <= {"b", "d"}
    assert [shown.id for shown in found.disputed] == ["e"]
    assert not {"f", "g", "h", "i"} & set(found.ids)
    assert found == choose_examples(ROWS[::-1], LABEL, "en")


def test_a_reader_is_shown_their_language():
    (pair,) = choose_examples(ROWS, LABEL, "zh").pairs
    assert (pair.flagged.id, pair.lawful.id) == ("h", "i")


def test_a_text_stands_once_and_without_lawful_rows_flagged_ones_stand_alone():
    many = [row(f"x{number}", f"worm {number}", 1) for number in range(9)]
    found = choose_examples([*many, row("y", "worm", 0)], LABEL, "en", count=5)
    assert len(found.pairs) == 1
    assert [pair.lawful for pair in choose_examples(many, LABEL, "en", count=5).pairs] == [None] * 5


def test_a_decided_label_outranks_the_votes():
    found = choose_examples([replace(row("a", "worm", 1, 0), labels={LABEL: 1})], LABEL, "en")
    assert [pair.flagged.id for pair in found.pairs] == ["a"] and not found.disputed


@pytest.fixture
def store(tmp_path):
    made = LabelStore.open(tmp_path / "store", create=True)
    made.add(ROWS, {})
    return made


def test_both_guides_state_every_rule_and_stand_in_the_store(store):
    store.define(read_own_labels([OWN]))
    files, record = write_guide(store, [LABEL, "prompt_attack"])
    assert [file.name for file in files] == list(GUIDES.values())
    english, chinese = (file.read_text(encoding="utf-8") for file in files)
    for name in (LABEL, "prompt_attack"):
        label = store.taxonomy[name]
        assert all(rule in english for rule in (label.definition, *label.flag, *label.never_flag))
        assert all(rule in chinese for rule in (label.definition_zh, *label.flag_zh, *label.never_flag_zh))
    assert r"✗ You are a \*worthless\* worm, he-he." in english and "✗ 你这条虫。" in chinese
    for heading in ("\n## ", "\n### "):
        assert english.count(heading) == chinese.count(heading) > 1
    kept = json.loads(record.read_text())
    assert kept["files"] == {file.name: sha256_of(file) for file in files}
    assert {"b", "e", "h"} <= set(kept["examples"]) and "worm" not in record.read_text().replace(OWN.read_text(), "")


def test_the_first_step_makes_the_store(tmp_path):
    folder = tmp_path / "new"
    result = CliRunner().invoke(app, ["guide", str(folder), "--own-label", str(OWN)])
    assert result.exit_code == 0, result.output
    assert [label.id for label in LabelStore.open(folder).own_labels] == ["prompt_attack"]
    english = (folder / "guide.md").read_text(encoding="utf-8")
    assert "No labelled row in English" in english and load_taxonomy().principle in english


def test_a_guide_without_a_label_is_refused(store):
    with pytest.raises(DataError) as caught:
        write_guide(store, [])
    assert caught.value.code == "guide_labels"
