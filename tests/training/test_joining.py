"""Rows of several files brought together: votes joined, contradictions and double ids refused with both places."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fineline_training.labels.joining import ANOTHER_TEXT, CONTRADICTION, join
from fineline_training.labels.team_gates import Placed
from fineline_training.labels.votes import SET_ASIDE, LabelledRow


def made(key: str, text: str, votes: dict[str, dict[str, int]] | None = None, **more: Any) -> LabelledRow:
    values = {"lang": "en", "source": "s", **more}
    return LabelledRow(id=key, text=text, votes=votes or {}, **values)


def placed(*rows: LabelledRow, file: str = "a.jsonl") -> list[Placed]:
    return [Placed(file, line, row) for line, row in enumerate(rows, 1)]


def test_one_row_a_text_with_the_votes_of_all() -> None:
    rows = placed(made("1", "t", {"a": {"spam": 1}}), file="a") + placed(made("2", "t", {"b": {"spam": 0}}), file="b")
    joined = join(rows)
    assert [(row.id, row.votes, row.origin) for row in joined.rows] == [
        ("1", {"a": {"spam": 1}, "b": {"spam": 0}}, "a line 1")
    ]
    assert (joined.new, joined.added, joined.repeated, joined.conflicts) == (1, 1, 0, [])


def test_context_makes_another_text() -> None:
    assert join(placed(made("1", "t", {"a": {"spam": 1}}), made("2", "t", {"a": {"spam": 0}}, context="c"))).new == 2


def test_same_rows_again_change_nothing() -> None:
    held = [made("1", "t", {"a": {"spam": 1}}), made("2", "u", {"a": {"spam": 0}})]
    joined = join(placed(*held), held)
    assert (joined.rows, joined.new, joined.added, joined.repeated) == ([], 0, 0, 2)


def test_more_votes_on_a_stored_row() -> None:
    joined = join(placed(made("9", "t", {"b": {"spam": 1}})), [made("1", "t", {"a": {"spam": 1}}, origin="old")])
    assert [(row.id, set(row.votes), row.origin) for row in joined.rows] == [("1", {"a", "b"}, "old")]
    assert (joined.new, joined.added) == (0, 1)


def test_second_text_under_an_id_is_refused_with_the_first_place() -> None:
    rows = placed(made("1", "t", {"a": {"spam": 1}}), file="a") + placed(made("1", "u", {"a": {"spam": 1}}), file="b")
    joined = join(rows)
    assert joined.conflicts == [("b", 1, ANOTHER_TEXT, "a line 1")]
    assert [row.text for row in joined.rows] == ["t"]
    stored = join(placed(made("1", "u", {"a": {"spam": 1}})), [made("1", "t", origin="2026-01-01-1 x line 2")])
    assert stored.conflicts[0].other == "the store (2026-01-01-1 x line 2)"


def test_contradicting_rows_both_go_and_the_rest_stays() -> None:
    rows = placed(
        made("1", "t", {"a": {"spam": 1, "insult": 0}}),
        made("2", "t", {"a": {"spam": 0}}),
        made("3", "t", {"b": {"spam": 0}}),
        made("4", "u", {"a": {"spam": 0}}),
    )
    joined = join(rows)
    assert [(part.line, part.reason, part.other) for part in joined.conflicts] == [
        (1, CONTRADICTION, "a.jsonl line 2, on spam"),
        (2, CONTRADICTION, "a.jsonl line 1, on spam"),
    ]
    assert [row.id for row in joined.rows] == ["3", "4"]


def test_row_that_contradicts_the_store_goes_alone() -> None:
    joined = join(placed(made("2", "t", {"a": {"spam": 0}})), [made("1", "t", {"a": {"spam": 1}}, origin="old")])
    assert [part.other for part in joined.conflicts] == ["the store (old), on spam"]
    assert joined.rows == []


def test_decisions_contradict_each_other_and_votes_do_not_contradict_them() -> None:
    assert len(join(placed(made("1", "t", labels={"spam": 1}), made("2", "t", labels={"spam": 0}))).conflicts) == 2
    assert join(placed(made("1", "t", labels={"spam": 1}), made("2", "t", {"a": {"spam": 0}}))).conflicts == []


def test_what_one_row_leaves_open_comes_from_the_other() -> None:
    first = made("1", "t", {"a": {"spam": 1}}, lang="und", meta={"k": "1"})
    second = made("2", "t", {"a": {"insult": 0}}, lang="de", pair="p", split="dev", meta={"k": "2", "l": "3"})
    (row,) = join(placed(first, second)).rows
    assert (row.lang, row.pair, row.split, row.meta) == ("de", "p", "dev", {"k": "1", "l": "3"})
    assert row.votes == {"a": {"spam": 1, "insult": 0}}


votes = st.dictionaries(st.sampled_from("ab"), st.dictionaries(st.sampled_from(["spam", "x"]), st.integers(0, 1)))
cells = st.tuples(st.sampled_from("1234"), st.sampled_from("tu"), votes)


@given(given_rows=st.lists(cells, max_size=7), held=st.lists(cells, max_size=3, unique_by=lambda cell: cell[0]))
def test_every_row_is_counted_once_and_no_vote_is_invented(
    given_rows: list[tuple[str, str, dict[str, dict[str, int]]]], held: list[tuple[str, str, dict[str, dict[str, int]]]]
) -> None:
    stored = list({row.text: row for row in (made(*cell) for cell in held)}.values())
    rows = placed(*(made(*cell) for cell in given_rows))
    joined = join(rows, stored)
    assert joined.new + joined.added + joined.repeated + len(joined.conflicts) == len(rows)
    after = {row.text: row for row in stored} | {row.text: row for row in joined.rows}
    said = {
        (row.text, name, label, mark)
        for row in [*stored, *(part.row for part in rows)]
        for name, marks in row.votes.items()
        for label, mark in marks.items()
    }
    kept = {
        (text, name, label, mark)
        for text, row in after.items()
        for name, marks in row.votes.items()
        for label, mark in marks.items()
    }
    assert kept <= said


def test_a_second_look_takes_back_what_was_set_aside() -> None:
    aside = replace(made("a", "text", {"ann": {"insult": 1}}), meta={SET_ASIDE: "insult,violence"})
    looked = made("a", "text", {"ben": {"insult": 1}})
    [row] = join(placed(looked), [aside]).rows
    assert row.set_aside == {"violence"}
    [row] = join(placed(made("a", "text", {"ann": {"insult": 1}})), [aside]).rows or [aside]
    assert row.set_aside == {"insult", "violence"}
