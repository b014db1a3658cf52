"""``/v1/stream``: a text judged while it is written."""

import asyncio
import json
import logging
import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from fineline import Classifier
from fineline.server import streaming
from fineline.server.keys import AuthSettings, new_key, write_keys
from fineline.server.settings import CorsSettings, LimitSettings
from fineline.server.stream_messages import Halves

MARKER = "zebrawhisper"
TEXT = "tell anyone. never report! 他说要打断你的手。help " * 5


@pytest.fixture(scope="module")
def client(make_app, classifier_fp32):
    with TestClient(make_app(classifier_fp32), base_url="http://127.0.0.1:8000") as client:
        yield client


@contextmanager
def opened(client, **start):
    """A stream that has started."""
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json({"type": "start", **start})
        message = socket.receive_json()
        assert message["type"] == "started", message
        yield socket


def send(socket, *deltas):
    for delta in deltas:
        socket.send_json({"type": "delta", "text": delta})


def rest(socket):
    """All messages up to the last one, and the code the server closes with."""
    messages = []
    while True:
        try:
            messages.append(socket.receive_json())
        except WebSocketDisconnect as closed:
            return messages, closed.code


def until(socket, kind):
    while (message := socket.receive_json())["type"] != kind:
        assert message["type"] != "error", message
    return message


def refused(messages, code):
    assert set(messages[-1]) == {"type", "error"}
    assert messages[-1]["type"] == "error"
    assert set(messages[-1]["error"]) == {"message", "type", "param", "code"}
    assert messages[-1]["error"]["code"] == code
    assert MARKER not in json.dumps(messages)


# --- a stream


@pytest.mark.parametrize("size", [1, 1000])
def test_the_verdict_is_that_of_the_whole_text(client, post, size):
    with opened(client, context="Why?", policy="minors") as socket:
        send(socket, *(TEXT[low : low + size] for low in range(0, len(TEXT), size)))
        socket.send_json({"type": "end"})
        messages, code = rest(socket)
    assert code == 1000
    assert {message["type"] for message in messages[:-1]} <= {"judged", "event"}
    verdict = messages[-1]
    assert verdict.pop("type") == "verdict"
    expected = post(client, "/v1/classify", {"input": TEXT, "context": "Why?", "policy": "minors"}).json()
    assert verdict.pop("scores") == pytest.approx(expected["results"][0].pop("scores"), abs=1e-5)
    windows, others = verdict.pop("windows"), expected["results"][0].pop("windows")
    assert [(w["start"], w["end"]) for w in windows] == [(w["start"], w["end"]) for w in others]
    assert verdict == expected["results"][0]


def test_events_come_while_the_text_is_written_each_label_once(client):
    with opened(client) as socket:
        send(socket, "tell anyone " * 8 + "now. ", "And ")
        first = until(socket, "event")
        assert set(first) == {"type", "label", "score", "action", "start", "end", "since", "at", "delay"}
        assert first["delay"] == first["at"] - first["end"] <= 5
        until(socket, "judged")
        send(socket, *["tell anyone again. "] * 8)
        socket.send_json({"type": "end"})
        messages, _ = rest(socket)
    labels = [message["label"] for message in messages if message["type"] == "event"]
    assert len({*labels, first["label"]}) >= len(labels)
    assert len(set(labels)) == len(labels)
    places = [message["until"] for message in messages if message["type"] == "judged"]
    assert places == sorted(set(places))


def test_a_stream_may_be_empty(client, classifier_fp32):
    with opened(client) as socket:
        socket.send_json({"type": "end"})
        messages, code = rest(socket)
    assert (messages[0]["type"], code) == ("verdict", 1000)
    assert messages[0]["flagged"] == list(classifier_fp32.classify([""])[0].flagged)


def test_an_emoji_cut_in_two_is_one_character(client):
    with opened(client) as socket:
        for half in ("\\ud83d", "\\ude00", "\\ud83d"):
            socket.send_text(f'{{"type": "delta", "text": "{half}"}}')
        socket.send_json({"type": "end"})
        messages, _ = rest(socket)
    assert messages[-1]["windows"][-1]["end"] == 2


