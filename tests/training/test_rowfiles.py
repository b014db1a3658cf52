"""Rows out of whole and damaged files: what is read before the damage, and what is said about it."""

import gzip
import json
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from fineline.errors import DataError
from fineline_training.rowfiles import RowError, raw_rows


def good(path: Path) -> list[object]:
    return [row for _, row in raw_rows(path) if not isinstance(row, RowError)]


def bad(path: Path) -> dict[int, str]:
    return {line: str(row) for line, row in raw_rows(path) if isinstance(row, RowError)}


def parquet(path: Path, rows: int = 30) -> Path:
    table = pa.table({"text": [f"text {number}" * 9 for number in range(rows)]})
    pq.write_table(table, path, row_group_size=10, use_dictionary=False)
    return path


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
def test_table_is_read_with_the_sign_its_header_uses(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'text{sign}lang\n"a, b; c"{sign}en\n', encoding="utf-8")
    assert good(path) == [{"text": "a, b; c", "lang": "en"}]


def test_blank_lines_of_a_table_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,lang\n\na,en\n\n", encoding="utf-8")
    assert list(raw_rows(tmp_path / "a.csv")) == [(3, {"text": "a", "lang": "en"})]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_list_is_read_by_element(tmp_path: Path, indent: int | None) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"a": 1}, {"b": [2]}, []], indent=indent), encoding="utf-8")
    assert list(raw_rows(tmp_path / "a.json")) == [(1, {"a": 1}), (2, {"b": [2]}), (3, [])]


def test_json_list_that_was_cut_off_gives_its_whole_elements(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1}, {"b": 2}, {"c', encoding="utf-8")
    assert good(tmp_path / "a.json") == [{"a": 1}, {"b": 2}]
    assert "from here on" in bad(tmp_path / "a.json")[3]


def test_json_ending_on_one_row_a_line_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}\n{"b": 2}\n', encoding="utf-8")
    assert good(tmp_path / "a.json") == [{"a": 1}, {"b": 2}]


def test_nesting_without_end_costs_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 100_000 + '\n{"a": 1}\n', encoding="utf-8")
    assert good(tmp_path / "a.jsonl") == [{"a": 1}]
    assert set(bad(tmp_path / "a.jsonl")) == {1}


def test_utf16_with_its_mark_is_read_as_that(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text;lang\n他说；好\n".replace("；", ";").encode("utf-16"))
    assert good(tmp_path / "a.csv") == [{"text": "他说", "lang": "好"}]


def test_half_a_parquet_file_is_one_clear_error(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="the end of the file") as caught:
        list(raw_rows(tmp_path / "a.parquet"))
    assert caught.value.code == "rows_unreadable"


def test_damaged_row_group_costs_its_rows_alone(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet")
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    assert len(good(path)) == 20
    assert bad(path) == {11: "rows 11 to 20 are damaged and cannot be read"}


def test_empty_list_in_parquet_stays_a_list_and_a_map_becomes_a_mapping(tmp_path: Path) -> None:
    kind = pa.schema([("labels", pa.list_(pa.string())), ("meta", pa.map_(pa.string(), pa.string()))])
    table = pa.Table.from_pylist([{"labels": [], "meta": []}, {"labels": ["x"], "meta": [("k", "v")]}], schema=kind)
    pq.write_table(table, tmp_path / "a.parquet")
    assert good(tmp_path / "a.parquet") == [{"labels": [], "meta": {}}, {"labels": ["x"], "meta": {"k": "v"}}]


def test_text_in_parquet_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    texts = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\x01\0\0\0\x03\0\0\0"), pa.py_buffer(b"a\xff\xfe")]
    )
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    assert good(tmp_path / "a.parquet") == [{"text": "a"}]
    assert set(bad(tmp_path / "a.parquet")) == {2}


def test_rows_before_the_cut_of_a_packed_file_come_first(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"number": number}) + "\n" for number in range(9000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0)[:-40])
    numbers = []
    with pytest.raises(DataError, match="EOFError"):
        for _, row in raw_rows(tmp_path / "a.jsonl.gz"):
            numbers.append(row["number"])  # type: ignore[index]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 1000
