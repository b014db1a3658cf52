"""The servers that are compared, each in a process of its own, and the load on them."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import serve_infinity
from fineline.bundle import Bundle
from fineline.server.sealing import write_secret

_HERE = Path(__file__).parent
_SOON = 180.0
"""Seconds in which a server must be ready."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How one server is started and asked.

    Attributes:
        name: In the result.
        command: Its words, for a port.
        route: Where texts are posted.
        ready: Route that answers 200 when it is ready.
        body: JSON of a request, less its texts.
        folder: Working directory.
        environment: Its environment.
    """

    name: str
    command: Callable[[int], list[str]]
    route: str = "/v1/classify"
    ready: str = "/readyz"
    body: Mapping[str, Any] = field(default_factory=dict)
    folder: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that is ready.

    Attributes:
        kind: Which.
        url: Of its route.
        start_seconds: From its start to its first ready answer.
        process: It.
    """

    kind: Kind
    url: str
    start_seconds: float
    process: psutil.Process

    @property
    def base(self) -> str:
        """Where it listens."""
        return self.url.removesuffix(self.kind.route)

    def memory(self) -> dict[str, int]:
        """Resident bytes now, and most so far, of it and all its processes."""
        family = [self.process, *self.process.children(recursive=True)]
        return {"now": sum(one.memory_info().rss for one in family), "most": sum(map(_most, family))}


def _most(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def own_server(bundle: Path, folder: Path, *, database: Path | None = None, before: str = "") -> Kind:
    """Our server with the settings as they come, and appeals kept encrypted.

    Args:
        bundle: Folder of the model.
        folder: Working directory.
        database: Where appeals are kept; in ``folder`` if not given.
        before: Python to run in its process first.
    """
    config, key = folder / "server.toml", folder / "texts.key"
    if not key.exists():
        write_secret(key)
    url, secrets = (json.dumps(str(one)) for one in (f"sqlite:///{database or folder / 'appeals.db'}", key))
    config.write_text(f'[feedback]\nurl = {url}\ntexts = "encrypted"\nkey_file = {secrets}\n')
    code = f"{before}\nfrom fineline.cli import main; main()"
    words = [sys.executable, "-c", code, "serve", "--config", str(config), "--bundle", str(bundle)]
    return Kind(
        name="fineline",
        command=lambda port: [*words, "--port", str(port)],
        folder=folder,
        environment=dict(os.environ),
    )


def kinds(bundle: Bundle, folder: Path, infinity: Path | None, batch: int) -> list[Kind]:
    """All servers: ours as it comes, the plain handler with one thread a call and with all, and infinity."""
    cores = os.cpu_count() or 1
    here: dict[str, Any] = {"folder": folder, "environment": dict(os.environ)}
    plain = [sys.executable, str(_HERE / "serve_plain.py"), str(bundle.path)]
    found = [own_server(bundle.path, folder)]
    for threads in sorted({1, cores}):

        def command(port: int, threads: int = threads) -> list[str]:
            return [*plain, str(port), str(threads)]

        found.append(Kind(name=f"plain {threads}", command=command, **here))
    if infinity:
        model = folder / "infinity"
        serve_infinity.write_model(bundle, model)
        found.append(
            Kind(
                name="infinity",
                command=lambda port: serve_infinity.command(infinity, port, batch),
                route="/classify",
                ready="/health",
                body={"model": serve_infinity.NAME},
                folder=model,
                environment=serve_infinity.environment(folder / "cache"),
            )
        )
    return found


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def running(kind: Kind, logs: Path, port: int | None = None) -> Iterator[Running]:
    """Run a server for the length of a block, from when it is ready; on a free port if none is given.

    Raises:
        SystemExit: It did not become ready.
    """
    if port is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    log = logs / f"{kind.name}.log"
    began = time.perf_counter()
    with log.open("ab") as stream:
        child = subprocess.Popen(
            kind.command(port), cwd=kind.folder, env=dict(kind.environment), stdout=stream, stderr=stream
        )
    try:
        url = f"http://127.0.0.1:{port}"
        while not _is_ready(url + kind.ready):
            if child.poll() is not None or time.perf_counter() - began > _SOON:
                raise SystemExit(f"{kind.name} did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        seconds = round(time.perf_counter() - began, 3)
        yield Running(kind=kind, url=url + kind.route, start_seconds=seconds, process=psutil.Process(child.pid))
    finally:
        child.terminate()
        try:
            child.wait(60)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def load(server: Running, texts: tuple[str, ...], folder: Path, **options: Any) -> dict[str, Any]:
    """Put load on a server from another process; ``options`` as in ``serve_load.Load``."""
    common = {"url": server.url, "body": dict(server.kind.body), "texts": texts, "headers": {}}
    defaults = {"patience": 120, "answers": False, "seed": 0}
    spec, out = folder / "load.json", folder / "loaded.json"
    spec.write_text(json.dumps(common | defaults | options))
    subprocess.run([sys.executable, str(_HERE / "serve_load.py"), str(spec), str(out)], check=True)
    found: dict[str, Any] = json.loads(out.read_text())
    return found
