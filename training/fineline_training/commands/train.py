"""``fineline train``: a recipe from data to bundle."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fineline.extras import require
from fineline_training.recipe import load_recipe
from fineline_training.sources.mirror import find_mirror

app = typer.Typer(no_args_is_help=False)


@app.callback(invoke_without_command=True)
def train(
    recipe: Annotated[str, typer.Option(help="Name of a recipe (quick, release) or path of a .toml file.")] = "quick",
    out: Annotated[Path | None, typer.Option(help="Run folder; the default is runs/<recipe>.")] = None,
    mirror: Annotated[Path | None, typer.Option(help="Local copy of the public sources.")] = None,
) -> None:
    """Fine-tune, export, calibrate and write a bundle; run again to continue where it stopped."""
    loaded = load_recipe(recipe)
    require("train", "torch", "transformers", "accelerate", "onnx", "onnxscript", "scipy")
    from fineline_training.run import Run

    folder = out or Path("runs") / loaded.name
    bundle = Run(loaded, folder, mirror=find_mirror(mirror)).all()
    Console().print(f"bundle written: {bundle.path}")
