"""Votes: what a row says in the end, and rows in and out of files."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline_training.labels.votes import LabelledRow, UnansweredError, as_labelled, parse_labelled, row_id, settled
from fineline_training.rowfiles import RowError

IDS = ("violence", "insult", "spam")


def row(votes: dict[str, dict[str, int]] | None = None, **more: object) -> LabelledRow:
    return parse_labelled({"text": "t", "votes": votes or {}, **more}, ids=IDS)


@pytest.mark.parametrize(
    ("marks", "label", "soft"),
    [([1], 1, None), ([0, 0], 0, None), ([1, 1, 0], 1, 2 / 3), ([0, 1, 0], 0, 1 / 3), ([1, 0], None, 0.5)],
)
def test_majority_labels_and_disagreement_is_soft(marks: list[int], label: int | None, soft: float | None) -> None:
    record = settled(row({f"p{place}": {"spam": mark} for place, mark in enumerate(marks)}))
    assert record.labels.get("spam") == label
    assert record.soft.get("spam") == soft


def test_label_nobody_looked_at_stays_unknown() -> None:
    record = settled(row({"a": {"spam": 1}, "b": {"spam": 1, "insult": 0}}))
    assert record.labels == {"spam": 1, "insult": 0}
    assert record.soft == {}


def test_decision_outranks_votes() -> None:
    record = settled(row({"a": {"spam": 1}, "b": {"spam": 1}, "c": {"spam": 0}}, labels={"spam": 0}))
    assert record.labels == {"spam": 0}
    assert record.soft == {}


def test_shares_given_by_a_file_are_kept_and_their_majority_is_the_label() -> None:
    record = settled(row(labels={"spam": 1}, soft={"spam": 0.75}))
    assert record.labels == {"spam": 1}
    assert record.soft == {"spam": 0.75}
    record = settled(row({"a": {"violence": 1}}, soft={"spam": 0.75, "insult": 0.1}))
    assert record.labels == {"violence": 1, "spam": 1, "insult": 0}
    assert record.soft == {"spam": 0.75, "insult": 0.1}
    tied = settled(row(soft={"spam": 0.5}))
    assert (tied.labels, tied.soft) == ({}, {"spam": 0.5})


def test_settled_row_keeps_its_id_and_place() -> None:
    record = settled(row({"a": {"spam": 1}}, id="r7", split="dev", pair="p", lang="de", meta={"k": "v"}))
    assert (record.meta, record.split, record.pair, record.lang) == ({"k": "v", "id": "r7"}, "dev", "p", "de")


def test_id_depends_on_text_and_context() -> None:
    assert row({"a": {"spam": 1}}).id == row_id("t", None) != row_id("t", "c") != row_id("tc", None)
    assert row({"a": {"spam": 1}}, id=12).id == "12"


@pytest.mark.parametrize(
    "more",
    [
        {"votes": ["a"]},
        {"votes": {"a": {"other": 1}}},
        {"votes": {"a": {"spam": 2}}},
        {"votes": {"": {"spam": 1}}},
        {"votes": {"a": ["spam"]}},
        {"votes": {"a": {"spam": 1}}, "id": [1]},
        {"soft": {"spam": 1.5}},
        {"labels": {"spam": 1}, "text": " "},
    ],
)
def test_bad_row_is_refused_without_its_text(more: dict[str, object]) -> None:
    with pytest.raises(RowError) as caught:
        parse_labelled({"text": "SECRET", **more}, ids=IDS)
    assert "SECRET" not in str(caught.value)
    assert not isinstance(caught.value, UnansweredError)


@pytest.mark.parametrize("votes", [{}, {"a": {}}, {"a": {"spam": None}}])
def test_row_without_any_answer_is_unanswered(votes: dict[str, dict[str, int]]) -> None:
    with pytest.raises(UnansweredError):
        row(votes)


marks = st.dictionaries(st.sampled_from(IDS), st.integers(0, 1), min_size=1)
texts = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    votes=st.dictionaries(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), marks, min_size=1),
    text=texts,
    context=st.none() | texts,
    labels=marks | st.just({}),
)
def test_row_written_and_read_is_the_same(
    votes: dict[str, dict[str, int]], text: str, context: str | None, labels: dict[str, int]
) -> None:
    before = parse_labelled({"text": text, "context": context, "votes": votes, "labels": labels}, ids=IDS, origin="o")
    assert parse_labelled(json.loads(json.dumps(as_labelled(before))), ids=IDS) == before
