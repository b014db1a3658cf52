"""The output folder: whole files, markers last, duplicates filled in on reading."""

import json

import numpy as np
import pyarrow as pa
import pytest

from fineline.errors import InputError
from fineline.scan.documents import Document, Reject
from fineline.scan.shards import Shard
from fineline.scan.store import Store, completed, read_scores, schema

LABELS = 3


def shard(number: int, first: int, count: int, duplicates: dict[int, int] | None = None, rejects: int = 0) -> Shard:
    documents = tuple(
        Document(file=0, row=first + i, text="x" * i, context=None, id=str(first + i), lang=None, source=None)
        for i in range(count)
    )
    refused = tuple(Reject(file=0, row=1000 + i, reason="bad") for i in range(rejects))
    return Shard(number=number, first=first, documents=documents, rejects=refused, duplicates=duplicates or {})


def table(of: Shard) -> pa.Table:
    """Logits, windows and places that say which document they were computed for."""
    numbers = [None if i in of.duplicates else of.first + i for i in range(len(of.documents))]
    rows = [
        {
            "file": 0,
            "row": d.row,
            "id": d.id,
            "lang": None,
            "source": None,
            "characters": len(d.text),
            "windows": number,
            "tokens": number,
            "logits": None if number is None else [number + 0.5] * LABELS,
            "starts": None if number is None else [number] * (number % 2),
            "ends": None if number is None else [number + 1] * (number % 2),
            "duplicate_of": of.duplicates.get(i),
        }
        for i, (d, number) in enumerate(zip(of.documents, numbers, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=schema(LABELS))


def write(store: Store, *found: Shard) -> None:
    for one in found:
        store.write(one, table(one))


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    if request.param == "local":
        return Store(str(tmp_path / "out"))
    import fsspec

    fsspec.filesystem("memory").store.clear()
    return Store("memory://bucket/out")


def test_what_is_written_is_read(store):
    write(store, shard(0, 0, 4), shard(1, 4, 0, rejects=2), shard(2, 4, 3))
    assert completed(store.output) == {0, 1, 2}
    assert [t.num_rows for t in read_scores(store.output)] == [4, 0, 3]
    for got, want in zip(read_scores(store.output), (shard(0, 0, 4), shard(1, 4, 0), shard(2, 4, 3)), strict=True):
        assert got.schema.equals(schema(LABELS))
        assert got.equals(table(want))
    part = store.completed()[1]
    assert (part.rows, part.rejected, part.tokens) == (0, 2, 0)
    lines = store.get("rejects/part-00001.jsonl").decode().splitlines()
    assert [json.loads(line) for line in lines] == [{"file": 0, "row": 1000 + i, "reason": "bad"} for i in range(2)]


def test_duplicates_are_filled_from_this_shard_and_from_earlier_ones(store):
    write(store, shard(0, 0, 3, {2: 1}), shard(1, 3, 2), shard(2, 5, 4, {0: 1, 1: 4, 3: 7}), shard(3, 9, 1, {0: 0}))
    expected = [0, 1, 1, 3, 4, 1, 4, 7, 7, 0]
    found = pa.concat_tables(read_scores(store.output))
    assert found["tokens"].to_pylist() == expected
    assert found["logits"].to_pylist() == [[n + 0.5] * LABELS for n in expected]
    assert found["starts"].to_pylist() == [[n] * (n % 2) for n in expected]
    assert found["ends"].to_pylist() == [[n + 1] * (n % 2) for n in expected]
    assert found["row"].to_pylist() == list(range(10))
    assert found["duplicate_of"].to_pylist() == [None, None, 1, None, None, 1, 4, None, 7, 0]


def test_many_repeated_documents_stay_in_their_places(store):
    rng = np.random.default_rng(3)
    first, made, expected = 0, [], []
    for number in range(100):
        count = int(rng.integers(1, 4))
        copies = {
            i: int(rng.choice([n for n, e in enumerate(expected) if e == n])) for i in range(count - 1) if expected
        }
        made.append(shard(number, first, count, copies))
        expected += [copies.get(i, first + i) for i in range(count)]
        first += count
    write(store, *made)
    assert pa.concat_tables(read_scores(store.output))["tokens"].to_pylist() == expected


def test_the_marker_is_written_last(store, monkeypatch):
    names, put = [], Store.put
    monkeypatch.setattr(Store, "put", lambda self, name, content: (names.append(name), put(self, name, content)))
    write(store, shard(0, 0, 1))
    assert names == ["scores/part-00000.parquet", "rejects/part-00000.jsonl", "parts/part-00000.json"]


@pytest.mark.parametrize("missing", ["scores/part-00000.parquet", "rejects/part-00000.jsonl", "parts/part-00000.json"])
def test_a_shard_without_one_of_its_files_is_not_complete(store, missing):
    write(store, shard(0, 0, 1), shard(1, 1, 1))
    system, path = store.place(missing)
    system.rm_file(path)
    assert completed(store.output) == {1}
    with pytest.raises(InputError, match="shards are missing"):
        list(read_scores(store.output))


def test_a_damaged_marker_or_manifest_is_named(store):
    write(store, shard(0, 0, 1))
    store.put("parts/part-00000.json", b"{}")
    with pytest.raises(InputError, match=r"part-00000\.json is not a completion marker"):
        store.completed()
    store.put("manifest.json", b"[")
    with pytest.raises(InputError, match="not readable"):
        store.manifest()


def test_an_empty_folder_has_nothing(store):
    assert completed(store.output) == set()
    assert store.manifest() is None
    assert store.get("none") is None
    assert list(read_scores(store.output)) == []


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    store = Store(str(tmp_path))
    write(store, shard(0, 0, 1))
    for folder in ("scores", "parts", "."):
        (tmp_path / folder / ".part-00001.parquet.123.tmp").write_text("half")
    before = {path for path in tmp_path.rglob("*") if not path.name.endswith(".tmp")}
    store.remove_leftovers()
    assert set(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store(str(tmp_path / "file")).put("manifest.json", b"")
