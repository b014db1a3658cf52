"""What judges a soak and injected faults: an answer of another text, a lost one or a leak must not pass for nothing."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("aiohttp")
pytest.importorskip("scipy")

import aiohttp
from aiohttp import web

from fineline.bundle import load_bundle
from serve_asking import Asker, Known, Record, mix_texts
from serve_fault_scene import Fault, report
from serve_fault_table import FAULTS, SOAK, fault_table, soak_table
from serve_mix import KINDS, Mix
from serve_steady import Sample, accounts, held, judged, minutes, trend
from serve_table import replaced


def record(outcome, *, kind="classify", status=200, seconds=0.1, error=""):
    return Record(kind=kind, status=status, outcome=outcome, at=0.0, seconds=seconds, error=error)


# --- requests and their answers


def test_an_answer_is_its_own_texts_by_scores_and_end():
    known = Known(["abc", "defgh"], ["x", "y"], [[0.1, 0.9], [0.8, 0.2]])
    assert known.own(0, {"x": 0.1, "y": 0.9}, 3)
    assert known.own(0, {"y": 0.9, "x": 0.1})
    assert not known.own(0, {"x": 0.8, "y": 0.2}, 3)
    assert not known.own(0, {"x": 0.1, "y": 0.9}, 5)


def test_texts_are_different_and_the_same_each_time():
    found = mix_texts(["a", "b", "c"], 40, seed=1)
    assert found == mix_texts(["a", "b", "c"], 40, seed=1)
    assert len(set(found)) == 40
    assert found[:3] == ["a", "b", "c"]


@asynccontextmanager
async def answering(handler):
    served = web.Application()
    served.router.add_post("/asked", handler)
    runner = web.AppRunner(served)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def asked(status=200, body='{"own": true}', *, same_id=True, cut=False, url=None):
    """Ask a server that answers so; returns the record and what ``ask`` gave."""

    async def handler(request):
        if cut:
            request.transport.abort()
        given = request.headers["x-request-id"] if same_id else "another"
        return web.Response(status=status, text=body, headers={"x-request-id": given})

    async def scene():
        asker = Asker()
        async with answering(handler) as base, aiohttp.ClientSession(url or base) as session:
            found = await asker.ask(session, "kind", "/asked", {"a": 1}, own=lambda answer: answer["own"])
        return asker.records, found

    records, found = asyncio.run(scene())
    assert len(records) == 1
    return records[0], found


def test_each_way_of_an_answer_is_told_apart():
    found, answer = asked()
    assert (found.outcome, found.status, answer) == ("right", 200, {"own": True})
    for options, outcome in (
        ({"body": '{"own": false}'}, "mixed_up"),
        ({"same_id": False}, "mixed_up"),
        ({"status": 500}, "wrong"),
        ({"status": 422}, "wrong"),
        ({"body": "{"}, "wrong"),
        ({"body": "{}"}, "wrong"),
        ({"status": 429}, "refused"),
        ({"status": 503}, "refused"),
        ({"cut": True}, "lost"),
        ({"url": "http://127.0.0.1:9"}, "unreachable"),
    ):
        found, answer = asked(**options)
        assert (found.outcome, answer) == (outcome, None), options


def test_every_kind_of_request_is_answered_right_by_the_server(start_server, tiny, classifier_fp32, tmp_path):
    texts = mix_texts(["tell anyone", "他说要打断你的手", "never report 😀 help"], 12, seed=0)
    labels = load_bundle(tiny.bundle_fp32).meta.labels
    known = Known(texts, labels, [[v.scores[x] for x in labels] for v in classifier_fp32.classify(texts)])
    (tmp_path / "server.toml").write_text('[feedback]\nurl = "sqlite:///appeals.db"\ntexts = "plain"\n')
    with start_server(tmp_path, "--bundle", tiny.bundle_fp32, "--config", "server.toml") as server:
        mix = Mix(server.url, "tiny", known)

        async def scene():
            async with mix.session() as session:
                for kind in KINDS:
                    for place in range(len(texts)):
                        await getattr(mix, kind)(session, place)
            load = asyncio.create_task(mix.run(50, 3600, {"classify": 1, "stream": 1}))
            await asyncio.sleep(0.2)
            mix.stop()
            await load
            return await mix.metrics()

        counted = asyncio.run(scene())  # for an hour, if it does not stop
    found = accounts(mix.records)
    assert set(found["outcomes"]) == {"right", "left"}, found
    assert set(found["kinds"]) == set(KINDS)
    assert found["kinds"]["bad"]["statuses"].keys() == {"400", "404", "415", "422"}
    assert counted["fineline_streams"] == 0


# --- memory and accounts


def samples(rss, *, every=10.0, files=9, threads=5):
    return [Sample(at=every * i, rss=round(one), files=files, threads=threads) for i, one in enumerate(rss)]


def test_a_leak_is_told_from_noise_and_from_reloads():
    rng = np.random.default_rng(0)
    noise = 450e6 + rng.normal(0, 2e6, 360)
    assert trend(samples(noise))["flat"]
    reloading = noise + 300e6 * (np.arange(360) % 30 == 0)
    assert trend(samples(reloading))["flat"]
    leak = trend(samples(noise + 1e4 * 10 * np.arange(360)))
    assert leak["megabytes_an_hour"] == pytest.approx(36, abs=5)
    assert leak["low"] < leak["megabytes_an_hour"] < leak["high"]
    assert leak["flat"] is False
    assert trend(samples(450e6 + 5e6 * np.minimum(np.arange(360), 80)))["flat"], "it fills, and then holds"


def test_what_is_too_noisy_to_say_is_not_called_flat():
    rng = np.random.default_rng(0)
    assert trend(samples(450e6 + rng.normal(0, 200e6, 60)))["flat"] is False
    assert trend(samples([1, 2, 3]))["flat"] is None


def test_what_is_held_is_compared_between_the_halves():
    found = [Sample(at=i, rss=1, files=i, threads=5) for i in range(40)]
    assert held(found, "files") == {"first_half": 24, "second_half": 39}
    assert held(found, "threads") == {"first_half": 5, "second_half": 5}
    assert [one["at"] for one in minutes(samples([1] * 13))] == [0, 60, 120]


def test_accounts_hold_every_request_once():
    records = [record("right"), record("right", seconds=0.3), record("lost", status=0, error="X")]
    found = accounts([*records, record("right", kind="bad", status=400)])
    assert (found["sent"], found["outcomes"], found["errors"]) == (4, {"lost": 1, "right": 3}, {"X": 1})
    assert found["kinds"]["classify"]["statuses"] == {"0": 1, "200": 2}
    assert found["kinds"]["classify"]["right"]["most"] == 300.0


def soaked(**changes):
    found = {
        "requests": accounts([record("right"), record("left"), record("refused", status=503)]),
        "counted_by_server": 3,
        "memory": {"trend": trend(samples([450e6] * 40))},
        "files": {"first_half": 9, "second_half": 9},
        "threads": {"first_half": 9, "second_half": 8},
        "reloads": {"asked": 2, "by": {"route": 1, "signal": 1}, "done": 2},
        "left_in_server": {"requests": 0},
    } | changes
    return found | {"held": judged(found)}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("every_answer_right_or_asked_to_come_again", {"requests": accounts([record("mixed_up")] * 3)}),
        ("every_answer_right_or_asked_to_come_again", {"requests": accounts([record("lost")] * 3)}),
        ("server_counted_the_same", {"counted_by_server": 4}),
        ("server_counted_the_same", {"counted_by_server": 1}),
        ("memory_flat", {"memory": {"trend": trend(samples([4e8 + 1e6 * n for n in range(40)]))}}),
        ("files_held", {"files": {"first_half": 9, "second_half": 10}}),
        ("threads_held", {"threads": {"first_half": 9, "second_half": 10}}),
        ("reloads_done", {"reloads": {"asked": 2, "by": {}, "done": 1}}),
        ("nothing_left", {"left_in_server": {"requests": 1}}),
    ],
)
def test_each_thing_that_did_not_hold_is_named(name, change):
    assert all(soaked()["held"].values())
    assert all(soaked(counted_by_server=2)["held"].values()), "it need not have seen a client that left"
    assert [key for key, value in soaked(**change)["held"].items() if not value] == [name]


# --- faults


async def nothing(scene):
    return {"expected": True}


def reported(records, *, ends=False, expected=True, grown=0, left=0):
    fault = Fault(name="x", done="something", inject=nothing, ends=ends)
    seen = {"expected": expected, "statuses": {"503": 5}, "recovered_seconds": 1.5}
    return report(fault, seen, accounts(records), 400, 400 + grown, {"streams": left})


def test_a_fault_is_survived_only_if_nothing_broke():
    fine = [record("right"), record("refused", status=503), record("left", status=0)]
    assert reported(fine)["survived"]
    gone = [*fine, record("lost", status=0), record("unreachable", status=0)]
    assert reported(gone)["broken"] == ["lost", "unreachable"]
    assert reported(gone, ends=True)["survived"], "whoever kills the process loses what it was doing"
    for harm in ("mixed_up", "wrong"):
        assert reported([*fine, record(harm)], ends=True)["broken"] == [harm]
    assert reported(fine, expected=False)["broken"] == ["not as expected"]
    assert reported(fine, grown=200_000_000)["broken"] == ["memory"]
    assert reported(fine, left=1)["broken"] == ["left in the server"]


def test_the_tables_hold_what_was_seen():
    lost = reported([record("right"), record("lost", status=0)])
    asked = {"model": "fineline-1@1.2.1", "rate": 10.0, "cores": 2, "seconds": 3600, "reload_every": 300}
    away = {"done": "more", "not_injected": "no disk"}
    faults = {"asked": asked, "faults": {"a": reported([record("right")]), "b": lost, "c": away}}
    text = replaced("x\n" + "\n".join((*FAULTS, *SOAK)) + "\ny\n", *FAULTS, fault_table(faults))
    written = replaced(text, *SOAK, soak_table({"asked": asked} | soaked()))
    assert written.startswith("x\n") and written.endswith("y\n")
    row = "| something | statuses 5 times 503; over after 1.5 s | 1 right; slowest 100 ms | 0 to 0 MB | survived |"
    assert row in written
    assert "| 1 right, 1 lost; slowest 100 ms | 0 to 0 MB | not survived: lost |" in written
    assert "| more | no disk |  |  | not injected |" in written
    assert "| 3 requests | 1 right, 1 asked to come again, 1 left by their client |" in written
    assert "| memory flat | yes |" in written
    assert replaced(written, *SOAK, soak_table({"asked": asked} | soaked())) == written
