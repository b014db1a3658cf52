"""Readers and writers of corpora: every row in its place, damage named, formats kept."""

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline.errors import ConfigError, InputError
from fineline.scan import documents
from fineline.scan.documents import Document, Fields, Reject, list_inputs, open_writer, read_documents, read_rows

ALL = Fields(text="t", id="i", lang="l", source="s", context="c")
ENDS = ("jsonl", "jsonl.gz", "jsonl.zst", "csv", "csv.gz", "csv.zst", "parquet")
ROWS = [
    {"t": 'first\r\nline, "quoted"', "i": "a", "l": "en", "s": "web", "c": "why?", "more": "1"},
    {"t": "二つ目\u2028の文", "i": "b", "l": "ja", "s": "forum", "c": "", "more": "007"},
    {"t": "", "i": "c", "l": "", "s": "web", "c": "x\ry", "more": ""},
]


def packed(content: bytes, name: str) -> bytes:
    if not name.endswith((".gz", ".zst")):
        return content
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "gzip" if name.endswith(".gz") else "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def write(path: Path, rows: list[dict]) -> Path:
    """Write rows with the libraries themselves, not with the writers under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ".csv" in path.name:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, list(rows[0]), quoting=csv.QUOTE_ALL)
        table.writeheader()
        table.writerows(rows)
        path.write_bytes(packed(text.getvalue().encode(), path.name))
    else:
        path.write_bytes(packed("".join(json.dumps(row) + "\n" for row in rows).encode(), path.name))
    return path


def read(path: Path | str, fields: Fields = ALL, number: int = 3) -> list[Document | Reject]:
    (file,) = list_inputs(str(path))
    return list(read_documents(file, number, fields))


def reasons(path: Path, fields: Fields = Fields()) -> list[str | None]:  # noqa: B008
    return [row.reason if isinstance(row, Reject) else None for row in read(path, fields)]


# --- documents


@pytest.mark.parametrize("end", ENDS)
def test_every_format_gives_the_same_documents(tmp_path, end):
    assert read(write(tmp_path / f"a.{end}", ROWS)) == [
        Document(3, 0, ROWS[0]["t"], "why?", "a", "en", "web"),
        Document(3, 1, ROWS[1]["t"], None, "b", "ja", "forum"),
        Document(3, 2, "", "x\ry", "c", None, "web"),
    ]


def test_fields_that_are_not_named_are_not_read(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"text": "x", "id": "1", "lang": "en", "source": "s", "context": 5}])
    assert read(path, Fields()) == [Document(3, 0, "x")]


def test_labels_that_are_no_strings_become_json_that_arrow_can_hold(tmp_path):
    values = [5, 0, True, None, {"a": "é"}, "\ud800x", 1.5]
    path = write(tmp_path / "a.jsonl", [{"text": "x", "id": value} for value in values])
    ids = [row.id for row in read(path, Fields(id="id"))]
    assert ids == ["5", "0", "true", None, '{"a": "é"}', "?x", "1.5"]
    assert pa.array(ids, pa.string()).to_pylist() == ids


def test_bad_json_rows_are_rejected_in_their_place_and_blank_lines_are_none(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\n\n  \r\nsecret words\n["secret"]\n{"text": 5}\n{"other": "x"}\n'
        b'{"text": "\xff"}\n' + b"[" * 100_000 + b"\n" + b'{"text": ' + b"9" * 5000 + b'}\n{"text": "\\ud800"}\n'
        b'{"text": "y", "c": 1}\n{"text": "last"}'
    )
    found = read(tmp_path / "a.jsonl", Fields(context="c"))
    assert [row.row for row in found] == list(range(11))
    assert [row.reason if isinstance(row, Reject) else row.text for row in found] == [
        "one", "not valid JSON", "not a JSON object", "no string field 'text'", "no string field 'text'",
        "not valid JSON", "not valid JSON", "not valid JSON", "\ud800", "field 'c' is neither a string nor null",
        "last",
    ]  # fmt: skip
    (file,) = list_inputs(str(tmp_path))
    assert [row is None for row in read_rows(file)] == [
        isinstance(row, Reject) and "JSON" in row.reason for row in found
    ]


def test_bad_csv_rows_are_rejected_in_their_place(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbftext,id\r\none,1\n\nshort\nlong,2,3\n"\xff",4\n"two\nlines",5\nnul\0,6\n"never closed,7\n'
    )
    assert reasons(tmp_path / "a.csv") == [
        None, "1 fields where the header has 2", "3 fields where the header has 2", "not valid UTF-8", None, None,
        "1 fields where the header has 2",
    ]  # fmt: skip


def test_bad_parquet_cells_are_rejected_in_their_place(tmp_path):
    offsets = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 2, 4, 6)))
    text = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"ab\xff\xfecd")])
    pq.write_table(pa.table({"text": text, "lang": ["en", None, "en"]}), tmp_path / "a.parquet")
    assert reasons(tmp_path / "a.parquet") == [None, "not valid UTF-8", None]
    assert reasons(tmp_path / "a.parquet", Fields(text="body")) == ["no string field 'body'"] * 3


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_strings_of_parquet_may_have_any_type(tmp_path, kind):
    column = pa.array(["a", None, "a"])
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert reasons(tmp_path / "a.parquet") == [None, "no string field 'text'", None]


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_a_name_that_two_columns_have_is_refused(tmp_path, end):
    path = tmp_path / f"a.{end}"
    if end == "csv":
        path.write_text("text,text\na,b\n")
    else:
        pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), path)
    assert reasons(path) == ["two columns have one name"]


@pytest.mark.parametrize("end", ["jsonl", "csv", "txt"])
def test_what_is_too_long_is_rejected_and_the_next_row_read(tmp_path, monkeypatch, end):
    monkeypatch.setattr(documents, "LONGEST", 100)
    long = "x" * 500
    path = tmp_path / f"a.{end}"
    path.write_text(
        {"jsonl": f'{{"text": "{long}"}}\n{{"text": "y"}}\n', "csv": f'text\n"{long}"\ny\n', "txt": long}[end]
    )
    found = reasons(path)
    assert found[0] == "longer than 64 MiB"
    assert found[-1] is (None if end != "txt" else found[0])


# --- damage and storage


@pytest.mark.parametrize("end", ["jsonl.gz", "jsonl.zst", "csv.gz", "parquet"])
@pytest.mark.parametrize("harm", ["cut", "junk", "empty"])
def test_a_damaged_file_ends_with_a_reject(tmp_path, end, harm):
    path = write(tmp_path / f"a.{end}", [{"text": f"{n} {n * n * n}"} for n in range(300)])
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "junk": b"no such format " * 9, "empty": b""}[harm])
    found = read(path, Fields())
    if harm == "empty" and end != "parquet":
        assert not found
    else:
        assert [isinstance(row, Reject) for row in found] == [False] * (len(found) - 1) + [True]
        assert found[-1].reason.startswith("the file is damaged")
        assert found[-1].row == len(found) - 1
    (file,) = list_inputs(str(path))
    assert len(list(read_rows(file))) == len(found)


@pytest.mark.parametrize("end", ["jsonl.gz", "jsonl.zst"])
def test_files_that_were_compressed_in_pieces_are_read_to_the_end(tmp_path, end):
    path = tmp_path / f"a.{end}"
    path.write_bytes(b"".join(packed(b'{"text": "%d"}\n' % n, end) for n in range(3)))
    assert [row.text for row in read(path, Fields())] == ["0", "1", "2"]


def test_a_failing_storage_is_an_error_and_no_reject(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl.gz", [{"text": str(n)} for n in range(5)])
    (file,) = list_inputs(str(path))

    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "secret")

    monkeypatch.setattr(type(fsspec.filesystem("file")), "open", lambda *_, **__: Failing())
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: cannot be read \(OSError\)") as caught:
        list(read_documents(file, 0, Fields()))
    assert caught.value.code == "input_file"
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("end", ["jsonl", "jsonl.zst", "csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, end):
    few, many = (
        write(tmp_path / f"{count}.{end}", [{"text": f"{n} " + "x" * 2000} for n in range(count)])
        for count in (500, 4000)
    )

    def peak(path: Path) -> int:
        (file,) = list_inputs(str(path))
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        held = 0
        for _ in read_documents(file, 0, Fields()):
            held = max(held, pa.total_allocated_bytes() - before)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top + held

    peak(few)
    assert peak(many) < peak(few) + 3_000_000


# --- places


def test_a_folder_is_listed_to_the_bottom_in_order_without_other_files(tmp_path):
    for name in ("b/2.jsonl", "b/10.jsonl", "a.csv.gz", "c.txt", "d.parquet", "e.json.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"123")
    for name in (".hidden.jsonl", "_SUCCESS", "README.md", "x.parquet.gz", "y.gz", "z.jsonl.crc"):
        (tmp_path / name).write_bytes(b"1")
    found = list_inputs(str(tmp_path))
    assert [Path(file.url).relative_to(tmp_path).as_posix() for file in found] == [
        "a.csv.gz", "b/10.jsonl", "b/2.jsonl", "c.txt", "d.parquet", "e.json.gz",
    ]  # fmt: skip
    assert [file.format for file in found] == ["csv", "jsonl", "jsonl", "text", "parquet", "jsonl"]
    assert {file.bytes for file in found} == {3}
    assert [Path(file.url).name for file in list_inputs(f"{tmp_path}/b/*.jsonl")] == ["10.jsonl", "2.jsonl"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    for name in ("a[1].jsonl", "a1.jsonl"):
        (tmp_path / name).write_text("{}\n")
    (found,) = list_inputs(f"{tmp_path}/a[1].jsonl")
    assert Path(found.url).name == "a[1].jsonl"
    assert [row.reason for row in read_documents(found, 0, Fields())] == ["no string field 'text'"]


def test_a_relative_path_becomes_absolute_because_workers_may_stand_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    assert list_inputs("a.jsonl")[0].url == str(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("nothing.jsonl", "input_none"),
        ("*.nothing", "input_none"),
        ("model.bin", "input_none"),
        ("nosuch://a/b.jsonl", "input_url"),
    ],
)
def test_a_place_without_input_is_one_clear_error(tmp_path, monkeypatch, url, code):
    (tmp_path / "model.bin").write_bytes(b"1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        list_inputs(url)
    assert caught.value.code == code
    assert url in caught.value.message


def test_a_protocol_whose_package_is_missing_says_so():
    fsspec.register_implementation("madeup", "no_such_package.Files", errtxt="Install no_such_package")
    with pytest.raises(ConfigError, match="Install no_such_package") as caught:
        list_inputs("madeup://a.jsonl")
    assert caught.value.code == "extra_missing"


# --- text folders


def test_text_files_are_one_document_each(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone\r\ntwo".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("三".encode()))
    (tmp_path / "c.txt").write_bytes(b"\xff")
    (tmp_path / "d.txt").write_bytes(b"")
    found = [row for n, file in enumerate(list_inputs(str(tmp_path))) for row in read_documents(file, n, ALL)]
    assert found == [
        Document(0, 0, "one\r\ntwo"),
        Document(1, 0, "三"),
        Reject(2, 0, "not valid UTF-8"),
        Document(3, 0, ""),
    ]


def test_a_dropped_text_keeps_its_reason_beside_it_and_an_unwritten_one_leaves_nothing(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("words")
    (file,) = list_inputs(str(tmp_path / "in"))
    (row,) = read_rows(file)
    for folder in ("kept", "dropped"):
        with open_writer(str(tmp_path / folder / "a.txt"), file) as writer:
            if folder == "dropped":
                writer.write(row | {"fineline_reason": "block: hate"})
    assert not (tmp_path / "kept").exists()
    assert {path.name: path.read_text() for path in (tmp_path / "dropped").iterdir()} == {
        "a.txt": "words",
        "a.txt.meta": '{"fineline_reason": "block: hate"}\n',
    }
    assert [Path(file.url).name for file in list_inputs(str(tmp_path / "dropped"))] == ["a.txt"]


# --- writers


@pytest.mark.parametrize("end", ENDS)
def test_rows_go_round_with_all_columns_and_the_same_bytes_each_time(tmp_path, end):
    path = write(tmp_path / "in" / f"a.{end}", ROWS)
    (file,) = list_inputs(str(path))
    written = []
    for folder in ("one", "two"):
        target = tmp_path / folder / path.name
        with open_writer(str(target), file) as writer:
            for row in read_rows(file):
                writer.write(row)
            assert not target.exists()
        written.append(target.read_bytes())
    (again,) = list_inputs(str(target))
    assert list(read_rows(again)) == list(read_rows(file)) == ROWS
    assert written[0] == written[1]


@pytest.mark.parametrize("end", ENDS)
def test_added_columns_are_kept_and_a_file_without_rows_can_be_read(tmp_path, end):
    path = write(tmp_path / "in" / f"a.{end}", ROWS)
    (file,) = list_inputs(str(path))
    for name, rows in (("none", []), ("all", [row | {"fineline_reason": "block: hate"} for row in ROWS])):
        with open_writer(str(tmp_path / name / path.name), file) as writer:
            for row in rows:
                writer.write(row)
        (again,) = list_inputs(str(tmp_path / name))
        assert list(read_rows(again)) == rows
    if end == "csv":
        assert (tmp_path / "none" / path.name).read_bytes() == b"t,i,l,s,c,more\r\n"
    if end == "parquet":
        assert pq.read_schema(tmp_path / "none" / path.name).equals(pq.read_schema(path))


@pytest.mark.parametrize("end", ENDS)
def test_an_error_while_writing_leaves_no_file(tmp_path, end):
    path = write(tmp_path / "in" / f"a.{end}", ROWS)
    (file,) = list_inputs(str(path))
    with pytest.raises(ZeroDivisionError), open_writer(str(tmp_path / "out" / path.name), file) as writer:
        writer.write(ROWS[0])
        raise ZeroDivisionError
    assert list((tmp_path / "out").iterdir()) == []


def test_types_and_notes_of_parquet_survive(tmp_path):
    columns = {
        "text": pa.array(["a", None, "c"]),
        "day": pa.array([1, None, 3], pa.date32()),
        "when": pa.array([1_700_000_000_123_456_789, None, 3], pa.timestamp("ns", "Asia/Shanghai")),
        "took": pa.array([5, None, 7], pa.duration("ns")),
        "clock": pa.array([1, None, 86_399_999_999_999], pa.time64("ns")),
        "price": pa.array(["1.50", None, "2"]).cast(pa.decimal128(10, 3)),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
        "small": pa.array([1.1, None, 2], pa.float32()),
        "big": pa.array([2**63 - 1, None, -5], pa.int64()),
        "tags": pa.array([["a", None], None, []], pa.list_(pa.string())),
        "meta": pa.array([{"a": 1, "b": None}, None, {"a": None, "b": "x"}]),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "raw": pa.array([b"\xff", None, b""]),
    }
    table = pa.table(columns).replace_schema_metadata({"made": "by another program"})
    pq.write_table(table, tmp_path / "a.parquet")
    (file,) = list_inputs(str(tmp_path / "a.parquet"))
    with open_writer(str(tmp_path / "out.parquet"), file) as writer:
        for row in read_rows(file):
            writer.write(row)
    again = pq.read_table(tmp_path / "out.parquet")
    assert again.equals(table)
    assert again.schema.metadata == table.schema.metadata


def test_large_parquet_output_is_cut_into_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("fineline.scan.writers._GROUP_BYTES", 20_000)
    rows = [{"text": f"{n} " + "x" * 90} for n in range(1000)]
    (file,) = list_inputs(str(write(tmp_path / "a.parquet", rows)))
    with open_writer(str(tmp_path / "out.parquet"), file) as writer:
        for row in rows:
            writer.write(row)
    out = pq.ParquetFile(tmp_path / "out.parquet")
    assert 4 <= out.num_row_groups <= 7
    assert out.read().to_pylist() == rows


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path):
    (file,) = list_inputs(str(write(tmp_path / "a.jsonl", ROWS)))
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        open_writer(str(tmp_path / "taken" / "a.jsonl"), file)
    assert caught.value.code == "output_file"


# --- properties

ON_DISK = settings(deadline=None, max_examples=40)
CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TABLES = st.lists(st.fixed_dictionaries(dict.fromkeys("tilsc", CELLS)), min_size=1, max_size=6)


@pytest.mark.parametrize("end", ENDS)
def test_any_strings_go_round_in_order(tmp_path_factory, end):
    folder = tmp_path_factory.mktemp("property")

    @ON_DISK
    @given(TABLES)
    def check(rows):
        path = write(folder / f"a.{end}", rows)
        (file,) = list_inputs(str(path))
        found = list(read_documents(file, 0, ALL))
        assert [row.row for row in found] == list(range(len(rows)))
        assert [(row.text, row.context, row.id, row.lang, row.source) for row in found] == [
            (row["t"], *(row[name] or None for name in "cils")) for row in rows
        ]
        target = folder / "out" / path.name
        with open_writer(str(target), file) as writer:
            for row in read_rows(file):
                writer.write(row)
        (again,) = list_inputs(str(target))
        assert list(read_rows(again)) == rows

    check()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@ON_DISK
@given(st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=5))
def test_any_json_goes_round_lone_surrogates_too(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("json")
    (file,) = list_inputs(str(write(folder / "a.jsonl", rows)))
    with open_writer(str(folder / "out.jsonl"), file) as writer:
        for row in read_rows(file):
            writer.write(row)
    (again,) = list_inputs(str(folder / "out.jsonl"))
    assert list(read_rows(again)) == rows
    assert (folder / "out.jsonl").read_bytes().decode("utf-8").count("\n") == len(rows)


@ON_DISK
@given(st.binary(max_size=200))
@pytest.mark.parametrize("end", [*ENDS, "txt", "txt.gz"])
def test_any_bytes_are_read_without_an_error_and_both_readers_agree(tmp_path_factory, end, content):
    path = tmp_path_factory.getbasetemp() / f"bytes.{end}"
    path.write_bytes(content)
    (file,) = list_inputs(str(path))
    found = list(read_documents(file, 0, Fields()))
    assert [row.row for row in found] == list(range(len(found)))
    rows = list(read_rows(file))
    assert len(rows) == len(found)
    assert all(row is not None for row, document in zip(rows, found, strict=True) if isinstance(document, Document))
