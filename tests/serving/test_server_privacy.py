"""Nothing a user sent is in anything the server writes: logs, metrics, errors, files, what a crash leaves."""

import base64
import json
import signal
import socket
import subprocess
import sys

import httpx
import pytest

pytest.importorskip("fastapi")

MARKER = "zebrawhisper"
EXPLODE = "explode"
CONFIG = '[log]\nlevel = "debug"\n[limits]\nmax_characters = 20000\nmax_body = 60000\n'
BREAK = f"""
from fineline.classifier import Classifier
encode = Classifier.encode
def broken(self, texts, contexts=None):
    for text in texts:
        if "{EXPLODE}" in text:
            raise RuntimeError(f"cannot read {{text}}")
    return encode(self, texts, contexts)
Classifier.encode = broken
from fineline.engine import Engine
logits = Engine.logits
def failing(self, windows):
    if len(windows[0].ids) == 9:
        raise ValueError({MARKER!r})
    return logits(self, windows)
Engine.logits = failing
"""
"""Code that makes the server fail in the middle of a request with the text in the exception."""

MODERATIONS, CLASSIFY, INFER = "/v1/moderations", "/v1/classify", "/v2/models/tiny/infer"
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [MARKER]}
BODIES = [
    {"input": MARKER},
    {"input": [MARKER, 5]},
    {"input": MARKER, MARKER: MARKER},
    {"input": MARKER, "context": MARKER, "policy": MARKER},
    {"input": [MARKER, "b"], "context": [MARKER]},
    {"input": [{"type": "image_url", "image_url": {"url": MARKER}}]},
    {"input": [{"type": MARKER}]},
    {"input": [MARKER] * 3000},
    {"input": MARKER * 3000},
    {"input": MARKER * 10_000},
    {"input": f"{MARKER} {EXPLODE}"},
    {"input": [f"{MARKER} " * n for n in range(1, 20)]},
    {"inputs": [TENSOR]},
    {"inputs": [TENSOR | {"name": MARKER}]},
    {"inputs": [TENSOR | {"data": [f"{MARKER} {EXPLODE}"]}]},
    {"inputs": [TENSOR], "outputs": [{"name": MARKER}], "id": MARKER},
    {"bundle": MARKER},
    {"verdict_id": MARKER, "expected_labels": [MARKER], "reason": MARKER, "note": MARKER, "text": MARKER},
    MARKER,
    [MARKER],
]
RAW = ["{" + MARKER, '{"input": "' + MARKER + ' \\ud800"}', '{"input": "' + MARKER + '\xff"}', "[" * 10_000 + MARKER]
PATHS = [
    MODERATIONS, CLASSIFY, INFER, "/v1/feedback", "/admin/reload", "/v2", f"/v2/models/{MARKER}/infer",
    f"/{MARKER}", f"/v1/{MARKER}", "/v1/stream", "/",
]  # fmt: skip
HEADERS = {
    "x-note": MARKER, "user-agent": MARKER, "x-request-id": f"{MARKER} {MARKER}", "traceparent": MARKER,
    "tracestate": MARKER, "authorization": f"Bearer {MARKER}", "cookie": MARKER, "x-deadline-ms": "9000",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(start_server, tiny_bundle, tmp_path_factory):
    """Answers and all files of a server that was sent the marker in every way, failed, and was killed."""
    folder = tmp_path_factory.mktemp("private")
    (folder / "server.toml").write_text(CONFIG)
    answers = []
    words = ("--bundle", tiny_bundle, "--config", "server.toml")
    with start_server(folder, *words, before=BREAK) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def send(method, path, **options):
            answers.append(client.request(method, path, params={"q": MARKER}, headers=HEADERS, **options))

        for path in PATHS:
            for body in BODIES:
                send("POST", path, json=body)
            for raw in RAW:
                send("POST", path, content=raw.encode("latin-1"))
            for method in ("GET", "PUT", "DELETE", "OPTIONS"):
                send(method, path)
        answers.append(client.get("/v1/model"))
        for raw in (f"{MARKER} / HTTP/1.1\r\n\r\n", f"POST {CLASSIFY} HTTP/1.1\r\n{MARKER}\r\n\r\n", handshake()):
            with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as stream:
                stream.sendall(raw.encode())
                stream.recv(1000)
        gone = json.dumps({"input": [MARKER * 9] * 900}).encode()
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=20) as stream:
            stream.sendall(f"POST {CLASSIFY} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode())
            stream.sendall(f"content-length: {len(gone)}\r\n\r\n".encode() + gone)
        metrics = client.get("/metrics").text
        server.process.send_signal(signal.SIGABRT)
        server.process.wait(20)
    return answers, metrics, {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def handshake():
    lines = ("GET /v1/stream HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", f"X-Note: {MARKER}")
    return "\r\n".join(
        (*lines, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + base64.b64encode(b"0" * 16).decode(), "", "")
    )


def test_every_kind_of_failure_was_met(written):
    answers, metrics, _ = written
    statuses = {answer.status_code for answer in answers}
    assert {200, 400, 404, 405, 413, 422, 500} <= statuses
    assert "fineline_engine_errors_total 0.0" not in metrics


def test_no_answer_quotes_what_was_sent(written):
    answers, _, _ = written
    for answer in answers:
        # The id of an inference request is the caller's own, handed back as the protocol asks.
        assert MARKER not in answer.text.replace(f'"id":"{MARKER}"', ""), answer.request.url.path
        assert MARKER not in str(answer.headers)


def test_no_metric_holds_it(written):
    assert "fineline_requests_total" in written[1]
    assert MARKER not in written[1]


def test_no_file_holds_it(written):
    files = written[2]
    log = next(content for file, content in files.items() if file.name == "log.txt")
    assert log.count(b'"message": "request"') > 100
    assert b"RuntimeError at " in log
    for file, content in files.items():
        assert MARKER.encode() not in content, file.name


def test_every_line_of_the_log_is_one_object(written):
    log = next(content for file, content in written[2].items() if file.name == "log.txt").decode()
    for line in log.splitlines():
        assert set(json.loads(line)) >= {"time", "level", "logger", "message"}


def test_an_error_that_nobody_can_catch_is_logged_by_its_place(source_env):
    code = f"""
from fineline.server.logs import set_up_logging
set_up_logging("info")
class Falls:
    def __del__(self):
        raise ValueError("{MARKER}")
Falls()
"""
    done = subprocess.run([sys.executable, "-c", code], env=source_env, capture_output=True, text=True, check=True)
    assert "ValueError at <string>:6" in json.loads(done.stderr)["message"]
    assert MARKER not in done.stdout + done.stderr
