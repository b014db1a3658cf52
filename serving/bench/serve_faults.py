"""Injects faults into a server one after another, under a light load that checks every answer.

    python serving/bench/serve_faults.py --out serving/bench/serve_faults.json
    python serving/bench/serve_faults.py --out try.json --only damaged --only deep_json

Needs the extras ``serve``, ``train`` and ``dev``; the small disk that is filled needs to be root.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

import serve_fault_clients as clients
import serve_fault_server as machine
from fineline.bundle import Bundle, load_bundle
from fineline.files import write_text
from serve_asking import Known, mix_texts
from serve_fault_scene import Fault, Scene, under_load
from serve_mix import Mix
from serve_rivals import fresh, known_answers
from serve_servers import Kind, own_server

_APPEALS = {"classify": 50, "appeal": 50}
FAULTS = (
    Fault(name="killed", done="SIGKILL under load, then a new start", inject=machine.killed, ends=True),
    Fault(
        name="killed_in_reload",
        done="SIGKILL while a bundle is loaded beside the one in use, then a new start",
        inject=machine.killed_in_reload,
        ends=True,
    ),
    Fault(
        name="told_to_stop",
        done="SIGTERM under load with five open streams, then a new start",
        inject=machine.told_to_stop,
        ends=True,
    ),
    Fault(name="damaged", done="reload of a bundle with one bit of its graph flipped", inject=machine.damaged),
    Fault(
        name="half_copied",
        done="reload of a bundle of which half is copied, again when it is whole",
        inject=machine.half_copied,
    ),
    Fault(
        name="disk_full",
        done="the disk of the appeals filled to its last byte, then freed",
        inject=machine.disk_full,
        kinds=_APPEALS,
    ),
    Fault(
        name="database_away",
        done="the database locked by another process, then gone, then back",
        inject=machine.database_away,
        kinds=_APPEALS,
    ),
    Fault(
        name="clock_steps",
        done="the server's clock set a day forth, two days back, and right",
        inject=machine.clock_steps,
    ),
    Fault(name="vanishing", done="300 clients leave in the header, in the body, while judged", inject=clients.vanish),
    Fault(name="slow_headers", done="100 clients send a byte of their header a second", inject=clients.slow_headers),
    Fault(name="slow_bodies", done="100 clients send a byte of their body a second", inject=clients.slow_bodies),
    Fault(name="slow_readers", done="2 clients ask for 2,048 verdicts each and read none", inject=clients.slow_readers),
    Fault(
        name="huge_bodies",
        done="bodies of 100 MB: announced, in chunks, after asking, as a stream's message",
        inject=clients.huge_bodies,
    ),
    Fault(name="deep_json", done="JSON 10,000 levels deep, to five routes and a stream", inject=clients.DEEP),
    Fault(name="invalid_utf8", done="bytes that are no UTF-8, to five routes and a stream", inject=clients.INVALID),
    Fault(name="many_inputs", done="a million one-character inputs, to five routes and a stream", inject=clients.MANY),
)


@contextmanager
def _ready(fault: Fault, folder: Path) -> Iterator[Kind]:
    """What a fault needs before the server starts."""
    if fault.name == "disk_full":
        disk = folder / "disk"
        disk.mkdir()
        machine.mount_small_disk(disk)
        try:
            yield own_server(folder / "one", folder, database=disk / "appeals.db")
        finally:
            machine.unmount(disk)
    else:
        before = machine.written_clock(folder) if fault.name == "clock_steps" else ""
        yield own_server(folder / "one", folder, before=before)


def _inject(fault: Fault, model: Bundle, known: Known, rate: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        shutil.copytree(model.path, folder / "one")
        try:
            kind = stack.enter_context(_ready(fault, folder))
        except OSError as error:
            return {"done": fault.done, "not_injected": str(error)}
        scene = Scene(kind, folder, lambda url: Mix(url, model.meta.name, known), stack)
        return asyncio.run(under_load(scene, fault, rate))


def main(
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle; the shipped one if not given.")] = None,
    rate: Annotated[float, typer.Option(help="Requests a second of the load.")] = 10.0,
    texts: Annotated[int, typer.Option(help="Different texts, made of those of the golden file.")] = 60,
    only: Annotated[list[str] | None, typer.Option(help="Names of faults; all if none is given.")] = None,
) -> None:
    """Inject all faults and write what was seen of each."""
    model = load_bundle(bundle)
    sent = mix_texts([row["text"] for row in model.golden()], texts, 0)
    known = Known(sent, model.meta.labels, fresh(known_answers, sent, model.path))
    found: dict[str, Any] = {}
    for fault in FAULTS:
        if not only or fault.name in only:
            found[fault.name] = _inject(fault, model, known, rate)
            typer.echo(f"{fault.name}: {json.dumps(found[fault.name])}", err=True)
    asked = {"model": model.model_id, "rate": rate, "texts": texts, "cores": os.cpu_count()}
    write_text(out, json.dumps({"asked": asked, "faults": found}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
