"""Reloads: no request fails, whatever is wrong with the new bundle leaves the old one in use."""

import asyncio
import json
import shutil
import threading

import pytest

pytest.importorskip("fastapi")

from fineline import BundleError, Classifier
from fineline.bundle import GOLDEN, META, MODEL, TOKENIZER, load_bundle, write_bundle
from fineline.server import models
from fineline.server.faults import NotReadyError
from fineline.server.judging import Judge
from fineline.server.metrics import Metrics
from fineline.server.models import Model, ModelSlot, ReloadError, load_model
from fineline.server.problems import ConflictError
from fineline.server.settings import EngineSettings, LimitSettings, ServerSettings

TEXT = "tell anyone"


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    """The configured bundle, a copy that a test may break."""
    shutil.copytree(tiny_bundle, tmp_path / "one")
    return tmp_path / "one"


def remade(source, target, **changes):
    """Write a bundle with other entries, its hashes right."""
    meta = json.loads((source / META).read_text(encoding="utf-8"))
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    return write_bundle(target, {name: source / name for name in meta["files"]}, "card", entries | changes).path


def run(test, folder, **engine):
    settings = ServerSettings(engine=EngineSettings(bundle=str(folder), sessions=1, **engine), limits=LimitSettings())
    slot = ModelSlot(settings)
    judge = Judge(slot, settings.limits)

    async def main():
        await slot.open()
        try:
            await test(slot, judge)
        finally:
            await slot.close()
            judge.close()

    asyncio.run(asyncio.wait_for(main(), 250))
    return slot.metrics.registry


async def model_of(judge):
    return (await judge.judge([TEXT]))[0].model


def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("engine-")]


def test_a_reload_puts_the_new_bundle_in_place_and_closes_the_old_one(folder):
    remade(folder, folder.parent / "two", version="0.0.2")

    async def test(slot, judge):
        before = len(workers())
        assert await model_of(judge) == "tiny@0.0.1"
        done = await slot.reload(slot.sibling("two"))
        assert (done.previous, done.model) == ("tiny@0.0.1", "tiny@0.0.2")
        assert await model_of(judge) == "tiny@0.0.2"
        for _ in range(5000):
            if len(workers()) == before:
                break
            await asyncio.sleep(0.01)
        assert len(workers()) == before
        # Without a name the configured folder is read again.
        assert (await slot.reload()).model == "tiny@0.0.1"

    registry = run(test, folder)
    assert registry.get_sample_value("fineline_reloads_total", {"result": "done"}) == 2
    digest = load_bundle(folder).meta.digest
    assert registry.get_sample_value("fineline_model_info", {"model": "tiny@0.0.1", "digest": digest}) == 1


def test_no_request_fails_while_bundles_are_swapped(folder):
    remade(folder, folder.parent / "two", version="0.0.2")

    async def test(slot, judge):
        expected = {v.model: v.scores for name in ("one", "two") for v in classified(folder.parent / name)}
        seen, stop = set(), False

        async def client(number):
            while not stop:
                for verdict in await judge.judge([TEXT, "help"] * (1 + number % 3)):
                    seen.add(verdict.model)
                    assert set(verdict.scores) == set(expected[verdict.model])

        clients = [asyncio.create_task(client(number)) for number in range(12)]
        for name in ("two", "one", "two"):
            await slot.reload(slot.sibling(name))
            await asyncio.sleep(0.05)
        stop = True
        await asyncio.gather(*clients)
        assert seen == set(expected)

    run(test, folder)


def classified(path):
    return Classifier.load(path, threads=1).classify([TEXT])


def test_a_request_keeps_the_model_it_started_with(folder):
    remade(folder, folder.parent / "two", version="0.0.2")

    async def test(slot, judge):
        with slot.use() as model:
            await slot.reload(slot.sibling("two"))
            assert slot.model is not model
            await asyncio.sleep(0.05)
            windows = [window for part in model.classifier.encode([TEXT]) for window in part]
            assert len(await model.batcher.logits(windows, asyncio.get_running_loop().time() + 100)) == 1

    run(test, folder)


def cut(path):
    (path / MODEL).write_bytes((path / MODEL).read_bytes()[:-1000])


