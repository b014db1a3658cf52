"""The label store: rows and dated records survive, and damage is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_training.labels.store import LOCK, ROWS, SETTINGS, LabelStore
from fineline_training.labels.votes import LabelledRow

SPAM = replace(load_taxonomy()["insult"], id="spam", action="review", group="own", overlaps=())


def made(key: str, **more: object) -> LabelledRow:
    values: dict[str, object] = {"votes": {"a": {"insult": 1}}, "lang": "en", "source": "s", "text": f"text {key}"}
    return LabelledRow(**{"id": key, **values, **more})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> LabelStore:
    return LabelStore.open(tmp_path / "store", create=True)


def test_opening_alone_writes_nothing(store: LabelStore) -> None:
    assert not store.path.exists()
    assert store.rows() == []


def test_rows_records_and_own_labels_come_back(store: LabelStore) -> None:
    store.define([SPAM])
    first = store.add([made("1", origin="f line 3"), made("2", votes={"b": {"spam": 0}})], {"files": ["f"]})
    again = LabelStore.open(store.path)
    assert [row.id for row in again.rows()] == ["1", "2"]
    assert again.own_labels == (SPAM,)
    assert again.taxonomy.ids[-1] == "spam"
    record = json.loads(first.read_text())
    assert record["files"] == ["f"] and record["at"][:10] in first.name
    assert again.rows()[0].origin == f"{record['import']} f line 3"
    assert again.imports() == [record]


def test_stored_row_gets_more_votes_and_keeps_its_place_and_origin(store: LabelStore) -> None:
    store.add([made("1", origin="f line 1"), made("2")], {})
    before = store.rows()[0]
    store.add([replace(before, votes={"a": {"insult": 1}, "b": {"insult": 0}}, origin="g line 1")], {})
    assert [row.id for row in store.rows()] == ["1", "2"]
    assert store.rows()[0].origin == before.origin
    assert set(store.rows()[0].votes) == {"a", "b"}


def test_records_of_a_kind_are_numbered_and_in_order(store: LabelStore) -> None:
    store.add([made("1")], {})
    files = [store.write_record("clean", {"number": number}) for number in range(11)]
    assert len(set(files)) == 11
    assert [record["number"] for record in store.records("clean")] == list(range(11))
    assert store.records("assign") == []


def test_digest_follows_the_rows_alone(store: LabelStore) -> None:
    assert store.digest() == ""
    store.add([made("1")], {})
    before = store.digest()
    store.write_record("clean", {})
    assert store.digest() == before
    store.add([made("2")], {})
    assert store.digest() != before


def test_redefined_labels_are_told_once(store: LabelStore) -> None:
    assert store.define([SPAM]) == ()
    assert store.define([SPAM]) == ()
    assert store.define([replace(SPAM, definition="Another one.")]) == ("spam",)


def test_no_store_and_another_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError) as missing:
        LabelStore.open(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError) as taken:
        LabelStore.open(tmp_path, create=True)
    assert (missing.value.code, taken.value.code) == ("store_missing", "store_taken")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 2, "own_labels": []}', '{"schema": 1, "own_labels": [1]}'])
def test_damaged_settings_are_told(store: LabelStore, content: str) -> None:
    store.add([made("1")], {})
    (store.path / SETTINGS).write_text(content)
    with pytest.raises(DataError) as caught:
        LabelStore.open(store.path)
    assert caught.value.code in {"store_damaged", "store_schema"}


def test_damaged_row_is_told_by_its_line_and_not_quoted(store: LabelStore) -> None:
    store.add([made("1")], {})
    with (store.path / ROWS).open("a") as file:
        file.write('{"text": "SECRET", "votes": {"a": {"none": 1}}}\n')
    with pytest.raises(DataError, match="line 2") as caught:
        store.rows()
    assert "SECRET" not in caught.value.message


def test_second_change_at_once_is_refused_and_nested_ones_are_one(store: LabelStore) -> None:
    with store.locked():
        store.add([made("1")], {})
        with pytest.raises(DataError) as caught:
            LabelStore.open(store.path).add([made("2")], {})
    assert caught.value.code == "store_locked"
    LabelStore.open(store.path).add([made("2")], {})
    assert (store.path / LOCK).exists()
    assert len(store.rows()) == 2
