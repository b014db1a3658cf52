"""Files of labelled rows: what wrote them is found out, and a bad row or file costs no other."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fineline.errors import DataError
from fineline_training.labels.mapping import FieldMap
from fineline_training.labels.reading import FileRows, ReadOptions, read_file
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import as_labelled

IDS = ("violence", "insult", "spam")
CHINESE = "他说要是你不把钱还给我，我就去你的公司找你，到时候别怪我。"
STUDIO = [
    {
        "id": number,
        "data": {"text": f"text {number}"},
        "annotations": [
            {
                "completed_by": number % 2,
                "result": [{"type": "choices", "from_name": "k", "value": {"choices": ["spam"]}}],
            }
        ],
    }
    for number in range(3)
]
ARGILLA = [
    {"id": "r", "fields": {"text": "t"}, "responses": {"k": [{"value": ["spam"], "user_id": "u"}]}, "suggestions": {}}
]


def read(path: Path, **options: Any) -> FileRows:
    fields = options.pop("fields", FieldMap(known=("all",)))
    return read_file(path, IDS, ReadOptions(fields=fields, **options))


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "shape"), [(STUDIO, "label studio"), (ARGILLA, "argilla"), ([{"text": "t", "spam": 1}], "a table")]
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_what_wrote_a_file_is_found_out(tmp_path: Path, content: list[object], shape: str, name: str) -> None:
    path = tmp_path / name
    if name == "a.json":
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    else:
        lines(path, *content)
    found = read(path)
    assert (found.format, len(found.rows), found.refused) == (shape, len(content), [])
    assert all(part.row.votes or part.row.labels for part in found.rows)


def test_argilla_columns_in_parquet(tmp_path: Path) -> None:
    rows = [
        {"id": "r", "text": "t", "k.responses": [["spam"], []], "k.responses.users": ["u", "v"], "k.suggestion": None}
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (part,) = read(tmp_path / "a.parquet").rows
    assert {name: given["spam"] for name, given in part.row.votes.items()} == {"u": 1, "v": 0}


def test_rows_of_another_store_come_back_as_they_are(tmp_path: Path) -> None:
    store = LabelStore.open(tmp_path / "store", create=True)
    first = read(lines(tmp_path / "a.jsonl", {"text": "t", "votes": {"a": {"insult": 1}}, "labels": {"violence": 0}}))
    store.add([part.row for part in first.rows], {})
    again = read(store.path / "rows.jsonl", source="s")
    assert [as_labelled(part.row) | {"origin": ""} for part in again.rows] == [
        as_labelled(row) | {"origin": ""} for row in store.rows()
    ]


def test_feedback_export_is_decided_rows(tmp_path: Path) -> None:
    row = {"text": "t", "context": "c", "labels": ["spam"], "known": ["spam", "insult"], "lang": "en"}
    (part,) = read(lines(tmp_path / "out.jsonl", row), format="feedback", fields=FieldMap()).rows
    assert (part.row.source, part.row.labels, part.row.votes) == ("feedback", {"spam": 1, "insult": 0}, {})


def test_mixed_encodings_are_recovered_or_refused_by_row(tmp_path: Path) -> None:
    def row(text: str) -> str:
        return json.dumps({"text": text, "spam": 1}, ensure_ascii=False) + "\n"

    path = tmp_path / "a.jsonl"
    path.write_bytes(row(CHINESE).encode() + row(CHINESE + "啊").encode("gb18030") + row("mañana").encode("cp1252"))
    found = read(path)
    assert [part.row.text for part in found.rows] == [CHINESE, CHINESE + "啊"]
    assert found.recovered == 1
    assert [(refusal.line, refusal.reason) for refusal in found.refused] == [(3, "'text' is not valid UTF-8")]
    assert read(path, encoding="cp1252").rows[-1].row.text == "mañana"


def test_half_a_file_costs_itself_and_keeps_what_is_whole(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["t"] * 99, "spam": [1] * 99}), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    found = read(tmp_path / "a.parquet")
    assert (found.rows, [refusal.line for refusal in found.refused]) == ([], [0])
    (tmp_path / "a.json").write_text(json.dumps(STUDIO)[:-40], encoding="utf-8")
    found = read(tmp_path / "a.json")
    assert (len(found.rows), [refusal.line for refusal in found.refused]) == (2, [3])


def test_each_bad_row_is_named_by_line_and_reason_and_never_quoted(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {"text": "SECRET", "labels": {"other": 1}},
        {"text": "good", "labels": {"spam": 1}},
        {"text": "SECRET", "labels": {"spam": "SECRET"}},
        ["SECRET"],
        {"body": "SECRET", "labels": {"spam": 1}},
        {"text": "SECRET", "note": "nobody answered"},
    )
    found = read(path)
    assert [part.line for part in found.rows] == [2]
    assert [refusal.line for refusal in found.refused] == [1, 3, 4, 5]
    assert found.unanswered == 1
    assert "SECRET" not in str(found.refused)


def test_export_with_a_part_of_another_type_costs_one_row(tmp_path: Path) -> None:
    broken = [*STUDIO, {"data": {"text": "t"}, "annotations": [7]}, {"data": {"text": "t"}}]
    (tmp_path / "a.json").write_text(json.dumps(broken), encoding="utf-8")
    found = read(tmp_path / "a.json")
    assert (len(found.rows), [refusal.reason for refusal in found.refused]) == (
        3,
        ["is not built like a row of label studio"] * 2,
    )


@pytest.mark.parametrize(
    ("name", "form", "code"),
    [
        ("a.jsonl", "parquet", "rows_format"),
        ("a.jsonl", "csv", "rows_format"),
        ("a.xlsx", "auto", "rows_format"),
        ("none.jsonl", "auto", "rows_missing"),
    ],
)
def test_wrong_path_or_kind_is_one_error(tmp_path: Path, name: str, form: str, code: str) -> None:
    lines(tmp_path / "a.jsonl", {"text": "t"})
    lines(tmp_path / "a.xlsx", {"text": "t"})
    with pytest.raises(DataError) as caught:
        read(tmp_path / name, format=form)
    assert caught.value.code == code


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
names = ("labels", "known", "votes", "id", "annotator", "spam", "meta", "soft", "responses", "fields", "annotations")
shapes = st.fixed_dictionaries({"text": values | st.just("t")}, optional=dict.fromkeys((*names, "data"), values))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=values | shapes, name=st.sampled_from(["auto", "labelstudio", "argilla", "jsonl"]))
def test_any_row_is_read_refused_or_unanswered(tmp_path: Path, row: object, name: str) -> None:
    found = read(lines(tmp_path / "a.jsonl", row), format=name)
    assert len(found.rows) + len(found.refused) + found.unanswered == 1
    for part in found.rows:
        assert set().union(*part.row.votes.values(), part.row.labels, part.row.soft) <= set(IDS)
