"""The mirror: where files are looked for, how their state is told, and that a pull never leaves a wrong file."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fineline.errors import DataError
from fineline_training.sources import SourceFile
from fineline_training.sources.mirror import State, fetch_https, find_mirror, pull_file, source_status
from fineline_training.sources.registry import Source, find_source


@pytest.fixture
def tiny() -> Source:
    def file(name: str, body: bytes, upstream: str = "") -> SourceFile:
        return SourceFile(name=name, upstream=upstream or name, sha256=hashlib.sha256(body).hexdigest())

    files = (file("a b.txt", b"alpha"), file("sub/b.txt", b"beta", "pack.zip!in/b.txt"))
    return replace(find_source("cold"), id="tiny", repository="o/r", commit="c" * 40, files=files)


def fill(folder: Path, first: bytes = b"alpha") -> None:
    (folder / "tiny/sub").mkdir(parents=True)
    (folder / "tiny/a b.txt").write_bytes(first)
    (folder / "tiny/sub/b.txt").write_bytes(b"beta")


def fake_fetch(body: bytes) -> Callable[[str, Callable[[int], None]], bytes]:
    def fetch(url: str, progress: Callable[[int], None]) -> bytes:
        progress(len(body))
        if url.endswith(".zip"):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("in/b.txt", body)
            return buffer.getvalue()
        assert url == "https://raw.githubusercontent.com/o/r/" + "c" * 40 + "/a%20b.txt"
        return body

    return fetch


def test_mirror_comes_from_the_argument_then_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FINELINE_MIRROR", raising=False)
    assert find_mirror() is None
    monkeypatch.setenv("FINELINE_MIRROR", str(tmp_path))
    assert find_mirror() == tmp_path
    (tmp_path / "other").mkdir()
    assert find_mirror(tmp_path / "other") == tmp_path / "other"
    monkeypatch.setenv("FINELINE_MIRROR", str(tmp_path / "gone"))
    with pytest.raises(DataError, match="no folder"):
        find_mirror()


def test_status_tells_present_missing_and_altered(tmp_path: Path, tiny: Source) -> None:
    assert source_status(tiny, tmp_path).state is State.MISSING
    fill(tmp_path, first=b"altered")
    assert source_status(tiny, tmp_path).files == {"a b.txt": State.MISMATCH, "sub/b.txt": State.PRESENT}
    assert source_status(tiny, tmp_path).state is State.MISMATCH
    (tmp_path / "tiny/a b.txt").write_bytes(b"alpha")
    assert source_status(tiny, tmp_path).state is State.PRESENT


def test_pull_copies_once_and_checks_the_hash(tmp_path: Path, tiny: Source) -> None:
    fill(tmp_path / "mirror")
    out = tmp_path / "out"
    assert [pull_file(tiny, file, out, mirror=tmp_path / "mirror") for file in tiny.files] == [True, True]
    assert [pull_file(tiny, file, out, mirror=tmp_path / "mirror") for file in tiny.files] == [False, False]
    assert source_status(tiny, out).state is State.PRESENT
    (tmp_path / "mirror/tiny/a b.txt").write_bytes(b"altered")
    with pytest.raises(DataError) as caught:
        pull_file(tiny, tiny.files[0], tmp_path / "new", mirror=tmp_path / "mirror")
    assert caught.value.code == "pull_hash"
    assert not [path for path in (tmp_path / "new").rglob("*") if path.is_file()]


def test_pull_downloads_files_and_archive_members(tmp_path: Path, tiny: Source) -> None:
    received: list[int] = []
    pull_file(tiny, tiny.files[0], tmp_path, fetch=fake_fetch(b"alpha"), progress=received.append)
    pull_file(tiny, tiny.files[1], tmp_path, fetch=fake_fetch(b"beta"), progress=received.append)
    assert source_status(tiny, tmp_path).state is State.PRESENT
    assert received == [5, 4]


def test_pull_never_replaces_a_file_by_a_wrong_one(tmp_path: Path, tiny: Source) -> None:
    fill(tmp_path, first=b"mine")
    with pytest.raises(DataError):
        pull_file(tiny, tiny.files[0], tmp_path, fetch=fake_fetch(b"forged"))
    assert (tmp_path / "tiny/a b.txt").read_bytes() == b"mine"


def test_pull_reports_a_wrong_archive(tmp_path: Path, tiny: Source) -> None:
    with pytest.raises(DataError) as caught:
        pull_file(tiny, tiny.files[1], tmp_path, fetch=lambda url, progress: b"no zip")
    assert caught.value.code == "pull_archive"


def test_only_https_is_fetched() -> None:
    with pytest.raises(DataError) as caught:
        fetch_https("file:///etc/hostname", lambda _: None)
    assert caught.value.code == "pull_address"
