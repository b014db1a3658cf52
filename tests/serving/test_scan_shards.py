"""Shards: the same ones every time, every row once, and the first of equal documents found."""

import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline.scan.documents import Document, Fields, list_inputs
from fineline.scan.shards import SHARD_CHARACTERS, FirstSeen, shards

FIELDS = Fields(id="id", context="context")


def document(text: str, context: str | None = None) -> Document:
    return Document(file=0, row=0, text=text, context=context, id=None, lang=None, source=None)


def write(path, rows: Iterable[object]) -> None:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def test_shards_hold_every_row_once_in_order_and_span_files(tmp_path):
    write(tmp_path / "a.jsonl", [{"id": "0", "text": "a"}, "broken", {"id": "2", "text": "b"}])
    write(tmp_path / "b.jsonl", [{"id": "3", "text": "c"}, {"id": "4"}])
    found = list(shards(list_inputs(str(tmp_path)), FIELDS, 2))
    assert [shard.number for shard in found] == [0, 1, 2]
    assert [[(d.file, d.row) for d in shard.documents] for shard in found] == [[(0, 0)], [(0, 2), (1, 0)], []]
    assert [[(r.file, r.row) for r in shard.rejects] for shard in found] == [[(0, 1)], [], [(1, 1)]]
    assert [shard.first for shard in found] == [0, 1, 3]
    assert found == list(shards(list_inputs(str(tmp_path)), FIELDS, 2))


def test_no_row_is_no_shard(tmp_path):
    write(tmp_path / "a.jsonl", [])
    assert list(shards(list_inputs(str(tmp_path)), FIELDS, 2)) == []


def test_long_texts_end_a_shard_early(tmp_path):
    long = "x" * (SHARD_CHARACTERS // 2)
    write(tmp_path / "a.jsonl", [{"text": long + str(i)} for i in range(5)])
    assert [len(shard.documents) for shard in shards(list_inputs(str(tmp_path)), FIELDS, 100)] == [2, 2, 1]


@pytest.mark.parametrize(
    ("remembered", "expected"), [(0, {}), (1, {3: 0}), (2, {3: 0, 4: 1}), (50, {3: 0, 4: 1, 5: 2})]
)
def test_duplicates_point_to_the_first_within_the_limit(tmp_path, remembered, expected):
    write(tmp_path / "a.jsonl", [{"text": text} for text in ("a", "b", "c", "a", "b", "c")])
    found = [
        (shard.first + place, original)
        for shard in shards(list_inputs(str(tmp_path)), FIELDS, 2, remembered)
        for place, original in shard.duplicates.items()
    ]
    assert dict(found) == expected


def test_the_context_makes_another_document_and_an_empty_one_does_not():
    seen = FirstSeen(10)
    assert seen.find(document("ab"), 0) is None
    assert seen.find(document("a", "b"), 1) is None
    assert seen.find(document("ab", ""), 2) == 0
    assert seen.find(document("a", "b"), 3) == 1
    assert seen.find(document("\ud800"), 4) is None


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab", max_size=3)), st.integers(min_value=0, max_value=20))
def test_first_seen_is_a_bounded_dictionary(texts, limit):
    seen, expected = FirstSeen(limit), {}
    for number, text in enumerate(texts):
        assert seen.find(document(text), number) == expected.get(text)
        if text not in expected and len(expected) < limit:
            expected[text] = number
