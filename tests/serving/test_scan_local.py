"""The local engine: any number of workers gives the same bytes, a dead one loses nothing, memory is bounded."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fineline.errors import BundleError, InputError
from fineline.scan.local import run_local
from fineline.scan.shards import Shard
from fineline.scan.store import Store


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the scorers, where worker processes find it too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("scan_workers")


def test_any_number_of_workers_gives_the_same_bytes(workers, tmp_path):
    texts = [f"text {i}" for i in range(21)]
    inside = Store(str(tmp_path / "inside"))
    scorer = workers.maker(tmp_path)()
    expected = {shard.number: inside.write(shard, scorer.score(shard)) for shard in workers.shards(texts)}
    for count in (1, 3):
        out = tmp_path / f"out{count}"
        parts = list(run_local(workers.shards(texts), workers.maker(tmp_path), Store(str(out)), count))
        assert {part.number: part for part in parts} == expected
        assert workers.bytes_of(out) == workers.bytes_of(tmp_path / "inside")


def test_a_dead_worker_is_replaced_and_its_shard_done_again(workers, tmp_path):
    texts = ["a", "b", "c", "die once", "d", "e", "f", "g"]
    store = Store(str(tmp_path / "out"))
    parts = list(run_local(workers.shards(texts), workers.maker(tmp_path), store, 2))
    assert (tmp_path / "died").exists()
    assert {part.number for part in parts} == {0, 1, 2, 3}
    assert set(store.completed()) == {0, 1, 2, 3}
    assert [row for n in range(4) for row in store.scores(n)["row"].to_pylist()] == list(range(8))


def test_a_shard_that_kills_every_worker_ends_the_scan_by_name(workers, tmp_path):
    store = Store(str(tmp_path / "out"))
    with pytest.raises(InputError, match=r"died 3 times in a row .* on shards 1\.") as caught:
        list(run_local(workers.shards(["a", "die"], size=1), workers.maker(tmp_path), store, 1))
    assert caught.value.code == "scan_worker"
    assert set(store.completed()) == {0}


def test_an_error_of_a_worker_keeps_its_code(workers, tmp_path):
    with pytest.raises(InputError, match="told to fail") as caught:
        list(run_local(workers.shards(["a", "fail"], size=1), workers.maker(tmp_path), Store(str(tmp_path / "out")), 1))
    assert caught.value.code == "test_failure"


def test_a_model_that_cannot_be_loaded_is_no_dead_worker(workers, tmp_path):
    with pytest.raises(BundleError, match="no model here"):
        list(run_local(workers.shards(["a"]), workers.unloadable, Store(str(tmp_path / "out")), 1))


def test_the_input_is_read_no_faster_than_it_is_scored(workers, tmp_path):
    taken = 0

    def counted() -> Iterator[Shard]:
        nonlocal taken
        for shard in workers.shards([f"text {i}" for i in range(40)]):
            taken += 1
            yield shard

    done = 0
    for _ in run_local(counted(), workers.maker(tmp_path), Store(str(tmp_path / "out")), 1):
        done += 1
        assert taken <= done + 2
    assert done == taken == 20
    assert len(list(tmp_path.glob("loaded-*"))) == 1


def test_no_shard_starts_no_worker(workers, tmp_path):
    assert list(run_local(iter(()), workers.maker(tmp_path), Store(str(tmp_path / "out")), 2)) == []
    assert not list(tmp_path.glob("loaded-*"))
