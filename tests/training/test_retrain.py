"""Going on from a bundle: a whole run on the tiny one, what is kept of old labels, and kills in every station."""

import dataclasses
import gzip
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from fineline import Classifier
from fineline.bundle import load_bundle
from fineline.errors import ConfigError
from fineline.files import sha256_of
from fineline.own_labels import own_label
from fineline.taxonomy import load_taxonomy
from fineline_training import bundling
from fineline_training import fit as fit_module
from fineline_training import retrain as module
from fineline_training.examples import encode_records
from fineline_training.fit import CHECKPOINT, Fit
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow
from fineline_training.predict import predict
from fineline_training.recipe import DataSpec, FitSpec, Recipe, StartSpec
from fineline_training.restore import restore
from fineline_training.retrain import STATIONS, Retrain, replayed_sources
from fineline_training.sources.registry import AUTHORED
from fineline_training.team import TEAM
from fineline_training.watch import SHARES, Check, Watch

pytestmark = pytest.mark.usefixtures("small_corpus", "judging_leaves_files")

OWN = "miracle_cure"
RECIPE = Recipe(
    name="tiny-own",
    version="0.0.1",
    data=DataSpec(compose=0.3, evade=0.1, fp32_every=2),
    fit=FitSpec(
        epochs=3,
        precision="fp32",
        batch_tokens=1024,
        encoder_rate=3e-4,
        head_rate=2e-2,
        weight_decay=0.0,
        checkpoint_minutes=999,
    ),
    start=StartSpec(layers=1, least_rows=160, replay=1.0, held=0.15, dev=0.15, checks=2, watched=60, patience=9),
)


def team_rows(count: int = 120) -> list[LabelledRow]:
    """Rows whose label is plain to see; a few on which annotators differ."""
    rng = random.Random(3)
    rows = []
    for number in range(count):
        cure = number % 2
        head = "This herbal tea heals every illness" if cure else "The nurse asked about the herbal tea"
        tail = " ".join(rng.choices(["order today", "said the doctor", "in the garden", "for her letter"], k=3))
        votes = {"ann": {OWN: cure}, "ben": {OWN: cure if number % 9 else 1 - cure}}
        rows.append(LabelledRow(id=f"r{number}", text=f"{head} {tail} {number}.", lang="en", source="ads", votes=votes))
    return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory, own_table) -> LabelStore:
    made = LabelStore.open(tmp_path_factory.mktemp("team") / "store", create=True)
    made.define([own_label(own_table, "own")])
    made.add(team_rows(), {"licence": "own work", "basis": "contract", "files": [], "new": 120})
    return made


@pytest.fixture(scope="module")
def make(tiny_bundle, store) -> Callable[..., tuple[Retrain, io.StringIO]]:
    def make(folder: Path, recipe: Recipe = RECIPE) -> tuple[Retrain, io.StringIO]:
        told = io.StringIO()
        console = Console(file=told, width=200)
        return Retrain(recipe, folder, start=load_bundle(tiny_bundle), store=store, console=console), told

    return make


