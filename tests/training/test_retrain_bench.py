"""The benchmark's own draws, kills and comparisons: a wrong one would publish a wrong number."""

import json
import sys
import textwrap
from pathlib import Path

import pytest

from retrain_kill import different, kill_in_every_station
from retrain_results import changes
from retrain_sets import HELD, LABEL, SOURCE, flipped, vulgar_rows
from retrain_table import table


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    file = tmp_path / "mirror" / SOURCE
    file.parent.mkdir(parents=True)
    lines = [",count,hate_speech,offensive_language,neither,class,tweet"]
    for i in range(2400):
        hate, yes, no = (1, 1, 1) if i % 12 == 0 else (0, 2, 1) if i % 2 else (0, 0, 3)
        lines.append(f'{i},3,{hate},{yes},{no},0,"post {i} &amp; more"')
    file.write_text("\n".join(lines) + "\n")
    return tmp_path / "mirror"


def test_sizes_are_parts_of_each_other_and_balanced(mirror):
    small, large = vulgar_rows(mirror, 100), vulgar_rows(mirror, 400)
    assert small == large[: len(small)]
    assert len(small) == HELD + 100
    held = [row for row in small if row.get("split") == "test"]
    assert held == small[:HELD]
    for part in (held, small[HELD:]):
        yes = [sum(mark[LABEL] for mark in row["votes"].values()) > 1 for row in part]
        assert sum(yes) * 2 == len(part)
    assert all("& more" in row["text"] for row in small)
    assert vulgar_rows(mirror, 100, seed=8) != small
    with pytest.raises(SystemExit, match="asked for"):
        vulgar_rows(mirror, 5000)


def test_votes_are_turned_in_training_rows_alone(mirror):
    rows = vulgar_rows(mirror, 200)
    turned, ids = flipped(rows, 0.15)
    assert len(ids) == 30
    for before, after in zip(rows, turned, strict=True):
        if before["id"] in ids:
            assert before.get("split") != "test"
            for name, mark in before["votes"].items():
                assert after["votes"][name][LABEL] == 1 - mark[LABEL]
        else:
            assert after == before


def run_folder(path: Path, minutes: float, threshold: float = 0.5) -> Path:
    (path / "bundle").mkdir(parents=True)
    (path / "fit.done.json").write_text(json.dumps({"minutes": minutes}))
    (path / "model.pt").write_bytes(b"weights")
    meta = {"manifest": {"stations": {"fit": {"minutes": minutes}}}, "digest": str(minutes), "thresholds": threshold}
    (path / "bundle" / "bundle.json").write_text(json.dumps(meta))
    card = f"# model\n\nRecipe `x`. Stations: fit {minutes} min (peak 1.0 GiB).\n\nF1 {threshold}\n"
    (path / "bundle" / "README.md").write_text(card)
    return path


def test_runs_are_compared_without_times_and_with_everything_else(tmp_path):
    one, other = run_folder(tmp_path / "one", 1.0), run_folder(tmp_path / "other", 2.0)
    assert different(one, other) == []
    third = run_folder(tmp_path / "third", 1.0, threshold=0.6)
    assert different(one, third) == ["bundle/README.md", "bundle/bundle.json"]
    (other / "model.pt").write_bytes(b"weightz")
    (other / "extra").write_bytes(b"")
    assert different(one, other) == ["extra", "model.pt"]


CHILD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for name in ("one", "two", "three"):
        marker = folder / f"{name}.done.json"
        if marker.exists():
            print(f"{name}: done before", file=sys.stderr, flush=True)
            continue
        with (folder / "starts").open("a") as file:
            file.write(name + " ")
        time.sleep(0.6)
        marker.write_text("{}")
        print(f"{name}: 0.0 min", file=sys.stderr, flush=True)
    """
)


def test_a_run_is_killed_in_every_station_and_then_ends(tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "run")]
    kills = kill_in_every_station(command, tmp_path / "run", dict.fromkeys(("one", "two", "three"), 0.5), 3)
    assert [kill["station"] for kill in kills] == ["one", "two", "three"]
    assert all(0.02 <= kill["after_seconds"] <= 0.45 for kill in kills)
    # On a busy machine a kill may come before the station has begun, never after the run has ended.
    assert [kill["hit"] for kill in kills] == ["one", "two", "three"]
    starts = (tmp_path / "run" / "starts").read_text().split()
    assert list(dict.fromkeys(starts)) == ["one", "two", "three"]
    assert len(starts) > 3
    assert (tmp_path / "run" / "three.done.json").exists()
    failing = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match="status 3"):
        kill_in_every_station(failing, tmp_path / "none", {}, 3)


def metric(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 9}


def test_the_table_holds_what_was_measured_and_no_more(tmp_path):
    difference = {"gate": "accuracy", "measure": "cold/all/macro_f1", "change": -0.2, "outcome": "worse"}
    others = [
        difference | {"change": 0.01 * i, "outcome": "undecided", "gate": "accuracy" if i else ""} for i in range(3)
    ]
    file = tmp_path / "compare.json"
    file.write_text(json.dumps({"failures": ["a slice"], "left_out": [], "differences": [*others, difference]}))
    found = changes(file)
    assert (found["gated"], found["worse"], found["undecided"]) == (3, 1, 2)
    assert found["moved"][0] == difference
    size = {
        "minutes": 12.3,
        "import_seconds": 4.0,
        "stations": {"fit": 6.5},
        "label": {"average_precision": metric(0.876), "f1": metric(0.77), "elsewhere": metric(0.021)},
        "changes": found,
    }
    machine = {"cores": 2, "cpu": "a cpu", "load_before": [0.5, 0, 0], "versions": {"torch": "2"}}
    result = {"machine": machine, "asked": {"bundle": "fineline-1@1"}, "sizes": {"5000": size}}
    text = table(result)
    assert "| minutes, import to card | 12.3 |" in text
    assert "| minutes, fit | 6.5 |" in text
    assert "| new label, average precision, after | 87.6 (77.6 to 97.6) |" in text
    assert "5,000 rows, failed: a slice" in text
    assert "before |" not in text and "kill" not in text and "turned" not in text
    whole = result | {
        "before": {"average_precision": metric(0.5), "f1": metric(0.3)},
        "kills": {"kills": [{"station": "fit", "after_seconds": 3.21, "hit": "fit"}], "different": []},
        "noise": {
            "wrong": 150, "rows": 1000, "found_in_first": 0.9, "first_share": 0.2, "issues": 160,
            "issues_that_are": 0.75,
            **{name: {"ap": metric(0.9), "f1": metric(0.8)} for name in ("as labelled", "turned", "cleaned")},
        },
    }  # fmt: skip
    text = table(whole)
    assert "| fit | 3.2 | fit |" in text
    assert "nobody killed: none" in text
    assert "90 % of them are in the first 20 %" in text
    assert "| cleaned | 90.0 (80.0 to 100.0) | 80.0 (70.0 to 90.0) |" in text
