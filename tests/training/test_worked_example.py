"""The worked example of a label of one's own: its files pass every gate, and say what its document says of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline.taxonomy import read_own_labels
from fineline_training.commands.labels import app
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import settled

EXAMPLE = Path(__file__).parents[2] / "training" / "examples" / "prompt_attack"
RIGHTS = ("--licence", "Apache-2.0", "--basis", "own work")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> LabelStore:
    folder = tmp_path_factory.mktemp("example") / "store"
    files = [str(EXAMPLE / name) for name in ("rows.jsonl", "rows_b.jsonl")]
    label = ("--own-label", str(EXAMPLE / "label.toml"))
    for words in ([*files, *label], [str(EXAMPLE / "reader.jsonl")]):
        result = CliRunner().invoke(app, ["import", *words, "--store", str(folder), *RIGHTS])
        assert result.exit_code == 0, result.output
    return LabelStore.open(folder)


def test_every_row_is_imported_and_a_third_person_voted_on_some(store):
    rows = store.rows()
    assert len(rows) >= 600
    assert sum(entry["new"] for entry in store.imports()) == len(rows)
    assert sum("reader" in row.votes for row in rows) == 400
    assert len({row.lang for row in rows}) == 18


def test_twins_differ_in_the_label_and_both_sides_are_even(store):
    [label] = [label.id for label in read_own_labels([EXAMPLE / "label.toml"])]
    values: dict[str, set[int]] = {}
    flagged = 0
    for row in store.rows():
        value = settled(row).labels[label]
        flagged += value
        if row.pair:
            values.setdefault(row.pair, set()).add(value)
    assert all(found == {0, 1} for found in values.values())
    assert 0.4 < flagged / len(store.rows()) < 0.6
