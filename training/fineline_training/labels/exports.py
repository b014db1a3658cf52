"""Rows of other tools' exports, each with every annotator's answer: flat tables, Label Studio, Argilla.

A model's suggestion or prediction is nobody's vote and stays behind, and so do drafts and discarded answers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from fineline_training.labels.mapping import FieldMap, answer, person, wide
from fineline_training.labels.votes import LabelledRow, parse_labelled, row_id
from fineline_training.personal import find_personal
from fineline_training.rowfiles import RowError

SUBMITTED = "submitted"
_LONGEST_NAME = 60
"""Characters of what may be the name of a source or a language, and not a text."""
_KEPT = ("source", "pair", "split", "soft", "meta")


class Context(NamedTuple):
    """What holds for all rows of a file.

    Attributes:
        fields: Its names.
        ids: Label ids there are.
        annotator: Who labelled the rows that do not say; empty if unknown.
        source: Source of rows that name none.
    """

    fields: FieldMap
    ids: Sequence[str]
    annotator: str
    source: str


def _row(values: Mapping[str, Any], context: Context, **said: Any) -> LabelledRow:
    """A row in our schema, of the text's fields in ``values`` and what is said of it."""
    fields = context.fields
    named = {name: values.get(getattr(fields, name)) for name in ("text", "context", "id", "lang")}
    if isinstance(named["id"], float) and named["id"].is_integer():
        named["id"] = int(named["id"])
    row = parse_labelled({**named, **said}, ids=context.ids, source=context.source)
    for name in ("source", "lang"):
        value = getattr(row, name)
        if len(value) > _LONGEST_NAME or find_personal(value):
            raise RowError(f"'{name}' is no short name; records hold it, so rename that field")
    return replace(row, id=row_id(row.text, row.context)) if find_personal(row.id) else row


def flat(row: Mapping[str, Any], context: Context) -> LabelledRow:
    """A row of a table, ours included: labels in a field, or in columns of their own, and who gave them."""
    fields, ids = context.fields, context.ids
    value = row.get(fields.labels)
    if value is None or (value == "" and not row.get("known")):
        value = wide(row, fields, ids)
    marks = {} if value is None else answer(value, fields, ids, row.get("known"))
    kept = {name: row[name] for name in _KEPT if name in row}
    if row.get("votes"):
        if not isinstance(row["votes"], dict):
            raise RowError("'votes' must map annotators to {label id: 0|1}")
        votes = {person(name): given for name, given in row["votes"].items()}
        return _row(row, context, **kept, votes=votes, labels=marks)
    who = row.get(fields.annotator)
    name = context.annotator if who is None else person(who)
    return _row(row, context, **kept, **({"votes": {name: marks}} if name else {"labels": marks}))


def _choices(annotation: Mapping[str, Any], question: str) -> list[str]:
    """The words chosen in one annotation; with several questions only those of the one that is named."""
    results = [part for part in annotation.get("result") or [] if part.get("type") == "choices"]
    names = {part.get("from_name") for part in results}
    if len(names) > 1:
        if question not in names:
            raise RowError("the task asks several questions; name the one with the labels by --labels-field")
        results = [part for part in results if part.get("from_name") == question]
    return [word for part in results for word in part["value"]["choices"]]


def label_studio(row: Mapping[str, Any], context: Context) -> LabelledRow:
    """A task of Label Studio's JSON export; an annotation marked as ground truth decides.

    The task's number is no id: two projects both count from 1. ``data`` may hold one.
    """
    votes: dict[str, dict[str, int]] = {}
    decided: dict[str, int] = {}
    for annotation in row["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        marks = answer(_choices(annotation, context.fields.labels), context.fields, context.ids)
        if annotation.get("ground_truth"):
            decided |= marks
        name = person(annotation["completed_by"]) if annotation.get("completed_by") is not None else context.annotator
        if name:
            _add(votes, name, marks)
        else:
            decided |= marks
    return _row(row["data"], context, votes=votes, labels=decided)


def _add(votes: dict[str, dict[str, int]], name: str, marks: Mapping[str, int]) -> None:
    before = votes.setdefault(name, {})
    if any(before.get(label, mark) != mark for label, mark in marks.items()):
        raise RowError("one annotator answers twice and says two things")
    before |= marks


def _argilla_answers(row: Mapping[str, Any], question: str) -> Iterator[tuple[Any, Any, Any]]:
    """Value, user and status of every answer to a question, from the three shapes that Argilla writes."""
    if isinstance(row.get("responses"), dict):  # to_json: {question: [{value, user_id, status}]}
        given = row["responses"].get(question) or []
    elif isinstance(row.get(f"{question}.responses"), list):  # to_datasets: parallel columns
        values = row[f"{question}.responses"]
        users = row.get(f"{question}.responses.users") or [None] * len(values)
        states = row.get(f"{question}.responses.status") or [None] * len(values)
        if not len(values) == len(users) == len(states):
            raise RowError("the columns of the responses differ in length")
        yield from zip(values, users, states, strict=True)
        return
    else:  # version 1: {question: [{value, user_id, status}]} among the fields
        given = row.get(question) or []
    for part in given:
        yield part.get("value"), part.get("user_id"), part.get("status")


def _argilla_questions(row: Mapping[str, Any]) -> list[str]:
    if isinstance(row.get("responses"), dict):
        return list(row["responses"])
    columns = [key.removesuffix(".responses") for key in row if key.endswith(".responses")]
    return columns or [key.removesuffix("-suggestion") for key in row if key.endswith("-suggestion")]


def argilla(row: Mapping[str, Any], context: Context) -> LabelledRow:
    """A record of an Argilla export (JSON, or the data set's columns)."""
    questions = _argilla_questions(row)
    question = context.fields.labels if context.fields.labels in questions else None
    if question is None and len(questions) > 1:
        raise RowError("the record asks several questions; name the one with the labels by --labels-field")
    votes: dict[str, dict[str, int]] = {}
    decided: dict[str, int] = {}
    for value, user, status in _argilla_answers(row, question or next(iter(questions), "")):
        if value is None or status not in (None, SUBMITTED):
            continue
        marks = answer(value, context.fields, context.ids)
        name = context.annotator if user is None else person(user)
        if name:
            _add(votes, name, marks)
        else:
            decided |= marks
    values = {**row, **(row.get("metadata") or {}), **(row.get("fields") or {})}
    return _row(values | {"id": row.get(context.fields.id)}, context, votes=votes, labels=decided)


def _is_label_studio(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("annotations"), list) and isinstance(row.get("data"), dict)


def _is_argilla(row: Mapping[str, Any]) -> bool:
    nested = isinstance(row.get("fields"), dict) and isinstance(row.get("responses"), dict)
    return nested or any(key.endswith((".responses", "-suggestion")) for key in row)


def reader(name: str, row: Mapping[str, Any]) -> Callable[[Mapping[str, Any], Context], LabelledRow]:
    """What reads the rows of a file.

    Args:
        name: ``labelstudio``, ``argilla``, ``auto``, or a flat format.
        row: The file's first row, which tells the tool where the name does not.
    """
    if name == "labelstudio" or (name == "auto" and _is_label_studio(row)):
        return label_studio
    if name == "argilla" or (name == "auto" and _is_argilla(row)):
        return argilla
    return flat
