"""Cleaning a store whose errors are known: ranked, dealt to people who have not seen them, set aside on request."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from fineline.errors import DataError
from fineline_training.commands.labels import app
from fineline_training.labels import clean as cleaning
from fineline_training.labels.clean import clean, find_doubts
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow, settled

LABEL = "insult"
FLIPPED = {f"r{number}" for number in range(0, 200, 7)}


def rows(count=200):
    """A third is positive; the text says which, the flipped ones are voted the other way round."""
    found = []
    for number in range(count):
        mark = int(number % 3 == 0)
        key = f"r{number}"
        votes = {"ann" if number % 2 else "bo": {LABEL: 1 - mark if key in FLIPPED else mark}}
        found.append(LabelledRow(id=key, text=f"secret {'bad' if mark else 'good'} {number}", lang="en", source="team",
                                 votes=votes))  # fmt: skip
    return found


@pytest.fixture
def store(tmp_path):
    made = LabelStore.open(tmp_path / "store", create=True)
    # A tie says nothing that could be wrong.
    tie = LabelledRow(id="tie", text="secret", lang="en", source="team", votes={"ann": {LABEL: 1}, "bo": {LABEL: 0}})
    made.add([*rows(), tie], {})
    return made


@pytest.fixture
def features(monkeypatch):
    """Stands for the served model: reads the one word that matters, with noise."""
    asked = []

    def read(bundle, texts, contexts, *, threads=None, on_rows=lambda count: None):
        asked.extend(texts)
        on_rows(len(texts))
        noise = np.random.default_rng(5).normal(size=(len(texts), 8))
        noise[:, :3] += np.array([2.0 if "bad" in text else -2.0 for text in texts]).reshape(-1, 1)
        return noise.astype(np.float32)

    monkeypatch.setattr(cleaning, "text_features", read)
    monkeypatch.setattr(cleaning, "load_bundle", lambda bundle: SimpleNamespace(model_id="tiny@0"))
    return asked


def test_flipped_marks_come_first(features):
    (found,) = find_doubts(rows(), [LABEL])
    assert len({suspect.id for suspect in found.ranked[: len(FLIPPED)]} & FLIPPED) >= 25
    assert len(found.ranked) == found.rows == 200
    assert all(suspect.given == (suspect.probability < 0.5) for suspect in found.ranked[:10])


def test_review_goes_to_others_and_the_worst_comes_first(store, features):
    before = store.digest()
    done = clean(store, [LABEL], reviewers=["ann", "bo"])
    issues = {suspect.id: suspect for suspect in done.labels[0].issues}
    assert len(set(issues) & FLIPPED) >= len(FLIPPED) // 2 and len(set(issues) - FLIPPED) <= 2
    dealt = json.loads(done.record.read_text())["dealt"]["review"]
    assert sorted(dealt["ann"] + dealt["bo"]) == sorted(issues)
    voted = {row.id: set(row.votes) for row in store.rows()}
    for person, ids in dealt.items():
        assert all(person not in voted[key] for key in ids)
        assert [issues[key].quality for key in ids] == sorted(issues[key].quality for key in ids)
        lines = (store.tasks / done.record.stem / f"{person}.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines] == ids
    assert store.digest() == before and done.set_aside == 0


def test_dropped_marks_are_unknown_to_training_and_their_votes_stay(store, features):
    done = clean(store, [LABEL], drop=True)
    aside = {suspect.id for suspect in done.labels[0].issues}
    assert done.set_aside == len(aside)
    for row in store.rows():
        assert (LABEL in settled(row).labels) == (row.id not in aside and row.id != "tie")
        assert row.votes
    # What is set aside is not looked at again, and not forgotten either.
    again = clean(store, [LABEL], drop=True)
    assert not aside & {suspect.id for suspect in again.labels[0].ranked}
    assert aside <= {row.id for row in store.rows() if row.set_aside}


def test_the_record_says_what_was_done_without_a_text(store, features):
    done = clean(store, [LABEL, "violence"], drop=True)
    text = done.record.read_text()
    kept = json.loads(text)
    assert kept["model"] == "tiny@0" and kept["action"] == "set aside" and "seed 0" in kept["method"]
    assert [entry["ranked"] for entry in kept["found"]] == [True, False]
    assert {issue["id"] for issue in kept["found"][0]["issues"]} == {s.id for s in done.labels[0].issues}
    assert "secret" not in text


def test_the_same_seed_finds_the_same(features):
    assert find_doubts(rows(), [LABEL], seed=1) == find_doubts(rows(), [LABEL], seed=1)


def test_rows_that_know_no_such_label_are_not_read(features):
    find_doubts(rows(), ["violence"])
    assert not features


@pytest.mark.parametrize(("label", "folds", "code"), [("violence", 2, "clean_rows"), (LABEL, 1, "clean_folds")])
def test_what_cannot_be_cleaned_is_refused(store, features, label, folds, code):
    with pytest.raises(DataError) as caught:
        clean(store, [label], folds=folds)
    assert caught.value.code == code


def test_the_command_on_a_real_bundle(store, tiny_bundle):
    arguments = ["clean", str(store.path), "--bundle", str(tiny_bundle), "--label", LABEL, "--review", "cy", "--leave"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "0 marks set aside" in result.output and "secret" not in result.output
    assert json.loads(next((store.path / "records").glob("clean-*")).read_text())["model"] == "tiny@0.0.1"
