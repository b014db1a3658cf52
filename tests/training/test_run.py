"""A whole run on the tiny backbone: recipe to bundle, stations that are not repeated, recipes that are not mixed up."""

import dataclasses
import fnmatch
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fineline import Classifier
from fineline.bundle import FP16, load_bundle
from fineline.errors import ConfigError
from fineline.files import sha256_of
from fineline.policy import load_policies
from fineline.taxonomy import load_taxonomy
from fineline_training import bundling
from fineline_training import run as module
from fineline_training.commands.train import train
from fineline_training.corpus.loader import CORPUS_DIR
from fineline_training.examples import encode_records
from fineline_training.fit import CHECKPOINT
from fineline_training.fp16 import add_fp16
from fineline_training.model import distance
from fineline_training.predict import predict
from fineline_training.recipe import RECIPES, DataSpec, FitSpec, Recipe, SourceSpec, load_recipe
from fineline_training.run import Run

STATIONS = ("data", "fit", "export", "calibrate", "bundle")
RECIPE = Recipe(
    name="tiny-run",
    version="0.0.1",
    data=DataSpec(sources={"authored": SourceSpec(cap=150)}, compose=0.3),
    fit=FitSpec(epochs=1, precision="fp32", window=128, batch_tokens=1024, head_rate=1e-2),
)


class Told(io.StringIO):
    def lines(self) -> list[str]:
        found = self.getvalue().splitlines()
        self.seek(0)
        self.truncate()
        return found


@pytest.fixture(scope="module")
def make_run(make_backbone) -> Callable[..., tuple[Run, Told]]:
    def make(folder: Path, recipe: Recipe = RECIPE) -> tuple[Run, Told]:
        told = Told()
        return Run(recipe, folder, console=Console(file=told, width=200), backbone=lambda: make_backbone(7)), told

    return make


@pytest.fixture(scope="module", autouse=True)
def _small_corpus():
    """A slice of the corpus, cut before the build: the station itself is tested by test_build."""
    patch = pytest.MonkeyPatch()
    real = module.build_dataset

    def build(*args, **kwargs):
        built = real(*args, **kwargs)
        dev = [row for row in built.records if row.split == "dev"]
        train = [row for row in built.records if row.split == "train"]
        return dataclasses.replace(built, records=[*train[::40], *dev[::12]])

    patch.setattr(module, "build_dataset", build)
    yield
    patch.undo()
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def finished(make_run, tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    run, told = make_run(folder)
    run.all()
    return folder, told.lines()


def test_a_recipe_becomes_a_bundle_that_serves(finished):
    folder, _ = finished
    bundle = load_bundle(folder / "bundle")
    assert bundle.model_id == "tiny-run@0.0.1"
    assert bundle.meta.labels == load_taxonomy().ids
    assert bundle.meta.window.size == 128
    assert set(bundle.meta.thresholds) == set(load_policies())
    classifier = Classifier.load(folder / "bundle")
    assert classifier.self_check() <= bundle.meta.golden_tolerance
    langs = [row["lang"] for row in bundle.golden()]
    assert len(langs) > 15
    assert max(langs.count(lang) for lang in langs) <= 3


def test_the_manifest_says_how_the_model_was_made(finished):
    folder, _ = finished
    manifest = load_bundle(folder / "bundle").meta.manifest
    assert manifest["recipe"] == RECIPE.resolved() == json.loads((folder / "recipe.json").read_text())
    assert manifest["backbone"] == {"model": "tiny, random", "licence": "none"}
    assert set(manifest["stations"]) == set(STATIONS) - {"bundle"}
    assert manifest["environment"]["torch"].startswith("2.")
    assert {gap["lang"] for gap in manifest["parity"]["int8"]} >= {"zh", "en"}
    assert manifest["data"]


def test_a_finished_run_gains_a_model_for_gpus_and_nothing_else_changes(finished, make_run, tmp_path):
    folder = Path(shutil.copytree(finished[0], tmp_path / "copy"))
    before = load_bundle(folder / "bundle")
    run, _ = make_run(folder)
    bundle = add_fp16(run)
    assert {name: digest for name, digest in bundle.meta.files.items() if name != FP16} == before.meta.files
    assert bundle.meta.files[FP16] == sha256_of(folder / "bundle" / FP16)
    parity = bundle.meta.manifest["parity"]
    assert {gap["lang"] for gap in parity["fp16"]} == {gap["lang"] for gap in parity["int8"]}
    assert max(gap["worst"] for gap in parity["fp16"]) <= parity["fp16_tolerance"]
    assert 0 < parity["fp16_golden"] <= bundle.meta.golden_tolerance
    old = before.meta.manifest["parity"]
    assert {name: parity[name] for name in old} == old
    assert bundle.meta.thresholds == before.meta.thresholds


def test_a_finished_run_is_not_repeated(finished, make_run):
    folder, first = finished
    assert [line.split(":")[0] for line in first] == list(STATIONS)
    before = {path.name: sha256_of(path) for path in (folder / "bundle").iterdir()}
    run, told = make_run(folder)
    run.all()
    assert told.lines() == [f"{name}: done before" for name in STATIONS]
    assert {path.name: sha256_of(path) for path in (folder / "bundle").iterdir()} == before


def test_a_run_killed_between_stations_goes_on_with_the_next(make_run, tmp_path, monkeypatch, finished):
    def die(self: Run) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "export", die)
        run, _ = make_run(tmp_path / "run")
        with pytest.raises(KeyboardInterrupt):
            run.all()
    assert not (tmp_path / "run" / "bundle").exists()
    run, told = make_run(tmp_path / "run")
    run.all()
    assert told.lines()[:2] == ["data: done before", "fit: done before"]
    same = [sha256_of(folder / "bundle" / "model.onnx") for folder in (tmp_path / "run", finished[0])]
    assert same[0] == same[1]


