"""A finished scan of a few rows, made in this process; the server, in this process and in one of its own."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fineline.bundle import Bundle, load_bundle

LONG = "The nurse asked how she should report the threat. 他说要打断你的手，我很害怕。 " * 9
LONG_FLAGGED = "tell anyone " * 60
WORDS = "tell anyone find you 他说 打断 手 ありがとう شكرا нет да never report help стоп ห้าม threat nurse".split()


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """An output folder and what went into it."""

    output: str
    folder: Path
    source: Path
    rows: list[dict[str, Any]]
    bundle: Bundle


@pytest.fixture(scope="session")
def tiny_loaded(tiny: Any) -> Bundle:
    """The bundle whose scores do not depend on what shares a batch."""
    return load_bundle(tiny.bundle_fp32)


@pytest.fixture(scope="session")
def rows() -> list[dict[str, Any]]:
    """Short, long, repeated and bad rows of several languages and sources."""
    sources = ["news", "forum", "<script>alert(1)</script>", None]
    found: list[dict[str, Any]] = []
    for i in range(72):
        words = " ".join(WORDS[(i * 5 + k * (1 + i % 4)) % len(WORDS)] for k in range(1 + i % 11))
        row: dict[str, Any] = {"key": i, "text": f"{words} {i}", "kept": {"of": [i]}}
        row |= {"lang": ["en", "zh"][i % 2]} if i % 5 else {}
        row |= {"source": sources[i % 3]} if i % 7 else {}
        found.append(row)
    found[10]["text"] = found[3]["text"]
    found[60]["text"] = found[3]["text"]
    for i in (5, 29, 33):
        found[i]["text"] = LONG[i:] + " and so on"
    found[47]["text"] = LONG_FLAGGED
    found[20]["text"] = 7
    del found[41]["text"]
    return found


@pytest.fixture
def make_scan(tiny_loaded: Bundle, tmp_path: Path) -> Callable[..., Scanned]:
    """Scan rows in this process, with the parts that the command uses."""
    from fineline.scan.documents import Fields
    from fineline.scan.inputs import list_inputs
    from fineline.scan.manifest import finish_run, open_manifest, settings, start_run, survey
    from fineline.scan.scorer import ShardScorer
    from fineline.scan.shards import shards
    from fineline.scan.store import Store

    def make(
        rows: list[dict[str, Any]], *, complete: bool = True, files: int = 1, bundle: Bundle = tiny_loaded
    ) -> Scanned:
        source = tmp_path / "input"
        source.mkdir()
        for i in range(files):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[i::files])
            (source / f"part{i}.jsonl").write_text(lines, encoding="utf-8")
        store, inputs = Store(str(tmp_path / "out")), list_inputs(str(source))
        fields = Fields(id="key", lang="lang", source="source")
        chosen = settings(bundle, fields, 16, 100, 1)
        manifest = open_manifest(store, bundle, chosen, [survey(file) for file in inputs])
        start_run(store, manifest, bundle, "cn_measures", {"name": "test"})
        scorer = ShardScorer(bundle.path, 1)
        for shard in shards(inputs, fields, 16, 100):
            store.write(shard, scorer.score(shard))
        if complete:
            finish_run(store, manifest, {}, [(0, 0)] * len(inputs))
        return Scanned(output=store.output, folder=Path(store.output), source=source, rows=rows, bundle=bundle)

    return make


# --- the server


@pytest.fixture(scope="session")
def make_app(classifier: Any) -> Callable[..., Any]:
    """An app with the tiny model; keywords are sections of the settings."""
    pytest.importorskip("fastapi")
    from fineline.server.app import create_app
    from fineline.server.feedback_settings import FeedbackSettings
    from fineline.server.models import ModelSlot
    from fineline.server.settings import ServerSettings

    def make(model: Any = None, **sections: Any) -> Any:
        settings = ServerSettings(**({"feedback": FeedbackSettings(enabled=False)} | sections))
        return create_app(settings, ModelSlot.holding(model or classifier, settings))

    return make


@pytest.fixture(scope="session")
def post() -> Callable[..., Any]:
    """Post a body as JSON; bytes are sent as they are."""

    def send(client: Any, path: str, body: Any, **headers: str) -> Any:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return client.post(path, content=raw, headers={"content-type": "application/json"} | named)

    return send


@pytest.fixture(scope="session")
def error_of() -> Callable[..., dict[str, Any]]:
    """Check that an answer is an OpenAI error object, and give what it holds."""

    def check(response: Any, status: int, code: str | None = None, marker: str | None = None) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert set(response.json()) == {"error"}
        error: dict[str, Any] = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
        assert marker is None or marker not in response.text
        assert code is None or error["code"] == code
        return error

    return check


@dataclass(frozen=True, kw_only=True)
class RealServer:
    """A server in a process of its own.

    Attributes:
        url: Where it listens.
        log: All it writes.
        process: The process.
    """

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="session")
def start_server(source_env: dict[str, str]) -> Callable[..., Any]:
    """Run ``fineline serve`` for the length of a block, from when it is ready; ``before`` is code to run first."""
    import httpx

    @contextmanager
    def start(folder: Path, *words: object, before: str = "", scheme: str = "http") -> Iterator[RealServer]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        log = folder / "log.txt"
        code = f"{before}\nfrom fineline.cli import main; main()"
        command = [sys.executable, "-c", code, "serve", "--port", str(port), *map(str, words)]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, env=source_env, cwd=folder, stdout=stream, stderr=stream)
        url = f"{scheme}://127.0.0.1:{port}"
        try:
            for _ in range(1500):
                assert process.poll() is None, log.read_text()
                try:
                    if httpx.get(f"{url}/readyz", verify=False).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            else:
                raise AssertionError("the server did not become ready: " + log.read_text())
            yield RealServer(url=url, log=log, process=process)
        finally:
            process.terminate()
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait()

    return start