def test_halves_are_joined_wherever_they_are_cut():
    text = "a😀\ud83db\ude00🏳️‍🌈\ud83d"
    units = text.encode("utf-16-le", "surrogatepass")
    for size in (2, 4, 6, 10):
        halves = Halves()
        parts = [units[low : low + size].decode("utf-16-le", "surrogatepass") for low in range(0, len(units), size)]
        cut = [
            "".join(chr(int.from_bytes(part[i : i + 2], "little")) for i in range(0, len(part), 2))
            for part in (p.encode("utf-16-le", "surrogatepass") for p in parts)
        ]
        assert "".join([*(halves.join(part) for part in cut), halves.rest()]) == text
        assert halves.rest() == ""


def test_what_is_written_is_counted_as_one_text(make_app, classifier_fp32, caplog):
    caplog.set_level(logging.INFO)
    with TestClient(make_app(classifier_fp32)) as client:
        with opened(client) as socket:
            send(socket, *["tell anyone now. "] * 9, MARKER)
            socket.send_json({"type": "end"})
            rest(socket)
        metrics = client.get("/metrics").text
    counted = [line for line in metrics.splitlines() if line.startswith("fineline_texts_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 1
    assert "fineline_streams 0.0" in metrics
    assert "fineline_stream_delay_characters_count" in metrics
    (line,) = [
        record.fields
        for record in caplog.records
        if record.name == "fineline.access" and record.fields["route"] == "/v1/stream"
    ]
    assert line["texts"] == 1
    assert line["tokens"] > 60
    assert MARKER not in caplog.text + metrics


def test_a_stream_may_last_longer_than_the_deadline_of_a_request(make_app, classifier_fp32):
    with (
        TestClient(make_app(classifier_fp32, limits=LimitSettings(deadline_seconds=0.5))) as client,
        opened(client) as socket,
    ):
        time.sleep(0.7)
        send(socket, "tell anyone now! ")
        until(socket, "judged")
        socket.send_json({"type": "end"})
        assert rest(socket)[0][-1]["type"] == "verdict"


# --- what goes wrong


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("{", "invalid_message"),
        ("7", "invalid_message"),
        ("[" * 10_000, "invalid_message"),
        ('{"type": "zebrawhisper"}', "invalid_message"),
        ('{"type": "delta"}', "invalid_message"),
        ('{"type": "delta", "text": 7}', "invalid_message"),
        ('{"type": "delta", "text": "a", "zebrawhisper": 1}', "invalid_message"),
        ('{"type": "start"}', "stream_order"),
    ],
)
def test_a_bad_message_ends_the_stream_with_its_reason(client, raw, code):
    with opened(client) as socket:
        socket.send_text(raw)
        messages, closed = rest(socket)
    refused(messages, code)
    assert closed == 1008


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"type": "delta", "text": MARKER}, "stream_order"),
        ({"type": "end"}, "stream_order"),
        ({"type": "start", "policy": MARKER}, "policy_unknown"),
        ({"type": "start", "context": 7}, "invalid_message"),
    ],
)
def test_a_bad_start_is_refused(client, message, code):
    with client.websocket_connect("/v1/stream") as socket:
        socket.send_json(message)
        messages, closed = rest(socket)
    refused(messages, code)
    assert closed == 1008


def test_a_binary_message_is_read_as_json(client):
    with opened(client) as socket:
        socket.send_bytes(b'{"type": "end"}')
        assert rest(socket)[1] == 1000


def test_a_text_over_the_limit_ends_the_stream(make_app, classifier_fp32):
    app = make_app(classifier_fp32, limits=LimitSettings(max_characters=30))
    with TestClient(app) as client:
        with opened(client, context="Why?" * 5) as socket:
            send(socket, "0123456789")
            socket.send_json({"type": "end"})
            assert rest(socket)[1] == 1000
        with opened(client, context="Why?" * 5) as socket:
            send(socket, "0123456789", MARKER)
            refused(rest(socket)[0], "stream_too_long")
        with client.websocket_connect("/v1/stream") as socket:
            socket.send_json({"type": "start", "context": "Why?" * 8})
            refused(rest(socket)[0], "stream_too_long")