def test_another_recipe_in_the_same_folder_does_not_continue_the_old_one(make_run, tmp_path):
    changed = dataclasses.replace(RECIPE, fit=dataclasses.replace(RECIPE.fit, encoder_rate=1e-3))

    def trained(folder: Path, recipe: Recipe) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        run, told = make_run(folder, recipe)
        run._station("data", run.data)
        run._station("fit", run.fit)
        assert not [line for line in told.lines() if "resuming" in line or "done before" in line]
        return torch.load(folder / "model.pt", weights_only=True)

    old = trained(tmp_path / "run", RECIPE)
    assert (tmp_path / "run" / CHECKPOINT).is_file()
    again, fresh = trained(tmp_path / "run", changed), trained(tmp_path / "fresh", changed)
    assert all(torch.equal(again[name], fresh[name]) for name in fresh)
    assert not all(torch.equal(again[name], old[name]) for name in old)


TEACHER = """
name = "tiny-run"
version = "0.0.1"
{more}
[data]
compose = 0.3
[data.sources]
authored = {{cap = 150}}
[fit]
epochs = 1
precision = "fp32"
window = 128
batch_tokens = 1024
head_rate = 1e-2
"""


@pytest.fixture(scope="module")
def taught(finished, make_run, tmp_path_factory) -> Callable[..., tuple[Run, Told]]:
    """Runs with two teachers, of which the first is done."""
    recipes = tmp_path_factory.mktemp("recipes")
    for name, more in (("one", ""), ("two", "seed = 5")):
        (recipes / f"{name}.toml").write_text(TEACHER.format(more=more))
    two = recipes / "run-two"

    def make(folder: Path, **fit: float) -> tuple[Run, Told]:
        spec = dataclasses.replace(RECIPE.fit, **fit)
        names = tuple(str(recipes / f"{name}.toml") for name in ("one", "two"))
        run, told = make_run(folder, dataclasses.replace(RECIPE, name="student", teachers=names, fit=spec))
        if not folder.exists():
            shutil.copytree(finished[0], folder / "teachers" / "one")
            if not two.exists():
                run.teachers()["two"].all()
                shutil.copytree(folder / "teachers" / "two", two)
            shutil.copytree(two, folder / "teachers" / "two", dirs_exist_ok=True)
        told.lines()
        return run, told

    return make


def test_a_run_begins_with_the_mean_of_its_teachers_and_says_so(taught, tmp_path):
    folder = tmp_path / "run"
    run, told = taught(folder, encoder_rate=0.0, head_rate=0.0)
    run.all()
    done = ["data: done before", "fit: done before"]
    assert [line for line in told.lines() if "done before" in line] == [*done, *done]
    ends = [torch.load(folder / "teachers" / name / "model.pt", weights_only=True) for name in ("one", "two")]
    began = run.trained()
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in began)
    for name, value in began.items():
        torch.testing.assert_close(value, (ends[0][name] + ends[1][name]) / 2)
    noted = load_bundle(folder / "bundle").meta.manifest["teachers"]
    assert {name: entry["weights"] for name, entry in noted.items()} == {
        name: sha256_of(folder / "teachers" / name / "model.pt") for name in ("one", "two")
    }
    assert [entry["recipe"]["seed"] for entry in noted.values()] == [RECIPE.seed, 5]
    run, told = taught(folder, encoder_rate=0.0, head_rate=0.0)
    run.all()
    assert [line for line in told.lines() if "done before" not in line] == ["teacher one", "teacher two"]


