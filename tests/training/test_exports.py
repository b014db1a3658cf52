"""Exports of other tools as rows of ours: every annotator's answer, nobody's guess."""

from typing import Any

import pytest

from fineline_training.labels.exports import Context, argilla, flat, label_studio, reader
from fineline_training.labels.mapping import FieldMap
from fineline_training.labels.votes import LabelledRow, UnansweredError
from fineline_training.rowfiles import RowError

IDS = ("violence", "insult", "spam")
NAMES = {"Hate & threats": ("violence", "insult"), "Spam": ("spam",), "Fine": ()}


def context(annotator: str = "", **fields: Any) -> Context:
    values = {"known": ("all",), "names": NAMES, **fields}
    return Context(fields=FieldMap(**values), ids=IDS, annotator=annotator, source="file")


# --- Label Studio -----------------------------------------------------------------------------------------------------


def annotation(choices: list[str], by: object = 1, name: str = "kind", **more: object) -> dict[str, Any]:
    result = [
        {"id": "x", "type": "choices", "from_name": name, "to_name": "text", "value": {"choices": choices}},
        {"id": "y", "type": "labels", "from_name": "span", "value": {"start": 0, "end": 2, "labels": ["PER"]}},
    ]
    return {"id": 9, "completed_by": by, "was_cancelled": False, "ground_truth": False, "result": result, **more}


def task(*annotations: dict[str, Any], **data: object) -> dict[str, Any]:
    return {
        "id": 101,
        "annotations": list(annotations),
        "predictions": [{"result": [{"type": "choices", "value": {"choices": ["Spam"]}}]}],
        "data": {"text": "buy now", "lang": "en", **data},
        "project": 3,
    }


def test_label_studio_keeps_every_annotator() -> None:
    mail = {"id": 7, "email": "ann@corp.com", "first_name": "Ann"}
    row = label_studio(task(annotation(["Spam"]), annotation(["Fine"], by=mail)), context())
    assert row.votes == {
        "1": {"violence": 0, "insult": 0, "spam": 1},
        "7": {"violence": 0, "insult": 0, "spam": 0},
    }
    assert (row.text, row.lang, row.labels) == ("buy now", "en", {})


def test_label_studio_predictions_and_cancelled_annotations_are_no_votes() -> None:
    with pytest.raises(UnansweredError):
        label_studio(task(annotation(["Spam"], was_cancelled=True)), context())


def test_label_studio_ground_truth_decides() -> None:
    row = label_studio(task(annotation(["Spam"]), annotation(["Fine"], by=2, ground_truth=True)), context())
    assert row.labels["spam"] == 0
    assert row.votes["1"]["spam"] == 1


def test_label_studio_task_number_is_no_id_but_the_data_may_hold_one() -> None:
    assert label_studio(task(annotation(["Spam"])), context()).id != "101"
    assert label_studio(task(annotation(["Spam"]), id="r1"), context()).id == "r1"


def test_label_studio_with_several_questions_needs_the_name_of_one() -> None:
    both = annotation(["Spam"])
    both["result"].append({"type": "choices", "from_name": "tone", "value": {"choices": ["rude"]}})
    with pytest.raises(RowError, match="--labels-field"):
        label_studio(task(both), context())
    assert label_studio(task(both), context(labels="kind")).votes["1"]["spam"] == 1


# --- Argilla ----------------------------------------------------------------------------------------------------------

NESTED = {
    "id": "r1",
    "status": "completed",
    "_server_id": "s",
    "fields": {"text": "buy now"},
    "metadata": {"lang": "en"},
    "suggestions": {"kind": {"value": ["Fine"], "score": None, "agent": "model"}},
    "responses": {
        "kind": [
            {"value": ["Spam"], "user_id": "u1", "status": "submitted"},
            {"value": "Fine", "user_id": "u2"},
            {"value": ["Fine"], "user_id": "u3", "status": "draft"},
            {"value": ["Fine"], "user_id": "u4", "status": "discarded"},
        ]
    },
    "vectors": {},
}
COLUMNS = {
    "id": "r1",
    "status": "completed",
    "text": "buy now",
    "lang": "en",
    "kind.suggestion": ["Fine"],
    "kind.suggestion.agent": "model",
    "kind.responses": [["Spam"], ["Fine"], ["Fine"]],
    "kind.responses.users": ["u1", "u2", "u3"],
    "kind.responses.status": ["submitted", "submitted", "draft"],
}
FIRST_VERSION = {
    "external_id": "r1",
    "text": "buy now",
    "lang": "en",
    "kind": [
        {"user_id": "u1", "value": ["Spam"], "status": "submitted"},
        {"user_id": "u2", "value": ["Fine"], "status": "submitted"},
        {"user_id": "u3", "value": ["Fine"], "status": "discarded"},
    ],
    "kind-suggestion": ["Fine"],
    "kind-suggestion-metadata": {"agent": None, "score": None, "type": None},
}