@pytest.fixture(scope="module")
def finished(make, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "retrain"
    run, told = make(folder)
    run.all()
    assert [line.split(":")[0] for line in told.getvalue().splitlines() if "peak" in line] == list(STATIONS)
    return folder


def test_the_new_bundle_knows_the_new_label_and_serves(finished, tiny_bundle):
    bundle = load_bundle(finished / "bundle")
    assert bundle.meta.labels == (*load_taxonomy().ids, OWN)
    assert bundle.taxonomy[OWN].name_en == "Miracle cure"
    classifier = Classifier.load(finished / "bundle", threads=1)
    assert classifier.self_check() <= bundle.meta.golden_tolerance
    rows = team_rows(240)[120:]
    flagged = np.array([OWN in verdict.flagged for verdict in classifier.classify([row.text for row in rows])])
    cures = np.array([row.votes["ann"][OWN] == 1 for row in rows])
    assert flagged[cures].mean() > 0.7, "rows it has not seen"
    assert flagged[cures].mean() - flagged[~cures].mean() > 0.5


def test_a_second_team_leaves_the_label_of_the_first_as_it_was(finished, own_table, tmp_path):
    other = LabelStore.open(tmp_path / "store", create=True)
    other.define([own_label(own_table | {"id": "herb_advert"}, "own")])
    rows = [
        dataclasses.replace(row, votes={n: {"herb_advert": v[OWN]} for n, v in row.votes.items()})
        for row in team_rows()
    ]
    other.add(rows, {"licence": "own work", "basis": "contract", "files": [], "new": len(rows)})
    start = load_bundle(finished / "bundle")
    run = Retrain(RECIPE, tmp_path / "run", start=start, store=other, console=Console(file=io.StringIO()))
    run.all()
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.meta.labels == (*start.meta.labels, "herb_advert")
    assert bundle.meta.calibration[OWN] == start.meta.calibration[OWN]
    assert {name: table[OWN] for name, table in bundle.meta.thresholds.items()} == {
        name: table[OWN] for name, table in start.meta.thresholds.items()
    }


def test_the_manifest_says_where_it_came_from_and_no_text(finished, tiny_bundle):
    manifest = load_bundle(finished / "bundle").meta.manifest
    assert manifest["start"]["model"] == "tiny@0.0.1"
    assert manifest["team"]["imports"][0]["licence"] == "own work"
    assert manifest["team"]["labels"][OWN]["positive"] > 40
    assert manifest["team"]["disagreed"] == 14
    assert manifest["recipe"]["start"]["layers"] == 1
    assert "herbal" not in json.dumps(manifest)
    assert "herbal" not in (finished / "bundle" / "golden.jsonl").read_text(encoding="utf-8")


def test_labels_of_before_keep_their_calibration_and_thresholds(finished, tiny_bundle):
    start, bundle = load_bundle(tiny_bundle).meta, load_bundle(finished / "bundle").meta
    assert {label: bundle.calibration[label] for label in start.labels} == dict(start.calibration)
    for policy, table in bundle.thresholds.items():
        assert {label: table[label] for label in start.labels} == dict(start.thresholds[policy])
        assert 0.05 <= table[OWN] <= 0.97


def test_held_back_rows_are_in_no_other_part(finished):
    def texts(name: str) -> set[str]:
        with gzip.open(finished / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            return {row["text"] for row in map(json.loads, file) if row["source"] == TEAM}

    held, dev, train = texts("held"), texts("dev"), texts("train")
    assert len(held) == len(dev) == 18
    assert len(train) == 84
    assert not held & dev and not held & train and not dev & train


def test_checks_are_logged_and_drawn_and_the_best_state_is_kept(finished):
    checks = json.loads((finished / "curves.json").read_text())
    logged = [json.loads(line) for line in (finished / "fit.jsonl").read_text().splitlines()]
    assert len(checks) == len([row for row in logged if "gain" in row])
    assert [check["share"] for check in checks][:8] == [*[1.0] * 7, 0.0], "at the end, states between"
    assert max(check["gain"] for check in checks if check["within"]) > checks[0]["gain"]
    svg = (finished / "curves.svg").read_text(encoding="utf-8")
    assert svg.count("<circle") == 3 * len(checks)
    assert f"<title>Learning curves over {len(checks)} checks" in svg


def test_the_state_nearest_to_the_bundle_is_kept_that_gains_as_much(finished, make, tiny_bundle, tmp_path, monkeypatch):
    def trained(name: str, gains: dict[float, float]) -> dict[str, torch.Tensor]:
        """Weights after a fit whose checks rise, and whose states between gain so much."""

        def measure(self: Watch, done: float, logits: Any, share: float = 1.0) -> Check:
            gain = 0.1 * done if share == 1 else gains[share]
            return Check(done=done, gain=gain, kept=1.0, lawful_flagged=0.0, moved=share, within=True, share=share)

        folder = tmp_path / name
        shutil.copytree(finished, folder)
        (folder / CHECKPOINT).unlink()
        monkeypatch.setattr(Watch, "measure", measure)
        make(folder)[0].fit()
        weights: dict[str, torch.Tensor] = torch.load(folder / "model.pt", weights_only=True)
        return weights

    epochs = RECIPE.fit.epochs
    end = trained("end", dict.fromkeys(SHARES, 0.0))
    half = trained("half", {0.0: 0.0, 0.25: 0.1 * epochs - 0.006, 0.5: 0.1 * epochs - 0.004})
    start = dict(restore(load_bundle(tiny_bundle), len(load_taxonomy().ids) + 1).model.named_parameters())
    assert end.keys() == half.keys()
    for name, value in end.items():
        mixed = (start[name] + value) / 2 if name.startswith("encoder.") else value
        torch.testing.assert_close(half[name], mixed.detach(), msg=name)
    moved = [name for name in end if name.startswith("encoder.") and not torch.equal(end[name], half[name])]
    assert moved, "the encoder trained"


def test_outputs_of_labels_that_mean_the_same_stay_as_they_were(finished, tiny_bundle):
    start = load_bundle(tiny_bundle)
    before = dict(restore(start, len(start.meta.labels) + 1).model.named_parameters())
    head = {
        name: value for name, value in torch.load(finished / "model.pt", weights_only=True).items() if "head" in name
    }
    assert head
    for name, value in head.items():
        torch.testing.assert_close(value[:-1], before[name].detach()[:-1], rtol=0, atol=0)
    assert any(not torch.equal(value[-1], before[name][-1]) for name, value in head.items()), "the new one learned"


def test_a_label_defined_anew_gets_its_threshold_beside_those_that_stay(
    make, tiny_bundle, own_table, tmp_path, monkeypatch
):
    start = load_bundle(tiny_bundle)
    other = LabelStore.open(tmp_path / "store", create=True)
    other.define([own_label(own_table | {"id": "insult"}, "own")])
    run = Retrain(RECIPE, tmp_path / "run", start=start, store=other, console=Console(file=io.StringIO()))
    assert run.free == ("insult",)
    asked = {}

    def table(probabilities, labels, ids, policies, *, own, counted):
        asked["own"] = own
        return {policy: dict.fromkeys(ids, 0.5) for policy in start.meta.thresholds}

    rows = [row for row in module.build_dataset([AUTHORED], None).records if row.split == "dev"]
    run.dev = rows
    monkeypatch.setattr(run, "served", lambda rows, artefact="": np.zeros((len(rows), len(run.ids)), np.float32))
    monkeypatch.setattr(bundling, "threshold_table", table)
    run.folder.mkdir()
    run.calibrate()
    assert asked["own"] == ["insult"], "the thresholds of the others are not chosen again"
    found = json.loads((run.folder / "calibration.json").read_text())["thresholds"]
    assert found == {policy: dict(kept) | {"insult": 0.5} for policy, kept in start.meta.thresholds.items()}


def test_lower_layers_and_words_stay_as_they_were(finished, make):
    trained = torch.load(finished / "model.pt", weights_only=True)
    assert {name.split(".")[3] for name in trained if name.startswith("encoder.encoder.layer")} == {"1"}
    assert not [name for name in trained if "embeddings" in name]


RESULTS = (
    "team.jsonl.gz", "train.jsonl.gz", "dev.jsonl.gz", "held.jsonl.gz", "data.json", "teacher-0.npy", "teacher-2.npy",
    "model.pt", "fit.jsonl", "curves.svg", "model.onnx", "parity.json", "calibration.json", "golden.jsonl",
    "bundle/model.onnx", "bundle/golden.jsonl", "bundle/tokenizer.json",
)  # fmt: skip


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("station", STATIONS)
def test_a_run_killed_in_a_station_ends_in_the_same_files(station, make, finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    before = STATIONS[: STATIONS.index(station)]
    shutil.copytree(finished, folder)
    for name in STATIONS[STATIONS.index(station) :]:
        (folder / f"{name}.done.json").unlink()
    if station in ("check", "data", "fit"):
        (folder / CHECKPOINT).unlink()
        shutil.rmtree(folder / "bundle")
    real = Path.replace
    writes = {"left": 2 if station in ("data", "export") else 1}

    def replace(self: Path, target: Path) -> Path:
        writes["left"] -= 1
        if writes["left"] < 0:
            raise _KilledError
        return real(self, target)

    step = {"left": 20}

    def stepping(self: Fit, *args: Any) -> float:
        step["left"] -= 1
        if step["left"] < 0:
            raise _KilledError
        return taken(self, *args)

    taken = Fit._step
    with monkeypatch.context() as patch:
        if station == "fit":
            patch.setattr(Fit, "_step", stepping)
        elif station in ("evaluate", "compare", "card", "bundle"):
            patch.setattr(Retrain, station, _dying)
        else:
            patch.setattr(Path, "replace", replace)
        run, _ = make(folder)
        with pytest.raises(_KilledError):
            run.all()
    run, told = make(folder)
    run.all()
    lines = told.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines if "done before" in line] == list(before)
    assert ("resuming" in told.getvalue()) == (station == "fit")
    for name in RESULTS:
        assert sha256_of(folder / name) == sha256_of(finished / name), name


def _dying(self: Retrain) -> None:
    raise _KilledError


def drift(make: Callable[..., tuple[Retrain, Any]], folder: Path, distil: float = 1.0) -> float:
    """How far the old labels' logits moved on development rows of the corpus."""
    fit = dataclasses.replace(
        RECIPE.fit,
        epochs=1,
        distil_weight=distil,
        pair_weight=0.0,
        head_rate=2e-3,
        encoder_rate=1e-3,
    )
    spec = dataclasses.replace(RECIPE.start, lawful_slack=1.0, precision_slack=1.0, checks=1)
    run, _ = make(folder, dataclasses.replace(RECIPE, fit=fit, start=spec))
    run.folder.mkdir()
    for name in ("check", "data", "fit"):
        run._station(name, getattr(run, name))
    rows = encode_records([row for row in run.dev if row.source != TEAM], run.encoder, run.ids)
    before = predict(restore(run.start, len(run.ids)).model, rows, pad=run.encoder.pad)
    after = predict(run.model, rows, pad=run.encoder.pad)
    return float(np.abs(after - before)[:, : len(run.start.meta.labels)].mean())


def test_without_distillation_old_labels_drift_more(make, classifier, tmp_path, monkeypatch):
    corpus = module.build_dataset([AUTHORED], None)
    logits = classifier.logits([row.text for row in corpus.records], [row.context for row in corpus.records])
    # The tiny bundle is random; here it has learned its corpus by heart.
    learned = [
        dataclasses.replace(row, labels=dict(zip(classifier.labels, map(int, values > 0), strict=True)), meta={})
        for row, values in zip(corpus.records, logits, strict=True)
    ]
    monkeypatch.setattr(module, "build_dataset", lambda *_, **__: dataclasses.replace(corpus, records=tuple(learned)))
    # What training does, not what is kept of it: a state near the beginning has not drifted either way.
    monkeypatch.setattr(fit_module, "SHARES", ())
    held = drift(make, tmp_path / "held")
    assert held < 0.5 * drift(make, tmp_path / "no_targets", distil=0.0)


def test_the_sources_of_the_bundle_are_replayed_where_there_is_a_mirror(tiny_bundle, tmp_path):
    start = load_bundle(tiny_bundle)
    made_of = {"recipe": {"data": {"sources": {"authored": {}, "cold": {}, "gone": {}}}}}
    known = dataclasses.replace(start, meta=dataclasses.replace(start.meta, manifest=made_of))
    assert set(replayed_sources(known, {}, tmp_path)) == {"authored", "cold"}
    assert set(replayed_sources(known, {}, None)) == {"authored"}
    assert set(replayed_sources(start, {}, tmp_path)) == {"authored"}


def test_a_recipe_to_go_on_with_needs_a_bundle(tmp_path):
    from fineline_training.commands.train import train

    with pytest.raises(ConfigError, match="needs --from"):
        train(recipe="retrain", out=tmp_path, mirror=None, start=None, labels=None)
    with pytest.raises(ConfigError, match="both --from and --labels"):
        train(recipe=None, out=tmp_path, mirror=None, start="default", labels=None)
    with pytest.raises(ConfigError, match="no section"):
        train(recipe="quick", out=tmp_path, mirror=None, start="default", labels=tmp_path)
