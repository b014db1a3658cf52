"""A scan: killed at any moment it ends with the same bytes, refuses what is not its own, and says what it did."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from fineline.errors import ConfigError, InputError
from fineline.scan.documents import Fields
from fineline.scan.progress import Progress
from fineline.scan.run import ScanResult, ScanSpec, scan
from fineline.scan.store import Store, read_scores

ROWS = 120
PARTS = ("scores", "rejects", "parts")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Two files with bad rows, duplicates near and far, and texts of one and of several windows."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for i in range(ROWS):
        text = f"tell anyone {i % 50} " + "他说 word " * (60 if i % 17 == 0 else i % 5)
        lines.append(json.dumps({"id": i, "body": text, "lang": "en", "from": f"s{i % 3}"}))
    lines[7] = "not json"
    lines[100] = json.dumps({"id": 100, "body": None})
    (folder / "a.jsonl").write_text("\n".join(lines[:40]) + "\n")
    (folder / "b.jsonl").write_text("\n".join(lines[40:]) + "\n")
    return folder


@pytest.fixture
def spec(corpus, tiny_bundle, tmp_path) -> ScanSpec:
    return ScanSpec(
        input=str(corpus),
        output=str(tmp_path / "out"),
        fields=Fields(text="body", id="id", lang="lang", source="from"),
        bundle=tiny_bundle,
        workers=1,
        shard_rows=7,
    )


@pytest.fixture(scope="module")
def whole(corpus, tiny_bundle, tmp_path_factory) -> tuple[Path, ScanResult, list[tuple[int, int]]]:
    """An undisturbed scan with one worker, its result, and the progress it told."""
    out = tmp_path_factory.mktemp("whole") / "out"
    fields = Fields(text="body", id="id", lang="lang", source="from")
    told: list[tuple[int, int]] = []
    result = scan(
        ScanSpec(
            input=str(corpus),
            output=str(out),
            fields=fields,
            bundle=tiny_bundle,
            workers=1,
            shard_rows=7,
            metrics=out.parent / "scan.prom",
        ),
        lambda progress: told.append((progress.shards, progress.rows)),
    )
    return out, result, told


def bytes_of(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in PARTS
        for path in (out / folder).iterdir()
    }


def test_every_document_has_its_scores_and_every_bad_row_its_reason(whole, corpus, classifier):
    out, result, told = whole
    table = pa.concat_tables(read_scores(str(out)))
    rows = [
        json.loads(line)
        for name in "ab"
        for line in (corpus / f"{name}.jsonl").read_text().splitlines()
        if line != "not json"
    ]
    good = [row for row in rows if row["body"] is not None]
    assert table["id"].to_pylist() == [str(row["id"]) for row in good]
    assert table["source"].to_pylist() == [row["from"] for row in good]
    assert table["characters"].to_pylist() == [len(row["body"]) for row in good]
    firsts: dict[str, int] = {}
    expected = [firsts.setdefault(row["body"], number) for number, row in enumerate(good)]
    found = table["duplicate_of"].to_pylist()
    assert found == [first if first != number else None for number, first in enumerate(expected)]
    # int8 rounds by what shares a batch, so only the classifier's rough agreement can be asked for.
    difference = abs(
        classifier.logits([row["body"] for row in good])
        - table["logits"].combine_chunks().flatten().to_numpy().reshape(len(good), -1)
    )
    assert float(difference.mean()) < 0.1
    rejects = [
        json.loads(line) for path in sorted((out / "rejects").iterdir()) for line in path.read_text().splitlines()
    ]
    assert [(row["file"], row["row"]) for row in rejects] == [(0, 7), (1, 60)]
    assert all(row["reason"] for row in rejects)
    duplicates = sum(entry is not None for entry in found)
    assert duplicates > 0
    assert result.counts == {
        "documents": ROWS - 2,
        "rejected": 2,
        "duplicates": duplicates,
        "characters": sum(len(row["body"]) for row in good),
        "tokens": sum(part.tokens for part in Store(str(out)).completed().values()),
        "shards": -(-ROWS // 7),
    }
    assert (result.resumed, told[-1]) == (0, (-(-ROWS // 7), ROWS))


def test_no_text_enters_the_output(whole):
    out, *_ = whole
    content = [path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    columns = {field.type for table in read_scores(str(out)) for field in table.select(["id", "lang", "source"]).schema}
    assert columns == {pa.string()}
    assert not any(b"tell anyone" in text or "他说".encode() in text for text in content)


def test_the_manifest_says_what_an_audit_asks_for(whole, corpus, tiny_bundle):
    out, result, _ = whole
    manifest = Store(str(out)).manifest()
    bundle = json.loads((tiny_bundle / "bundle.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["counts"] == result.counts
    assert manifest["bundle"]["digest"] == manifest["settings"]["bundle"] == bundle["digest"]
    assert manifest["bundle"]["files"] == bundle["files"]
    assert manifest["bundle"]["labels"] == bundle["labels"]
    assert manifest["policy"]["thresholds"] == bundle["thresholds"]["cn_measures"]
    assert [(entry["documents"], entry["rejected"]) for entry in manifest["inputs"]] == [(39, 1), (ROWS - 41, 1)]
    assert [entry["rows_expected"] for entry in manifest["inputs"]] == [40, ROWS - 40]
    hashes = [hashlib.sha256((corpus / name).read_bytes()).hexdigest() for name in ("a.jsonl", "b.jsonl")]
    assert [entry["sha256"] for entry in manifest["inputs"]] == hashes
    (run,) = manifest["runs"]
    assert run["engine"] == {"name": "local", "workers": 1}
    assert run["started"] <= run["finished"]


def test_prometheus_reads_the_counts(whole):
    out, result, _ = whole
    values = dict(
        line.split() for line in (out.parent / "scan.prom").read_text().splitlines() if not line.startswith("#")
    )
    assert int(values["fineline_scan_rows"]) == int(values["fineline_scan_rows_expected"]) == ROWS
    assert int(values["fineline_scan_tokens"]) == result.counts["tokens"]


def test_a_finished_scan_is_left_as_it_is(whole, spec):
    out, result, _ = whole
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = scan(replace(spec, output=str(out), workers=2))
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert again.counts == result.counts
    assert again.resumed == result.counts["shards"]


def test_lost_shards_are_scored_again(whole, spec):
    out, *_ = whole
    before, manifest = bytes_of(out), (out / "manifest.json").read_bytes()
    for name in ("parts/part-00003.json", "scores/part-00005.parquet"):
        (out / name).unlink()
    (out / "scores" / ".part-00003.parquet.99.tmp").write_bytes(b"half")
    result = scan(replace(spec, output=str(out)))
    assert bytes_of(out) == before
    assert result.resumed == result.counts["shards"] - 2
    assert len(Store(str(out)).manifest()["runs"]) == 2
    (out / "manifest.json").write_bytes(manifest)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"shard_rows": 8}, "shard_rows"),
        ({"remembered": 0}, "remembered"),
        ({"fields": Fields(text="from")}, "fields"),
        ({"input": "a.jsonl"}, "inputs"),
    ],
)
def test_another_scan_in_the_folder_is_refused(whole, spec, corpus, change, named):
    out, *_ = whole
    if "input" in change:
        change = {"input": str(corpus / change["input"])}
    before = bytes_of(out)
    with pytest.raises(InputError, match=f"differs in {named};") as caught:
        scan(replace(spec, output=str(out), **change))
    assert caught.value.code == "output_other"
    assert bytes_of(out) == before


def test_an_output_inside_the_input_is_refused(spec, corpus):
    with pytest.raises(InputError, match="lies inside the input"):
        scan(replace(spec, output=str(corpus / "out")))
    assert not (corpus / "out").exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"engine": "spark"}, "scan_engine"),
        ({"address": "auto"}, "scan_engine"),
        ({"shard_rows": 0}, "scan_size"),
        ({"workers": 0}, "scan_size"),
        ({"remembered": -1}, "scan_size"),
        ({"policy": "lax"}, "policy_unknown"),
    ],
)
def test_a_wrong_setting_is_refused(change, code):
    with pytest.raises(ConfigError) as caught:
        ScanSpec(**({"input": "in", "output": "out"} | change))
    assert caught.value.code == code


def test_a_compressed_input_is_counted_and_hashed(spec, tmp_path):
    import gzip

    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"body": "one"}\n{"body": "two"}\n'))
    result = scan(replace(spec, input=str(path)))
    assert result.counts["documents"] == 2
    (entry,) = Store(spec.output).manifest()["inputs"]
    assert entry["rows_expected"] == 2
    assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_time_left_is_of_this_runs_rate(monkeypatch):
    progress = Progress(expected=100, earlier=40, rows=60, began=10.0)
    monkeypatch.setattr(time, "monotonic", lambda: 20.0)
    assert progress.rate == 2
    assert progress.seconds_left == 20
    assert Progress(expected=100, began=10.0).seconds_left is None


def command(spec: ScanSpec, workers: int) -> list[str]:
    code = "from fineline.cli import main; main()"
    words = ["scan", "run", spec.input, spec.output, "--bundle", spec.bundle, "--shard-rows", 7, "--workers", workers]
    fields = ["--text-field", "body", "--id-field", "id", "--lang-field", "lang", "--source-field", "from"]
    return [sys.executable, "-c", code, *map(str, [*words, *fields, "--no-report"])]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_killed_at_random_moments_it_ends_with_the_same_bytes(whole, spec, source_env):
    out = Path(spec.output)
    moments, stopped = random.Random(), 0
    for _ in range(3):
        process = subprocess.Popen(command(spec, workers=2), env=source_env, stderr=subprocess.DEVNULL)
        wanted = len(list(out.glob("parts/*.json"))) + moments.randint(1, 4)
        while process.poll() is None and len(list(out.glob("parts/*.json"))) < wanted:
            time.sleep(0.001)
        time.sleep(moments.random() * 0.02)
        workers = children(process.pid) if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        stopped += process.wait() == -signal.SIGKILL
        end = time.monotonic() + 60
        while any(map(lives, workers)):
            assert time.monotonic() < end, "workers outlive their driver"
            time.sleep(0.01)
    assert stopped > 0
    subprocess.run(command(spec, workers=2), env=source_env, check=True, stderr=subprocess.DEVNULL)
    expected, *_ = whole
    assert bytes_of(out) == bytes_of(expected)
    assert not [path for path in out.rglob("*") if path.name.endswith(".tmp")]
    manifest = Store(str(out)).manifest()
    assert manifest["state"] == "complete"
    assert manifest["counts"] == Store(str(expected)).manifest()["counts"]
