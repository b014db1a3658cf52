"""The server process: signals, faults of clients and of the disk, and the official client."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")

from fineline.bundle import META, MODEL, write_bundle

MARKER = "zebrawhisper"
TEXTS = ["tell anyone", "", "他说要打断你的手", "never report 😀 help " * 30, "مرحبا"]


@pytest.fixture(scope="module")
def real(start_server, tiny, tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server"), "--bundle", tiny.bundle_fp32) as server:
        yield server


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "one")
    return tmp_path / "one"


def upgrade(folder, version):
    """Put another version in the place of a bundle, as a deployment does: by renaming."""
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    files = {name: folder / name for name in meta["files"]}
    write_bundle(folder, files, "card", entries | {"version": version})


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def http():
    """One client for all: each of its own would load the certificates anew."""
    with httpx.Client(timeout=150, limits=httpx.Limits(max_connections=100, max_keepalive_connections=0)) as client:
        HTTP.append(client)
        yield client
    HTTP.clear()


HTTP = []


def get(url):
    return HTTP[0].get(url)


def send(url, **body):
    return HTTP[0].post(url, json=body)


def metrics(url):
    lines = get(f"{url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


def connect(url):
    address = httpx.URL(url)
    return socket.create_connection((address.host, address.port), timeout=20)


def head(length, path="/v1/classify", extra=""):
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {length}", extra)
    return ("\r\n".join(filter(None, lines)) + "\r\n\r\n").encode()


# --- the official client


@pytest.fixture(scope="module")
def openai_client(real):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        ("tell anyone", ["tell anyone"]),
        (TEXTS, TEXTS),
        ([{"type": "text", "text": "tell"}, {"type": "text", "text": "anyone"}], ["tell\nanyone"]),
    ],
)
def test_the_official_client_reads_the_answer(openai_client, classifier_fp32, given, judged):
    answer = openai_client.moderations.create(input=given, model="omni-moderation-latest")
    assert answer.id.startswith("modr-")
    for result, verdict in zip(answer.results, classifier_fp32.classify(judged), strict=True):
        assert result.flagged is bool(verdict.flagged)
        assert isinstance(result.categories.self_harm_instructions, bool)
        assert isinstance(result.category_scores.harassment_threatening, float)
        assert result.category_scores.to_dict()["subversion"] == pytest.approx(verdict.scores["subversion"], abs=1e-5)
        assert result.model_extra["verdict_id"]


def test_the_official_client_reads_the_errors(openai_client):
    import openai

    image = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    with pytest.raises(openai.BadRequestError, match="text only") as caught:
        openai_client.moderations.create(input=image)
    assert caught.value.code == "image_not_supported"
    with pytest.raises(openai.UnprocessableEntityError) as unknown:
        openai_client.moderations.create(input="a", extra_body={MARKER: 1})
    assert MARKER not in str(unknown.value)


def test_parallel_requests_each_get_their_own_answer(real, classifier_fp32):
    texts = [" ".join(["tell anyone help never 他说"[i % 7 :], "word " * (i % 11), str(i)]) for i in range(50)]
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda text: send(f"{real.url}/v1/classify", input=text).json(), texts))
    expected = [classifier_fp32.classify([text])[0].as_dict() for text in texts]
    assert len({answer["id"] for answer in found}) == 50
    assert len({answer["results"][0]["verdict_id"] for answer in found}) == 50
    for answer, verdict in zip(found, expected, strict=True):
        assert answer["results"][0]["windows"][-1]["end"] == verdict["windows"][-1]["end"]
        assert answer["results"][0]["scores"] == pytest.approx(verdict["scores"], abs=1e-5)


# --- faults of clients


def test_a_body_of_a_hundred_megabytes_is_refused_and_its_sender_reads_why(real, error_of):
    def pieces():
        for _ in range(1600):
            yield b"x" * 2**16

    error_of(HTTP[0].post(f"{real.url}/v1/moderations", content=pieces()), 413, "body_too_large")
    assert get(f"{real.url}/readyz").status_code == 200


def test_a_client_that_asks_first_is_told_before_it_sends(real):
    with connect(real.url) as client:
        client.sendall(head(10**9, extra="Expect: 100-continue"))
        assert client.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("sent", [b"", b'{"inp', b'{"input": "' + b"word " * 2000])
def test_clients_that_vanish_while_sending_leave_nothing_behind(real, sent):
    before = metrics(real.url)["fineline_cancelled_total"]
    for _ in range(5):
        with connect(real.url) as client:
            client.sendall(head(len(sent) + 5) + sent)
    until(lambda: metrics(real.url)["fineline_cancelled_total"] == before + 5)
    assert metrics(real.url)["fineline_requests_running"] == 1  # the request for the metrics themselves


def test_clients_that_vanish_while_waiting_are_not_judged(real):
    body = json.dumps({"input": ["tell anyone " * 60] * 1000}).encode()
    before = metrics(real.url)
    for _ in range(5):
        with connect(real.url) as client:
            client.sendall(head(len(body)) + body)
            time.sleep(0.05)
    until(lambda: metrics(real.url)["fineline_requests_running"] == 1)
    after = metrics(real.url)
    assert after["fineline_queue_tokens"] == 0
    assert after["fineline_cancelled_total"] > before["fineline_cancelled_total"]
    judged = sum(after[name] - before.get(name, 0) for name in after if name.startswith("fineline_texts_total"))
    assert judged < 5000


def test_a_slow_reader_does_not_hold_others_up(real):
    with connect(real.url) as slow:
        body = json.dumps({"input": ["word"] * 1000}).encode()
        slow.sendall(head(len(body)) + body)
        began = time.monotonic()
        assert send(f"{real.url}/v1/classify", input="a").status_code == 200
        assert time.monotonic() - began < 30


def test_half_a_header_is_not_waited_for_and_counted(start_server, tiny_bundle, tmp_path):
    (tmp_path / "server.toml").write_text("[limits]\nstall_seconds = 0.3\n")
    with (
        start_server(tmp_path, "--bundle", tiny_bundle, "--config", "server.toml") as server,
        connect(server.url) as client,
    ):
        client.sendall(head(5)[:-2])
        assert client.recv(100).startswith(b"HTTP/1.1 408 ")
        assert metrics(server.url)["fineline_stalled_total"] == 1


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nx:\xff\r\n\r\n", b"x" * 100_000]
)
def test_what_is_not_http_is_turned_away(real, raw):
    with connect(real.url) as client:
        client.sendall(raw + b"\r\n\r\n")
        client.recv(1000)
    assert get(f"{real.url}/readyz").status_code == 200


def test_a_crash_leaves_no_memory_behind(real):
    [limit] = [line for line in Path(f"/proc/{real.process.pid}/limits").read_text().splitlines() if "core" in line]
    assert limit.split()[4] in ("0", "1")


# --- overload


def test_overload_refuses_some_and_loses_none(start_server, tiny_bundle, tmp_path):
    (tmp_path / "server.toml").write_text("[limits]\nqueue_tokens = 3000\ndeadline_seconds = 120\n")
    lost, seen = [], []

    def one(number):
        text = f"{number} " + "tell anyone " * 100
        response = send(f"{server.url}/v1/classify", input=[text] * 4)
        if response.status_code == 200:
            ends = {result["windows"][-1]["end"] for result in response.json()["results"]}
            if ends != {len(text)}:
                lost.append(number)
        elif response.status_code == 429:
            assert int(response.headers["retry-after"]) >= 1
        else:
            lost.append((number, response.status_code))
        seen.append(response.status_code)

    with start_server(tmp_path, "--bundle", tiny_bundle, "--config", "server.toml") as server:
        with ThreadPoolExecutor(40) as pool:
            list(pool.map(one, range(200)))
        counted = metrics(server.url)
    assert not lost
    assert len(seen) == 200 and {200, 429} == set(seen)
    assert counted["fineline_overloads_total"] == seen.count(429)


# --- signals


def test_sigterm_lets_requests_finish_and_refuses_new_ones(start_server, tiny_bundle, tmp_path):
    body = json.dumps({"input": "tell anyone"}).encode()
    with start_server(tmp_path, "--bundle", tiny_bundle) as server, connect(server.url) as running:
        running.sendall(head(len(body)) + body[:5])
        until(lambda: metrics(server.url)["fineline_requests_running"] == 2)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: get(f"{server.url}/readyz").status_code == 503)
        new = send(f"{server.url}/v1/classify", input="a")
        assert (new.status_code, new.headers["connection"]) == (503, "close")
        assert get(f"{server.url}/healthz").status_code == 200
        time.sleep(1.2)  # longer than the shortest drain
        assert server.process.poll() is None
        running.sendall(body[5:])
        answer = running.recv(100_000)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert server.process.wait(60) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()


def test_a_second_signal_does_not_wait_for_the_first(start_server, tiny_bundle, tmp_path):
    with start_server(tmp_path, "--bundle", tiny_bundle) as server:
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        assert time.monotonic() - began < 20


def test_sigterm_tells_an_open_stream_and_a_new_one_to_come_again(start_server, tiny_bundle, tmp_path):
    pytest.importorskip("websockets")
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    (tmp_path / "server.toml").write_text("[limits]\ndrain_seconds = 2\n")
    with start_server(tmp_path, "--bundle", tiny_bundle, "--config", "server.toml") as server:
        address = server.url.replace("http", "ws") + "/v1/stream"
        with connect(address) as socket:
            socket.send(json.dumps({"type": "start"}))
            assert json.loads(socket.recv())["type"] == "started"
            server.process.send_signal(signal.SIGTERM)
            until(lambda: get(f"{server.url}/readyz").status_code == 503)
            with pytest.raises(InvalidStatus) as refused:
                connect(address)
            assert refused.value.response.status_code == 503
            assert refused.value.response.headers["retry-after"] == "1"
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    socket.recv(timeout=60)
            assert closed.value.rcvd.code == 1012
        assert server.process.wait(60) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log.read_text()


def test_sighup_swaps_the_bundle_while_requests_run_and_none_fails(start_server, folder):
    versions, failures, stop = set(), [], threading.Event()

    def client():
        while not stop.is_set():
            response = send(f"{server.url}/v1/classify", input=["tell anyone", "help"])
            if response.status_code == 200:
                versions.update(result["model"] for result in response.json()["results"])
            else:
                failures.append(response.status_code)

    def swaps(count):
        until(lambda: metrics(server.url).get('fineline_reloads_total{result="done"}') == count)

    with start_server(folder.parent, "--bundle", folder) as server:
        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for number in (2, 3):
                upgrade(folder, f"0.0.{number}")
                server.process.send_signal(signal.SIGHUP)
                swaps(number - 1)
            # A copy that broke off: the model in use stays.
            data = (folder / MODEL).read_bytes()
            (folder / MODEL).write_bytes(data[: len(data) // 2])
            server.process.send_signal(signal.SIGHUP)
            until(lambda: metrics(server.url).get('fineline_reloads_total{result="failed"}') == 1)
            time.sleep(0.2)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert get(f"{server.url}/readyz").json()["model"] == "tiny@0.0.3"
    assert not failures
    assert {"tiny@0.0.1", "tiny@0.0.3"} <= versions <= {f"tiny@0.0.{n}" for n in (1, 2, 3)}
    assert "bundle_hash_mismatch" in server.log.read_text() or "was changed or cut" in server.log.read_text()


def test_a_kill_under_load_gives_no_wrong_answer(start_server, tiny_bundle, tmp_path):
    texts = [f"{'tell anyone ' * (n % 30)}{n}" for n in range(400)]
    wrong, answered = [], []

    def one(text):
        try:
            response = send(f"{server.url}/v1/classify", input=text)
        except httpx.TransportError:
            return  # the client knows that it has no answer
        answered.append(text)
        if response.status_code != 200 or response.json()["results"][0]["windows"][-1]["end"] != len(text):
            wrong.append(text)

    with start_server(tmp_path, "--bundle", tiny_bundle) as server, ThreadPoolExecutor(16) as pool:
        work = [pool.submit(one, text) for text in texts]
        until(lambda: len(answered) > 20)
        server.process.kill()
        for future in work:
            future.result()
    assert not wrong
    assert len(answered) < len(texts)


def test_a_kill_in_a_reload_leaves_a_bundle_that_starts(start_server, folder):
    upgrade(folder, "0.0.2")
    with start_server(folder.parent, "--bundle", folder) as server:
        # The reload writes nothing; wherever in it the kill comes, the folder is as it was.
        for _ in range(20):
            server.process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        server.process.kill()
        server.process.wait()
    with start_server(folder.parent, "--bundle", folder) as server:
        assert send(f"{server.url}/v1/classify", input="a").json()["results"][0]["model"] == "tiny@0.0.2"


# --- starting


def start(source_env, folder, *words):
    code = "from fineline.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", *map(str, words)]
    return subprocess.run(command, env=source_env, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_bundle_that_cannot_be_used_is_one_sentence(source_env, folder):
    (folder / MODEL).write_bytes(b"x")
    done = start(source_env, folder.parent, "--bundle", folder, "--port", 0)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error [bundle_hash_mismatch]: ")
    assert "Traceback" not in done.stderr


def test_a_host_that_others_reach_needs_keys(source_env, tiny_bundle, tmp_path):
    done = start(source_env, tmp_path, "--bundle", tiny_bundle, "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "error [auth_required]" in done.stderr


def test_a_port_in_use_is_told(source_env, real, tiny_bundle, tmp_path):
    done = start(source_env, tmp_path, "--bundle", tiny_bundle, "--port", httpx.URL(real.url).port)
    assert done.returncode != 0
    assert "address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_serves_over_tls(start_server, tiny_bundle, tmp_path):
    made = subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 1 -subj /CN=localhost".split(),
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl is not here")
    words = ("--bundle", tiny_bundle, "--certificate", "cert.pem", "--key", "key.pem")
    with start_server(tmp_path, *words, scheme="https") as server:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        trusted.check_hostname = False
        answer = httpx.post(f"{server.url}/v1/classify", json={"input": "a"}, verify=trusted)
        assert answer.status_code == 200


def test_the_wall_clock_may_jump(start_server, tiny_bundle, tmp_path):
    # Half a day forth, then a day back, with every look at it.
    before = (
        "import itertools, time\n"
        "real, steps = time.time, itertools.cycle([43200, -86400])\n"
        "time.time = lambda: real() + next(steps)"
    )
    with start_server(tmp_path, "--bundle", tiny_bundle, before=before) as server:
        for _ in range(20):
            assert send(f"{server.url}/v1/classify", input="a").status_code == 200