def flip(path):
    data = bytearray((path / MODEL).read_bytes())
    data[len(data) // 2] ^= 1
    (path / MODEL).write_bytes(bytes(data))


def half_copied(path):
    (path / TOKENIZER).unlink()


def no_meta(path):
    (path / META).write_text("{", encoding="utf-8")


def other_golden(path):
    lines = [json.loads(line) for line in (path / GOLDEN).read_text(encoding="utf-8").split("\n") if line]
    shifted = "".join(json.dumps(row | {"logits": [x + 9 for x in row["logits"]]}) + "\n" for row in lines)
    (path / GOLDEN).write_text(shifted, encoding="utf-8")
    remade(path, path)


def no_model(path):
    (path / MODEL).write_bytes(b"not a model")
    remade(path, path)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (cut, "bundle_hash_mismatch"),
        (flip, "bundle_hash_mismatch"),
        (half_copied, "bundle_file_missing"),
        (no_meta, "bundle_meta"),
        (other_golden, "bundle_golden"),
        (no_model, "bundle_model"),
        (shutil.rmtree, "bundle_missing"),
    ],
)
def test_a_bad_bundle_changes_nothing_and_the_reason_is_told(folder, harm, code, caplog):
    async def test(slot, judge):
        model = slot.model
        harm(folder)
        with pytest.raises(ReloadError) as caught:
            await slot.reload()
        assert caught.value.code == code
        assert caught.value.message.endswith("tiny@0.0.1 stays in use.")
        assert slot.model is model
        assert await model_of(judge) == "tiny@0.0.1"

    registry = run(test, folder)
    assert registry.get_sample_value("fineline_reloads_total", {"result": "failed"}) == 1
    assert "reload failed" in caplog.text


def test_running_out_of_memory_in_a_reload_changes_nothing(folder, monkeypatch):
    async def test(slot, judge):
        def fail(path, settings):
            raise MemoryError

        monkeypatch.setattr(models, "load_model", fail)
        with pytest.raises(ReloadError, match="MemoryError"):
            await slot.reload()
        monkeypatch.undo()
        assert await model_of(judge) == "tiny@0.0.1"
        await slot.reload()

    run(test, folder)


def test_one_reload_at_a_time_and_a_caller_that_leaves_does_not_break_it(folder, monkeypatch):
    async def test(slot, judge):
        gate = threading.Event()

        def slow(path, settings):
            assert gate.wait(120)
            return load_model(path, settings)

        monkeypatch.setattr(models, "load_model", slow)
        first = asyncio.create_task(slot.reload())
        await asyncio.sleep(0.05)
        with pytest.raises(ConflictError):
            await slot.reload()
        first.cancel()
        await asyncio.wait([first])
        with pytest.raises(ConflictError):
            await slot.reload()
        old = slot.model
        gate.set()
        for _ in range(5000):
            if slot.model is not old:
                break
            await asyncio.sleep(0.01)
        assert slot.model is not old
        assert await model_of(judge) == "tiny@0.0.1"
        await slot.reload()

    run(test, folder)


@pytest.mark.parametrize("name", ["../one", "none", "", ".", "..", "/etc", "one/../one", "file"])
def test_a_name_leads_nowhere_but_to_a_folder_beside_the_configured_one(folder, name):
    (folder.parent / "file").write_text("x")

    async def test(slot, judge):
        with pytest.raises(ReloadError, match="no bundle of that name"):
            slot.sibling(name)
        assert slot.sibling("one") == folder

    run(test, folder)


def test_a_folder_of_bundles_that_is_gone_has_none(folder):
    async def test(slot, judge):
        shutil.rmtree(folder.parent)
        with pytest.raises(ReloadError, match="no bundle of that name"):
            slot.sibling("one")

    run(test, folder)


def test_without_service_there_is_no_reload(folder):
    slot = ModelSlot(ServerSettings(engine=EngineSettings(bundle=str(folder))))
    with pytest.raises(NotReadyError):
        asyncio.run(slot.reload())


def test_a_bundle_that_cannot_be_used_does_not_start(folder):
    flip(folder)
    with pytest.raises(BundleError, match="changed or cut"):
        ModelSlot(ServerSettings(engine=EngineSettings(bundle=str(folder)))).load()


@pytest.mark.parametrize(("sessions", "threads", "engines"), [(3, 1, 1), (2, 2, 2)])
def test_sessions_of_one_thread_share_the_weights(folder, sessions, threads, engines):
    loaded = load_model(folder, EngineSettings(sessions=sessions, threads=threads))
    assert len(loaded.engines) == sessions
    assert len({id(engine) for engine in loaded.engines}) == engines


def test_without_a_gpu_the_server_takes_the_cores_and_warns_once(folder, caplog):
    settings = EngineSettings(device="cuda", sessions=2, threads=2)
    loaded = load_model(folder, settings)
    assert [engine.device for engine in loaded.engines] == ["cpu", "cpu"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    model = Model(loaded, ServerSettings(engine=settings), Metrics())
    try:
        assert (model.device, model.batch_tokens) == ("cpu", settings.budgets["cpu"])
    finally:
        model.batcher.close()
