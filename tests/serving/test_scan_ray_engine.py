"""The Ray engine on a real cluster of two nodes: the bytes of the local one, no shard lost, errors with their code."""

import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("ray.data")

import ray
from ray.cluster_utils import Cluster

from fineline.errors import BundleError, InputError
from fineline.scan.ray_engine import IN_FLIGHT, run_ray
from fineline.scan.shards import Shard
from fineline.scan.store import Store

# Ray's own processes and sockets are not ours to judge.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Two nodes of one CPU, each with its own raylet, whose workers can import the scorers of the tests."""
    roots = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", roots)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.syspath_prepend(HERE)
        node = {"num_cpus": 1, "object_store_memory": 2**27, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        cluster.add_node(num_cpus=1, object_store_memory=2**27)
        yield cluster.address
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def workers(address: str) -> ModuleType:
    return importlib.import_module("scan_workers")


def test_a_cluster_gives_the_bytes_of_one_process_and_loads_once_a_worker(workers, address, tmp_path):
    texts = [f"text {i}" for i in range(41)]
    inside = Store(str(tmp_path / "inside"))
    alone = workers.maker(tmp_path)()
    expected = {shard.number: inside.write(shard, alone.score(shard)) for shard in workers.shards(texts)}
    loads = tmp_path / "loads"
    loads.mkdir()
    parts = list(run_ray(workers.shards(texts), workers.maker(loads), Store(str(tmp_path / "out")), 2, address))
    assert {part.number: part for part in parts} == expected
    assert len(parts) == len(expected)
    assert workers.bytes_of(tmp_path / "out") == workers.bytes_of(tmp_path / "inside")
    assert len(list(loads.glob("loaded-*"))) == 2


def test_shards_are_taken_no_faster_than_they_are_stored(workers, address, tmp_path):
    taken = []

    def watched() -> Iterator[Shard]:
        for shard in workers.shards([str(i) for i in range(20)], size=1):
            taken.append(shard.number)
            yield shard

    for done, _ in enumerate(run_ray(watched(), workers.maker(tmp_path), Store(str(tmp_path / "out")), 1, address)):
        assert len(taken) <= done + IN_FLIGHT
    assert taken == list(range(20))


def test_a_dead_worker_is_replaced_and_its_shard_done_again(workers, address, tmp_path):
    store = Store(str(tmp_path / "out"))
    texts = ["a", "b", "c", "die once", "d", "e", "f", "g"]
    parts = list(run_ray(workers.shards(texts), workers.maker(tmp_path), store, 2, address))
    assert (tmp_path / "died").exists()
    assert sorted(part.number for part in parts) == [0, 1, 2, 3]
    assert [row for n in range(4) for row in store.scores(n)["row"].to_pylist()] == list(range(8))


def test_a_shard_that_kills_every_worker_ends_the_scan_by_name(workers, address, tmp_path):
    with pytest.raises(InputError, match="Shard 1 killed its worker 3 times") as caught:
        list(
            run_ray(
                workers.shards(["a", "die"], size=1), workers.maker(tmp_path), Store(str(tmp_path / "out")), 1, address
            )
        )
    assert caught.value.code == "scan_worker"


def test_an_error_of_a_worker_keeps_its_code(workers, address, tmp_path):
    store = Store(str(tmp_path / "out"))
    with pytest.raises(InputError, match="told to fail") as caught:
        list(run_ray(workers.shards(["a", "fail"], size=1), workers.maker(tmp_path), store, 1, address))
    assert caught.value.code == "test_failure"
    with pytest.raises(BundleError, match="no model here"):
        list(run_ray(workers.shards(["a"]), workers.unloadable, store, 1, address))


def test_nothing_to_score_is_no_error(workers, address, tmp_path):
    assert list(run_ray(iter(()), workers.maker(tmp_path), Store(str(tmp_path / "out")), 1, address)) == []


def test_an_unreadable_input_ends_the_scan_with_its_own_error(workers, address, tmp_path):
    def cut() -> Iterator[Shard]:
        yield from workers.shards(["a", "b"], size=1)
        raise InputError("input_file", "cannot be read")

    with pytest.raises(InputError, match="cannot be read"):
        list(run_ray(cut(), workers.maker(tmp_path), Store(str(tmp_path / "out")), 1, address))