def test_the_mean_logits_of_teachers_are_those_of_the_rows_and_are_learned(taught, tmp_path):
    gaps = {}
    for weight in (0.0, 20.0):
        run, _ = taught(tmp_path / str(weight), distil_weight=weight)
        run._station("data", run.data)
        rows = run._mixture.epoch(0)
        examples = encode_records(rows, run.encoder, run.ids)
        wanted = np.mean([predict(one.model, examples, pad=run.encoder.pad) for one in run.teachers().values()], axis=0)
        np.testing.assert_allclose(np.load(run.folder / "teacher-0.npy"), wanted, atol=1e-4)
        run._station("fit", run.fit)
        found = torch.from_numpy(predict(run.model, examples, pad=run.encoder.pad))
        gaps[weight] = float(distance(found, torch.from_numpy(wanted)))
    assert gaps[20.0] < gaps[0.0]


@pytest.mark.parametrize(("recipe", "folder"), [(None, "quick"), ("release", "release"), ("mine.toml", "mine")])
def test_a_run_lies_in_the_folder_of_its_recipe(recipe, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copy(RECIPES / "quick.toml", "mine.toml")
    made = []

    def run(recipe: Recipe, where: Path, **_: object) -> None:
        made.append(where)
        raise KeyboardInterrupt

    monkeypatch.setattr("fineline_training.run.Run", run)
    with pytest.raises(KeyboardInterrupt):
        train(recipe=recipe)
    assert made == [Path("runs") / folder]


def test_another_teacher_is_another_run(make_run, tmp_path):
    hashes = set()
    for more in ("seed = 5", "seed = 6"):
        (tmp_path / "one.toml").write_text(TEACHER.format(more=more))
        recipe = dataclasses.replace(RECIPE, teachers=(str(tmp_path / "one.toml"),))
        hashes.add(make_run(tmp_path / "run", recipe)[0].inputs_hash)
    assert len(hashes) == 2


def test_a_pattern_of_late_files_that_matches_none_is_refused(make_run, tmp_path):
    late = dataclasses.replace(RECIPE.data, late={"en/*.yaml": 1, "xx/*.yaml": 1})
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"xx/\*\.yaml") as caught:
        make_run(tmp_path / "run", dataclasses.replace(RECIPE, data=late))[0].data()
    assert caught.value.code == "recipe_pattern"


def test_shipped_patterns_of_late_files_match_corpus_files():
    files = {path.relative_to(CORPUS_DIR).as_posix() for path in CORPUS_DIR.rglob("*.yaml")}
    patterns = [pattern for path in RECIPES.glob("*.toml") for pattern in load_recipe(str(path)).data.late]
    assert patterns and all(fnmatch.filter(files, pattern) for pattern in patterns)


def test_the_station_tells_which_lawful_rows_were_aimed_at_weak_points(copied, make_run, monkeypatch):
    run, _ = make_run(copied)
    told = []
    real = bundling.threshold_table
    monkeypatch.setattr(
        bundling, "threshold_table", lambda *args, **more: told.append(more["counted"]) or real(*args, **more)
    )
    aimed = [number % 3 == 0 for number in range(len(run.dev))]
    run.dev = [
        dataclasses.replace(row, meta={**row.meta, "aimed": "yes"} if yes else {**row.meta, "aimed": ""})
        for row, yes in zip(run.dev, aimed, strict=True)
    ]
    run.calibrate()
    assert told[0].tolist() == [not yes for yes in aimed]


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "copied"))


def test_a_repeated_station_undoes_the_ones_after_it(copied, make_run):
    (copied / "calibrate.done.json").unlink()
    run, told = make_run(copied)
    run.all()
    assert [line.split(":")[1].strip() == "done before" for line in told.lines()] == [True] * 3 + [False] * 2


def test_a_changed_input_repeats_the_whole_run(copied, make_run, monkeypatch):
    monkeypatch.setattr(module, "NORMALISER_VERSION", "next")
    run, _ = make_run(copied)
    called: list[str] = []
    for name in STATIONS:
        monkeypatch.setattr(run, name, lambda name=name: called.append(name))
    run.all()
    assert called == list(STATIONS)
