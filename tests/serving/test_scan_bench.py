"""The benchmark's own sums and samples: a wrong one would publish a wrong number."""

import json
import os
from pathlib import Path

import pytest

from scan_bench import billion, compared_with_targets, main
from scan_corpus import LENGTHS, LONG_CHARACTERS, long_documents, short_documents, write_corpus
from scan_table import with_table

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("FINELINE_MIRROR") or ROOT.parent / "shared" / "data")
TEXTS = {"en": ["short", "a sentence of some more length than forty signs", "p" * 300], "zh": ["短", "很长" * 100]}


def test_the_corpus_is_the_same_for_a_seed_and_has_the_mix(tmp_path):
    rows = list(short_documents(TEXTS, 2000, 3))
    assert rows == list(short_documents(TEXTS, 2000, 3))
    assert rows != list(short_documents(TEXTS, 2000, 4))
    for low, high, share in LENGTHS:
        found = sum(low <= len(row["text"]) <= high for row in rows) / len(rows)
        assert found == pytest.approx(share, abs=0.05)
    assert all(row["text"] in TEXTS[row["lang"]] for row in rows)
    assert write_corpus(tmp_path / "short", iter(rows[:5])) == 5
    lines = (tmp_path / "short/00000.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"id": i, **row} for i, row in enumerate(rows[:5])]


def test_long_documents_have_their_lengths():
    low, high = LONG_CHARACTERS
    lengths = [len(row["text"]) for row in long_documents(TEXTS, 40, 3)]
    assert low <= min(lengths)
    assert max(lengths) <= high
    assert max(lengths) > 2 * min(lengths)


def test_the_cost_of_a_billion_documents():
    # 1e9 / 1000 / 3600 = 277.8 hours on 2 cores, 555.6 core hours, at 0.04: 22.22
    found = billion(1000, 2, 0.04)
    assert found["core_hours"] == 555.6
    assert found["cost"] == 22.22
    assert "277.8 hours" in found["sums"]


def test_targets_compare_in_the_right_direction():
    rates = {"local 1": 5, "local 2": 12, "ray 1": 4.5, "ray 2": 10}
    result = {
        "engines": {name: {"documents_per_second": rate} for name, rate in rates.items()},
        "pipeline": {"1": 0.5, "32": 1.0},
        "in_process": 16,
        "short": {"memory_peak": 10**9},
        "long": {"memory_peak": 2 * 10**9},
    }
    found = compared_with_targets(result, 2)
    assert {name: entry["met"] for name, entry in found.items()} == {
        "over_pipeline": True,
        "of_in_process": False,
        "ray_of_local 1": True,
        "ray_of_local 2": False,
        "memory_bytes": False,
    }
    assert (
        compared_with_targets({key: value for key, value in result.items() if key != "pipeline"}, 2)["over_pipeline"][
            "met"
        ]
        is None
    )


def test_the_table_of_the_guide_is_that_of_the_measurement():
    found = json.loads((ROOT / "serving/bench/scan.json").read_text())
    guide = (ROOT / "serving/README.md").read_text(encoding="utf-8")
    assert with_table(guide, found) == guide
    assert "| memory of all processes |" in guide
    changed = json.loads(json.dumps(found))
    changed["in_process"] += 1000
    assert with_table(guide, changed) != guide


@pytest.mark.mirror
@pytest.mark.skipif(not MIRROR.is_dir(), reason="no mirror of the upstream files")
@pytest.mark.slow
def test_the_benchmark_runs_and_goes_on_where_it_stopped(tiny_bundle, tmp_path, monkeypatch):
    options = {"bundle": tiny_bundle, "run": None, "recipe": "release", "long": 3, "compared": 60, "piped": 5}
    options |= {"kills": 1, "workers": 1, "ray": False, "price": 0.04, "seed": 0, "work": tmp_path}
    out = tmp_path / "scan.json"
    main(MIRROR, out, short=0, **options)
    first = json.loads(out.read_text())
    assert first["engines_identical"]
    assert first["resume"]["identical"]
    assert first["engines"]["local 1"]["documents"] == 60
    assert first["long"]["documents"] == 3
    assert "short" not in first
    assert first["targets"]["over_pipeline"]["met"] is None
    monkeypatch.setattr("scan_bench.measure", None)
    main(MIRROR, out, short=0, **options)
    assert json.loads(out.read_text()) == first