@pytest.mark.parametrize(("row", "key"), [(NESTED, "id"), (COLUMNS, "id"), (FIRST_VERSION, "external_id")])
def test_argilla_shapes_say_the_same(row: dict[str, Any], key: str) -> None:
    read = reader("auto", row)(row, context(id=key))
    assert (read.id, read.text, read.lang) == ("r1", "buy now", "en")
    assert {name: given["spam"] for name, given in read.votes.items()} == {"u1": 1, "u2": 0}
    assert read.labels == {}


def test_argilla_suggestion_alone_is_unanswered() -> None:
    with pytest.raises(UnansweredError):
        argilla(NESTED | {"responses": {"kind": []}}, context())
    with pytest.raises(UnansweredError):
        argilla(NESTED | {"responses": {}}, context())


def test_argilla_with_several_questions_needs_the_name_of_one() -> None:
    two = NESTED | {"responses": {**NESTED["responses"], "tone": [{"value": "rude", "user_id": "u1"}]}}  # type: ignore[dict-item]
    with pytest.raises(RowError, match="--labels-field"):
        argilla(two, context())
    assert set(argilla(two, context(labels="kind")).votes) == {"u1", "u2"}


def test_argilla_annotator_with_two_answers_is_refused() -> None:
    twice = [{"value": "Spam", "user_id": "u"}, {"value": "Fine", "user_id": "u"}]
    with pytest.raises(RowError, match="twice"):
        argilla(NESTED | {"responses": {"kind": twice}}, context())


# --- flat -------------------------------------------------------------------------------------------------------------


def read(row: dict[str, Any], annotator: str = "", **fields: Any) -> LabelledRow:
    return flat(row, context(annotator, **fields))


def test_columns_that_are_labels_hold_marks() -> None:
    row = read({"text": "t", "spam": "1", "insult": "0", "Hate & threats": None, "other": "x"}, annotator="a")
    assert row.votes == {"a": {"spam": 1, "insult": 0}}


@pytest.mark.parametrize(
    "value",
    ["Spam;insult", ["Spam", "insult"], '["Spam", "insult"]', {"choices": ["Spam", "insult"]},
     '{"choices": ["Spam", "insult"]}', {"Spam": 1, "insult": True, "violence": "no"}],
)  # fmt: skip
def test_labels_in_any_form(value: object) -> None:
    assert read({"text": "t", "labels": value}).labels == {"violence": 0, "insult": 1, "spam": 1}


def test_words_of_a_file_are_mapped_and_numbers_are_words() -> None:
    names = {"1": ("spam",), "0": ()}
    assert read({"body": "t", "y": 1}, text="body", labels="y", known=("spam",), names=names).labels == {"spam": 1}
    assert read({"body": "t", "y": 0}, text="body", labels="y", known=("spam",), names=names).labels == {"spam": 0}


def test_word_that_means_no_label_is_refused_by_its_place() -> None:
    with pytest.raises(RowError, match="entry 2") as caught:
        read({"text": "t", "labels": ["Spam", "SECRET"]})
    assert "SECRET" not in str(caught.value)


def test_list_without_what_was_looked_at_is_refused_and_the_row_may_say_it() -> None:
    with pytest.raises(RowError, match="--known"):
        read({"text": "t", "labels": ["spam"]}, known=())
    assert read({"text": "t", "labels": ["spam"], "known": ["insult"]}, known=()).labels == {"insult": 0, "spam": 1}
    assert read({"text": "t", "labels": [], "known": "all"}, known=()).labels == dict.fromkeys(IDS, 0)


def test_row_names_its_annotator_and_mail_addresses_are_not_kept() -> None:
    row = read({"text": "t", "spam": 1, "annotator": "ann@corp.com"}, annotator="other")
    assert [name.split("-")[0] for name in row.votes] == ["person"]
    assert row.votes == read({"text": "t", "spam": 1, "annotator": "Ann@corp.com"}).votes


def test_votes_of_our_schema_stay_beside_decisions() -> None:
    row = read({"text": "t", "votes": {"a": {"spam": 1}}, "labels": {"spam": 0}, "meta": {"k": "v"}, "split": "dev"})
    assert (row.votes, row.labels, row.meta, row.split) == ({"a": {"spam": 1}}, {"spam": 0}, {"k": "v"}, "dev")


def test_row_without_labels_is_unanswered() -> None:
    with pytest.raises(UnansweredError):
        read({"text": "t", "note": "x"}, annotator="a")


@pytest.mark.parametrize("field", ["source", "lang"])
@pytest.mark.parametrize(
    "value", ["Whoever wrote this sentence did not mean it as the name of anything.", "a@company.org"]
)
def test_a_name_that_may_be_a_text_or_a_person_is_refused(field: str, value: str) -> None:
    with pytest.raises(RowError, match=f"'{field}' is no short name") as caught:
        read({"text": "t", "labels": ["insult"], field: value})
    assert value not in str(caught.value)


def test_an_id_that_names_a_person_is_replaced() -> None:
    row = read({"text": "t", "labels": ["insult"], "id": "anna@company.org"})
    assert "anna" not in row.id
    assert row.id == read({"text": "t", "labels": ["insult"]}).id
