"""What is installed: three packages, a small runtime, and no arrow between them that the design forbids."""

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
UNREACHABLE = ("No matching distribution", "Could not find a version", "Connection", "Temporary failure", "timed out")


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("serving/fineline", {"torch", "transformers", "accelerate", "datasets", "fineline_training", "fineline_eval"}),
        ("eval/fineline_eval", {"torch", "transformers", "accelerate"}),
        ("training/fineline_training", {"fineline_eval"}),
    ],
)
def test_no_file_imports_what_its_package_may_not(package, forbidden):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(file.relative_to(ROOT)): sorted(imports_of(file) & forbidden) for file in files}
    assert not {name: found for name, found in wrong.items() if found}


def test_a_runtime_module_outside_the_extras_needs_base_dependencies_only():
    base = {"numpy", "onnxruntime", "tokenizers", "typer", "rich", "fineline"}
    folder = ROOT / "serving" / "fineline"
    extras = {"server", "scan"}
    for file in folder.rglob("*.py"):
        if not extras & set(file.relative_to(folder).parts):
            third = imports_of(file) - base - set(sys.stdlib_module_names)
            assert third <= {"fastapi", "uvicorn"} if file.name == "cli.py" else not third, f"{file}: {third}"


WALK = """
import importlib, importlib.abc, pkgutil, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[2].split(","):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
package = importlib.import_module(sys.argv[1])
names = [module.name for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + ".")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print(len(names))
"""


@pytest.mark.parametrize(
    ("package", "blocked"),
    [
        ("fineline", "torch,transformers,accelerate,fineline_training,fineline_eval"),
        ("fineline_eval", "torch,transformers,accelerate"),
    ],
)
def test_every_module_is_importable_without_torch(source_env, package, blocked):
    done = subprocess.run(
        [sys.executable, "-c", WALK, package, blocked], env=source_env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5


def test_importing_the_library_loads_nothing_of_the_extras(source_env):
    code = "import sys, fineline; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], env=source_env, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "fastapi", "uvicorn", "pyarrow", "typer", "scipy"} & set(done.stdout.split())


def test_every_command_of_the_entry_points_exists():
    roots = {path.name: path for path in (ROOT / "training" / "fineline_training", ROOT / "eval" / "fineline_eval")}
    for target in PROJECT["entry-points"]["fineline.commands"].values():
        module, _, name = target.partition(":")
        package, *parts = module.split(".")
        place = roots[package].joinpath(*parts)
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        assert file.is_file(), f"{target}: {file} is missing"
        assert f"{name} = " in file.read_text(encoding="utf-8"), f"{target}: no {name}"


# --- the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """The wheel of this tree, with the tiny model as its default one, so that no release is needed."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    tree = tmp_path_factory.mktemp("tree")
    for name in ("serving", "training", "eval"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("models", "__pycache__"))
    shutil.copytree(tiny_bundle, tree / "serving" / "models" / "fineline-1")
    shutil.copy(ROOT / "pyproject.toml", tree)
    for name in ("README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, tree)
        else:
            (tree / name).write_text("stub\n")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "dist")]
    done = subprocess.run(words, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (found,) = (tree / "dist").glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_three_packages_and_their_data(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    info = {name for name in tops if name.endswith(".dist-info")}
    assert len(info) == 1
    assert tops - info == {"fineline", "fineline_training", "fineline_eval"}
    for needed in (
        "fineline/taxonomy.toml", "fineline/policies/cn_measures.toml", "fineline/data/tables.json",
        "fineline/models/fineline-1/model.onnx", "fineline_training/recipes/quick.toml",
        "fineline_training/corpus/en/functional.yaml", "fineline_training/corpus/acts.toml",
        "fineline_training/sources/registry.toml", "fineline_training/sources/eval_digests.bin",
        "fineline_eval/suites.toml",
    ):  # fmt: skip
        assert needed in names
    assert not [name for name in names if "__pycache__" in name or "/tests/" in name or name.endswith(".safetensors")]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands in a fresh environment with the base dependencies."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    words = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", str(wheel)]
    if (ROOT / "constraints.txt").is_file():
        words += ["-c", str(ROOT / "constraints.txt")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode and any(part in done.stderr for part in UNREACHABLE):
        pytest.skip(f"the package registry does not answer: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return home / "bin"


def call(*words: object) -> subprocess.CompletedProcess[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run([str(word) for word in words], env=env, cwd="/", capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_judges_with_its_base_dependencies_alone(installed, classifier):
    done = call(installed / "fineline", "classify", "tell anyone", "--json")
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["model"] == "tiny@0.0.1"
    assert verdict["scores"] == pytest.approx(classifier.classify(["tell anyone"])[0].scores, abs=0.05)
    assert call(installed / "fineline", "verify").returncode == 0
    names = ("torch", "transformers", "fastapi", "pyarrow")
    code = f"import importlib.util as u; print([n for n in {names!r} if u.find_spec(n)])"
    assert call(installed / "python", "-c", code).stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_of_the_extras_say_what_to_install(installed):
    listed = call(installed / "fineline", "--help")
    assert all(name in listed.stdout for name in ("classify", "serve", *PROJECT["entry-points"]["fineline.commands"]))
    for extra, *words in (
        ("serve", "serve", "--port=0"),
        ("train", "data", "status"),
        ("train", "train"),
        ("eval", "eval"),
    ):
        command = words[0]
        done = call(installed / "fineline", *words)
        assert done.returncode == 1, f"{command}: {done.stdout}"
        assert done.stderr.startswith("error [extra_missing]"), f"{command}: {done.stderr}"
        assert f"fineline[{extra}]" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_recipes_are_found_in_the_wheel(installed):
    code = "from fineline_training.recipe import load_recipe; print(load_recipe('quick').name)"
    assert call(installed / "python", "-c", code).stdout.strip() == "fineline-quick"