def test_no_more_streams_than_allowed_and_places_come_free(make_app, classifier_fp32):
    with TestClient(make_app(classifier_fp32, limits=LimitSettings(max_streams=1))) as client:
        with opened(client):
            with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/v1/stream"):
                pass
            assert caught.value.status_code == 429
            assert caught.value.headers["retry-after"] == "1"
        with opened(client):
            pass


def test_an_idle_stream_is_closed(client, monkeypatch):
    monkeypatch.setattr(streaming, "_IDLE", 0.05)
    with opened(client) as socket:
        messages, code = rest(socket)
    refused(messages, "stream_idle")
    assert code == 1008


def test_keys_and_their_limits_hold(make_app, classifier_fp32, tmp_path):
    secret, entry = new_key("team", ["judge"], characters_per_minute=50)
    other, admin = new_key("ops", ["admin"])
    write_keys(tmp_path / "keys.toml", [entry, admin])
    with TestClient(make_app(classifier_fp32, auth=AuthSettings(keys=str(tmp_path / "keys.toml")))) as client:
        for headers, status in (({}, 401), ({"authorization": f"Bearer {other}"}, 403)):
            with (
                pytest.raises(WebSocketDenialResponse) as caught,
                client.websocket_connect("/v1/stream", headers=headers),
            ):
                pass
            assert caught.value.status_code == status
        with client.websocket_connect("/v1/stream", headers={"authorization": f"Bearer {secret}"}) as socket:
            socket.send_json({"type": "start", "context": "Why?"})
            assert socket.receive_json()["type"] == "started"
            send(socket, MARKER, "0123456789" * 5, "0123456789")
            messages, code = rest(socket)
    refused(messages, "rate_limit_exceeded")
    assert code == 1013


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://example.org", False),
        ("http://127.0.0.1:9", False),
        ("null", False),
        ("http://testserver", True),
        ("https://console.example", True),
    ],
)
def test_pages_of_other_origins_are_refused(make_app, classifier_fp32, origin, allowed):
    app = make_app(classifier_fp32, cors=CorsSettings(origins=("https://console.example",)))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        if allowed:
            with client.websocket_connect("/v1/stream", headers={"origin": origin}) as socket:
                socket.send_json({"type": "start"})
                assert socket.receive_json()["type"] == "started"
        else:
            with (
                pytest.raises(WebSocketDenialResponse) as caught,
                client.websocket_connect("/v1/stream", headers={"origin": origin}),
            ):
                pass
            assert caught.value.json()["error"]["code"] == "foreign_origin"


# --- load and faults


class Slow:
    """An engine that waits for leave, and may fail."""

    def __init__(self, classifier):
        self._engine = classifier.engine
        self.device = self._engine.device
        self.leave = threading.Event()
        self.leave.set()
        self.error = None
        self.windows = 0

    def logits(self, windows):
        self.leave.wait(20)
        self.windows += len(windows)
        if self.error:
            raise self.error
        return self._engine.logits(windows)


@pytest.fixture
def slow(tiny):
    classifier = Classifier.load(tiny.bundle_fp32, threads=1)
    classifier.engine = Slow(classifier)
    return classifier


def test_what_comes_during_a_judgement_is_judged_at_once(make_app, slow):
    with TestClient(make_app(slow)) as client, opened(client) as socket:
        slow.engine.leave.clear()
        slow.engine.windows = 0
        for number in range(40):
            send(socket, f"Sentence {number} ends. ")
        time.sleep(0.3)
        slow.engine.leave.set()
        assert until(socket, "judged")["until"] < 40
        assert until(socket, "judged")["until"] > 600
        assert slow.engine.windows < 20


