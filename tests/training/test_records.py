"""Rows in and out of files: what is kept, what is refused, and what a refusal may say."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_training.records import Record, as_row, parse_row, read_rows, write_rows

FORMATS = ("rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.csv.gz", "rows.parquet")
ROWS = [
    Record(
        text='Quote " comma , break\nend', lang="en", labels={"violence": 1, "insult": 0}, source="s", meta={"k": "v"}
    ),
    Record(text="只有文字", context="问题", lang="zh", labels={}, source="s", pair="p", split="dev"),
    Record(text="سطر", lang="ar", labels={"insult": 0}, source="s", split="test", meta={"any_of": "insult,violence"}),
]


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_write_then_read_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert write_rows(tmp_path / name, ROWS) == 3
    rows = read_rows(tmp_path / name)
    assert rows.records == ROWS
    assert rows.refused == []


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows_give_a_readable_file(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / name, [])
    assert read_rows(tmp_path / name) == ([], [])


def test_gzip_bytes_depend_on_the_rows_alone(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl.gz", ROWS)
    write_rows(tmp_path / "b.jsonl.gz", iter(ROWS))
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_rows(path, ROWS[:1])
    before = path.read_bytes()

    def broken() -> object:
        yield ROWS[1]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_rows(path, broken())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{not json", "not valid JSON"),
        (["a", "list"], "not an object"),
        ({"labels": {}}, "'text' is missing"),
        ({"text": "  ", "labels": {}}, "'text' is missing"),
        ({"text": 7, "labels": {}}, "'text' must be a string"),
        ({"text": "secret"}, "'labels' is missing"),
        ({"text": "secret", "labels": ["violence"]}, "needs 'known'"),
        ({"text": "secret", "labels": ["secret"], "known": "all"}, "entry 1 of 'labels'"),
        ({"text": "secret", "labels": [], "known": ["violence", "secret"]}, "entry 2 of 'known'"),
        ({"text": "secret", "labels": [], "known": "secret"}, "'known' must be a list"),
        ({"text": "secret", "labels": {"violence": 2}}, "must be 0 or 1"),
        ({"text": "secret", "labels": {"violence": "secret"}}, "must be 0 or 1"),
        ({"text": "secret", "labels": {"violence": [1]}}, "must be 0 or 1"),
        ({"text": "secret", "labels": [["violence"]], "known": "all"}, "entry 1 of 'labels'"),
        ({"text": "secret", "labels": {}, "split": "secret"}, "'split' must be one of"),
        ({"text": "secret", "labels": {}, "meta": {"n": 1}}, "'meta' must map"),
        ({"text": "secret", "labels": {}, "meta": "secret"}, "'meta' must map"),
        ('{"text": "secret\\ud800", "labels": {}}', "not valid UTF-8"),
    ],
)
def test_bad_row_is_refused_by_line_without_its_text_and_the_rest_kept(
    tmp_path: Path, row: object, reason: str
) -> None:
    good = {"text": "fine", "labels": {}}
    rows = read_rows(write_lines(tmp_path / "in.jsonl", good, row, good))
    assert [record.text for record in rows.records] == ["fine", "fine"]
    (refusal,) = rows.refused
    assert (refusal.file, refusal.line) == ("in.jsonl", 2)
    assert reason in refusal.reason
    assert "secret" not in refusal.reason


def test_user_form_all_known_makes_the_other_labels_zero() -> None:
    record = parse_row({"text": "t", "labels": ["violence"], "known": "all"})
    assert record.labels == dict.fromkeys(load_taxonomy().ids, 0) | {"violence": 1}
    assert record.lang == "und"


def test_user_form_partly_known_leaves_the_rest_unknown() -> None:
    record = parse_row({"text": "t", "labels": ["violence"], "known": ["insult"], "lang": "de"})
    assert record.labels == {"violence": 1, "insult": 0}
    assert record.lang == "de"


def test_columns_that_are_not_ours_are_left_behind(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "in.jsonl", {"text": "t", "labels": {}, "user_id": "u-1", "city": "x"})
    assert set(as_row(read_rows(path).records[0])) == {"text", "lang", "labels", "source", "split"}


def test_source_defaults_to_the_file_name(tmp_path: Path) -> None:
    write_lines(tmp_path / "mine.jsonl", {"text": "t", "labels": {}})
    assert read_rows(tmp_path / "mine.jsonl").records[0].source == "mine"


def test_csv_in_user_form_with_bad_cells(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        csv.writer(stream).writerows(
            [
                ["text", "labels", "known"],
                ["two", "violence; insult", "all"],
                ["none", "", "all"],
                ["too", "many", "cells", "here"],
                ["broken", "{", "all"],
                ["list", '["violence"]', "insult;violence"],
            ]
        )
    rows = read_rows(path)
    assert [[k for k, v in record.labels.items() if v] for record in rows.records] == [
        ["violence", "insult"],
        [],
        ["violence"],
    ]
    assert [(refusal.line, refusal.reason.split()[0]) for refusal in rows.refused] == [(4, "4"), (5, "'labels',")]


def test_one_badly_encoded_line_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "a", "labels": {}}\n{"text": "\xff\xfe", "labels": {}}\n{"text": "b", "labels": {}}\n')
    rows = read_rows(path)
    assert [record.text for record in rows.records] == ["a", "b"]
    assert rows.refused[0].line == 2


def test_parquet_written_by_others_reads_both_label_forms(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "labels": {"violence": 1, "insult": None}},
        {"text": "b", "labels": {"violence": None, "insult": 0}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "struct.parquet")
    assert [dict(r.labels) for r in read_rows(tmp_path / "struct.parquet").records] == [{"violence": 1}, {"insult": 0}]
    listed = pa.Table.from_pylist([{"text": "a", "labels": ["violence"], "known": ["insult"]}])
    pq.write_table(listed, tmp_path / "list.parquet")
    assert read_rows(tmp_path / "list.parquet").records[0].labels == {"insult": 0, "violence": 1}


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("none.jsonl", None, "rows_missing"),
        ("rows.xlsx", b"", "rows_format"),
        ("rows.parquet", b"no parquet", "rows_unreadable"),
        ("rows.jsonl.gz", b"no gzip", "rows_unreadable"),
        ("torn.jsonl.gz", gzip.compress(b"x" * 999, mtime=0)[:10] + b"\xff" * 20, "rows_unreadable"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a", "labels": {}}\n' * 50)[:-12], "rows_unreadable"),
    ],
)
def test_unreadable_file_is_one_clear_error(tmp_path: Path, name: str, content: bytes | None, code: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / name)
    assert caught.value.code == code


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
row_shapes = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("text", "labels", "known", "split", "meta", "lang"), json_values)
)


@given(row=json_values | row_shapes)
def test_parse_row_accepts_or_refuses_and_never_fails_otherwise(row: object) -> None:
    try:
        record = parse_row(row)
    except ValueError:
        return
    assert record.text.strip()
    assert set(record.labels.values()) <= {0, 1}
