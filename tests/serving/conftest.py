"""A finished scan of a few rows, made in this process."""

import json
from collections.abc import Callable
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

    def make(rows: list[dict[str, Any]], *, complete: bool = True, files: int = 1) -> Scanned:
        source = tmp_path / "input"
        source.mkdir()
        for i in range(files):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[i::files])
            (source / f"part{i}.jsonl").write_text(lines, encoding="utf-8")
        store, inputs = Store(str(tmp_path / "out")), list_inputs(str(source))
        fields = Fields(id="key", lang="lang", source="source")
        chosen = settings(tiny_loaded, fields, 16, 100, 1)
        manifest = open_manifest(store, tiny_loaded, chosen, [survey(file) for file in inputs])
        start_run(store, manifest, tiny_loaded, "cn_measures", {"name": "test"})
        scorer = ShardScorer(tiny_loaded.path, 1)
        for shard in shards(inputs, fields, 16, 100):
            store.write(shard, scorer.score(shard))
        if complete:
            finish_run(store, manifest, {}, [(0, 0)] * len(inputs))
        return Scanned(output=store.output, folder=Path(store.output), source=source, rows=rows, bundle=tiny_loaded)

    return make
