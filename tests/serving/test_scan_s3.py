"""Inputs and outputs in an object store: a real S3 server on this machine, spoken to over HTTP."""

import gzip
import json
from collections.abc import Iterator

import pytest

from fineline.errors import InputError
from fineline.scan.documents import Document, Fields, list_inputs, open_writer, read_documents, read_rows

moto_server = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("corpus")
        yield "s3://corpus"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_folder_of_a_bucket_is_listed_read_filtered_and_read_again(bucket):
    rows = [{"text": f"text {n} é", "id": n, "more": [n]} for n in range(3000)]
    lines = [json.dumps(row) + "\n" for row in rows]
    store = s3fs.S3FileSystem()
    store.pipe("corpus/in/b.jsonl", "".join(lines[1500:]).encode())
    store.pipe("corpus/in/deep/a.jsonl.gz", gzip.compress("".join(lines[:1500]).encode()))
    store.pipe("corpus/in/_SUCCESS", b"")
    files = list_inputs(f"{bucket}/in")
    assert [file.url for file in files] == ["s3://corpus/in/b.jsonl", "s3://corpus/in/deep/a.jsonl.gz"]
    assert [file.bytes for file in files] == [store.size(file.url) for file in files]
    assert list_inputs(f"{bucket}/in/*.jsonl") == files[:1]
    assert list_inputs(files[1].url) == files[1:]
    found = list(read_documents(files[1], 1, Fields(id="id")))
    assert found == [Document(1, n, f"text {n} é", id=str(n)) for n in range(1500)]

    target = f"{bucket}/out/kept/deep/a.jsonl.gz"
    with open_writer(target, files[1]) as writer:
        for row in read_rows(files[1]):
            writer.write(row)
        assert not store.exists(target)
    assert list(read_rows(list_inputs(target)[0])) == rows[:1500]


def test_parquet_is_read_and_written_in_place(bucket, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [f"text {n}" for n in range(500)], "n": pa.array(range(500), pa.int16())})
    pq.write_table(table, tmp_path / "a.parquet")
    s3fs.S3FileSystem().put(str(tmp_path / "a.parquet"), "corpus/parquet/a.parquet")
    (file,) = list_inputs(f"{bucket}/parquet")
    assert [row.text for row in read_documents(file, 0, Fields())] == table["text"].to_pylist()
    with open_writer(f"{bucket}/copy/a.parquet", file) as writer:
        for row in read_rows(file):
            writer.write(row)
    s3fs.S3FileSystem().get("corpus/copy/a.parquet", str(tmp_path / "b.parquet"))
    assert pq.read_table(tmp_path / "b.parquet").equals(table)


def test_what_the_store_refuses_is_one_clear_error(bucket):
    s3fs.S3FileSystem().pipe("corpus/gone/a.jsonl", b"{}\n")
    (file,) = list_inputs(f"{bucket}/gone")
    s3fs.S3FileSystem().rm(file.url)
    with pytest.raises(InputError, match=r"s3://corpus/gone/a\.jsonl: cannot be read"):
        list(read_documents(file, 0, Fields()))
    with pytest.raises(InputError, match="no file to read"):
        list_inputs(f"{bucket}/none/here")
    s3fs.S3FileSystem().pipe(file.url, b"{}\n")
    with pytest.raises(InputError, match="cannot be written"), open_writer("s3://no-such-bucket/a.jsonl", file):
        pass


def test_a_failed_write_uploads_nothing(bucket):
    store = s3fs.S3FileSystem()
    store.pipe("corpus/fail/a.jsonl", b'{"text": "x"}\n')
    (file,) = list_inputs(f"{bucket}/fail")
    with pytest.raises(ZeroDivisionError), open_writer(f"{bucket}/failed/a.jsonl", file) as writer:
        writer.write({"text": "x"})
        raise ZeroDivisionError
    assert not store.exists("corpus/failed/a.jsonl")