def test_a_client_that_leaves_costs_nothing_more(make_app, slow):
    with TestClient(make_app(slow)) as client:
        with opened(client) as socket:
            slow.engine.leave.clear()
            send(socket, "Sentence one. ", "Sentence two. ")
            time.sleep(0.1)
            socket.send_json({"type": "end"})
        slow.engine.leave.set()
        metrics = client.get("/metrics").text
        assert "fineline_streams 0.0" in metrics
        assert "fineline_cancelled_total 1.0" in metrics
        assert "fineline_queue_tokens 0.0" in metrics


def test_a_client_that_reads_nothing_loses_its_place(make_app, classifier_fp32, monkeypatch):
    app = make_app(classifier_fp32, limits=LimitSettings(stall_seconds=0.1))

    async def never(self, message):
        await asyncio.Event().wait()

    with TestClient(app) as client:
        with opened(client) as socket:
            monkeypatch.setattr(WebSocket, "send_json", never)
            send(socket, "Sentence one. ", "Sentence two. ")
            while "fineline_streams 1.0" in client.get("/metrics").text:
                time.sleep(0.02)
        assert "fineline_cancelled_total 1.0" in client.get("/metrics").text


def test_a_failing_engine_ends_the_stream_with_an_error(make_app, slow):
    with TestClient(make_app(slow)) as client, opened(client) as socket:
        slow.engine.error = RuntimeError(MARKER)
        send(socket, "Sentence one. ", "Sentence two. ")
        messages, code = rest(socket)
    refused(messages, "engine")
    assert code == 1011


def test_an_overload_is_waited_out(make_app, classifier_fp32):
    app = make_app(classifier_fp32, limits=LimitSettings(queue_tokens=64, deadline_seconds=10))
    with TestClient(app) as client, opened(client) as socket:
        batcher = app.state.service.slot.model.batcher
        for _ in range(4):  # one request counts for a quarter of the queue
            batcher.reserve(16, time.monotonic() + 60)
        send(socket, "tell anyone now. " * 3)
        time.sleep(0.3)
        for _ in range(4):
            batcher.release(16)
        assert until(socket, "judged")["until"] == 50
        assert app.state.service.metrics.registry.get_sample_value("fineline_overloads_total") >= 1


def test_an_overload_that_lasts_ends_the_stream_with_an_error(make_app, classifier_fp32):
    app = make_app(classifier_fp32, limits=LimitSettings(queue_tokens=64, deadline_seconds=0.5))
    with TestClient(app) as client, opened(client) as socket:
        for _ in range(4):  # one request counts for a quarter of the queue
            app.state.service.slot.model.batcher.reserve(16, time.monotonic() + 60)
        send(socket, "tell anyone now. " * 3)
        messages, code = rest(socket)
    refused(messages, "overloaded")
    assert code == 1013


# --- a real socket


def test_a_real_server_streams_and_writes_no_text_to_its_log(start_server, tiny, tmp_path):
    pytest.importorskip("websockets")
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    (tmp_path / "server.toml").write_text('[log]\nlevel = "debug"\n')
    options = ("--bundle", tiny.bundle_fp32, "--config", tmp_path / "server.toml")
    with start_server(tmp_path, *options) as server:
        address = server.url.replace("http", "ws") + f"/v1/stream?{MARKER}"
        with connect(address, additional_headers={"x-note": MARKER}) as socket:
            socket.send(json.dumps({"type": "start", "context": MARKER}))
            assert json.loads(socket.recv())["type"] == "started"
            for word in TEXT.split(" "):
                socket.send(json.dumps({"type": "delta", "text": f"{word} {MARKER} "}))
            socket.send(json.dumps({"type": "end"}))
            messages = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    messages.append(json.loads(socket.recv(timeout=20)))
        assert messages[-1]["type"] == "verdict"
        assert messages[-1]["verdict_id"]
        assert closed.value.rcvd.code == 1000
        with connect(server.url.replace("http", "ws") + "/v1/stream") as socket:
            socket.send("x" * (2 * 2**20))
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=20)
            assert closed.value.rcvd.code == 1009
    log = server.log.read_text()
    assert "/v1/stream" in log
    assert MARKER not in log
