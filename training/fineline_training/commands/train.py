"""``fineline train``: a recipe from data to bundle, or a bundle and a team's rows to a better one."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fineline.errors import ConfigError
from fineline.extras import require
from fineline_training.recipe import load_recipe
from fineline_training.sources.mirror import find_mirror

app = typer.Typer(no_args_is_help=False)


@app.callback(invoke_without_command=True)
def train(
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe (quick, release, retrain) or a .toml file; quick if not given, with --from retrain."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; the default is runs/<recipe>.")] = None,
    mirror: Annotated[Path | None, typer.Option(help="Local copy of the public sources.")] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Add a model for GPUs to the bundle.")] = False,
    start: Annotated[
        str | None, typer.Option("--from", help="Bundle to go on from: its folder, or 'default' for the shipped one.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A team's label store ('fineline labels import'), or a single file of rows.")
    ] = None,
    licence: Annotated[str, typer.Option(help="For a file: licence of its texts.")] = "",
    basis: Annotated[str, typer.Option(help="For a file: legal basis for using them.")] = "",
    own_label: Annotated[list[Path] | None, typer.Option("--own-label", help="File of an own label.")] = None,
) -> None:
    """Fine-tune, export, calibrate and write a bundle; run again to continue where it stopped.

    With --from and --labels training goes on from a bundle: the new bundle is evaluated, compared with the old one, and
    gets its card.
    """
    if (start is None) != (labels is None):
        raise ConfigError("train_start", "Training goes on from a bundle with rows: give both --from and --labels.")
    name = recipe or ("quick" if start is None else "retrain")
    loaded = load_recipe(name)
    if (loaded.start is None) != (start is None):
        needs = "needs --from and --labels" if loaded.start else "has no section [start], which --from needs"
        raise ConfigError("train_start", f"The recipe '{loaded.name}' {needs}.")
    require("train", "torch", "transformers", "accelerate", "onnx", "onnxscript", "scipy", "sklearn")
    folder = out or Path("runs") / Path(name).stem
    from fineline_training.fp16 import add_fp16

    if start is None or labels is None:
        from fineline_training.run import Run

        plain = Run(loaded, folder, mirror=find_mirror(mirror))
        plain.all()
        if fp16 and plain.processes.is_main_process:
            add_fp16(plain)
        plain.tell(f"bundle written: {folder / 'bundle'}")
        return
    require("eval", "fineline_eval.evaluate")
    from fineline.bundle import load_bundle
    from fineline.own_labels import read_own_labels
    from fineline_training.retrain import Retrain
    from fineline_training.stations import processes
    from fineline_training.team import open_labels

    own = read_own_labels(own_label or ())
    with processes().main_process_first():
        store = open_labels(labels, folder, licence=licence, basis=basis, own=own, tell=partial(typer.echo, err=True))
    bundle = load_bundle(None if start == "default" else start)
    more = Retrain(loaded, folder, start=bundle, store=store, own_labels=own, mirror=find_mirror(mirror))
    more.all()
    if fp16 and more.processes.is_main_process:
        add_fp16(more)
    more.tell(f"bundle written: {folder / 'bundle'}, learning curves: {folder / 'curves.svg'}")
