"""Faults of the machine: the process killed or told to stop, the bundle damaged, the database away, the clock set."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from fineline.bundle import GOLDEN, META, MODEL
from serve_fault_scene import Scene

CLOCK = """
import pathlib, time
_real, _step = time.time, pathlib.Path({path!r})
time.time = lambda: _real() + float(_step.read_text() or 0)
"""
"""Code by which the server's clock is set from a file."""

_DISK = 4096
"""Kilobytes of the small disk."""


async def killed(scene: Scene) -> dict[str, Any]:
    """SIGKILL, and a new start."""
    scene.server.process.kill()
    seconds = await scene.restart()
    return {"expected": await scene.appeal() == 201, "recovered_seconds": seconds}


async def killed_in_reload(scene: Scene) -> dict[str, Any]:
    """SIGKILL while a second bundle is loaded beside the first, and a new start."""
    shutil.copytree(scene.folder / "one", scene.folder / "two")
    reload = asyncio.create_task(scene.answer("/admin/reload", {"bundle": "two"}))
    await asyncio.sleep(0.3)
    within = not reload.done()
    scene.server.process.kill()
    status, _ = await reload
    seconds = await scene.restart()
    model = (await scene.answer("/admin/model", method="GET"))[1]
    right = within and status == 0 and Path(model["path"]).name == "one"
    return {"expected": right, "within_the_reload": within, "recovered_seconds": seconds}


async def _refused(scene: Scene, code: str) -> dict[str, Any]:
    """A reload of ``two`` that must fail and change nothing."""
    digest = (await scene.answer("/admin/model", method="GET"))[1]["digest"]
    status, answer = await scene.answer("/admin/reload", {"bundle": "two"})
    found = answer["error"]["code"]
    same = (await scene.answer("/admin/model", method="GET"))[1]["digest"] == digest
    return {"expected": same and (status, found) == (422, code), "status": status, "code": found, "kept": same}


async def damaged(scene: Scene) -> dict[str, Any]:
    """A bundle with one bit of its graph flipped."""
    two = shutil.copytree(scene.folder / "one", scene.folder / "two")
    with (two / MODEL).open("r+b") as file:
        file.seek(-1000, os.SEEK_END)
        old = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([old ^ 1]))
    return await _refused(scene, "bundle_hash_mismatch")


async def half_copied(scene: Scene) -> dict[str, Any]:
    """A bundle that is still being copied, then whole."""
    one, two = scene.folder / "one", scene.folder / "two"
    two.mkdir()
    for name in (META, GOLDEN):
        shutil.copy(one / name, two / name)
    data = (one / MODEL).read_bytes()
    (two / MODEL).write_bytes(data[: len(data) // 2])
    seen = await _refused(scene, "bundle_hash_mismatch")
    shutil.copytree(one, two, dirs_exist_ok=True)
    began = time.perf_counter()
    status, _ = await scene.answer("/admin/reload", {"bundle": "two"})
    seconds = round(time.perf_counter() - began, 3)
    right = seen["expected"] and status == 200
    return {**seen, "expected": right, "status_once_whole": status, "recovered_seconds": seconds}


async def disk_full(scene: Scene) -> dict[str, Any]:
    """The disk of the appeals is filled to its last byte, then freed."""
    disk = scene.folder / "disk"
    first = await scene.appeal()
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    full = [await scene.appeal() for _ in range(5)]
    judging = (await scene.answer("/v1/classify", {"input": "a"}))[0]
    filler.unlink()
    seconds = await scene.until(lambda: _accepted(scene))
    right = (first, set(full), judging) == (201, {503}, 200)
    return {"expected": right, "appeals": full, "judging": judging, "recovered_seconds": seconds}


async def _accepted(scene: Scene) -> bool:
    return await scene.appeal() == 201


def mount_small_disk(folder: Path) -> None:
    """Mount a disk of few bytes; needs to be root.

    Raises:
        OSError: That is not allowed.
    """
    words = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        raise OSError("a disk of its own cannot be mounted here")


def unmount(folder: Path) -> None:
    """Take the disk away."""
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def database_away(scene: Scene) -> dict[str, Any]:
    """The database is locked by another process, then its file is gone and a folder in its place, then it is back."""
    file = scene.folder / "appeals.db"
    first = await scene.appeal()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE").close()
        locked = await scene.appeal()
        other.execute("ROLLBACK").close()
    kept = file.rename(scene.folder / "away.db")
    file.mkdir()
    away = [await scene.appeal() for _ in range(5)]
    judging = (await scene.answer("/v1/classify", {"input": "a"}))[0]
    file.rmdir()
    kept.rename(file)
    seconds = await scene.until(lambda: _accepted(scene))
    right = (first, locked, set(away), judging) == (201, 503, {503}, 200)
    return {"expected": right, "locked": locked, "away": away, "judging": judging, "recovered_seconds": seconds}


async def clock_steps(scene: Scene) -> dict[str, Any]:
    """The clock is set a day forth, two back, and right again; verdicts from before each step are appealed after it."""
    appeals = []
    for step in (86_400, -86_400, 0):
        verdict = await scene.verdict()
        scene.folder.joinpath("clock.new").write_text(str(step))
        scene.folder.joinpath("clock.new").rename(scene.folder / "clock")
        await asyncio.sleep(2)
        appeals.append(await scene.appeal(verdict))
    return {"expected": appeals == [201] * 3, "appeals_across": appeals}


async def told_to_stop(scene: Scene) -> dict[str, Any]:
    """SIGTERM with open streams, and a new start."""
    async with scene.mix.session() as session:
        streams = [await session.ws_connect("/v1/stream") for _ in range(5)]
        for stream in streams:
            await stream.send_json({"type": "start"})
            await stream.receive()
        scene.server.process.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        for stream in streams:
            async for _ in stream:
                pass
        code = await asyncio.to_thread(scene.server.process.wait, 60)
        ended = round(time.perf_counter() - began, 3)
    codes = [stream.close_code for stream in streams]
    cut = [record for record in scene.mix.records if record.outcome == "lost"]
    seconds = await scene.restart()
    right = codes == [1012] * 5 and not cut and code in (0, -signal.SIGTERM, None)
    return {
        "expected": right,
        "stream_codes": codes,
        "begun_and_not_answered": len(cut),
        "ended_seconds": ended,
        "recovered_seconds": seconds,
    }


def written_clock(folder: Path) -> str:
    """Code that lets a file in ``folder`` set the server's clock."""
    (folder / "clock").write_text("0")
    return CLOCK.format(path=str(folder / "clock"))
