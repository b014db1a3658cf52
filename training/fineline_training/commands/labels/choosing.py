"""``fineline labels suggest``: which rows of a pool are worth labelling next."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fineline import Classifier
from fineline.extras import require


def suggest(
    pool: Annotated[str, typer.Argument(help="File, folder or glob of texts: JSONL, CSV, Parquet or text files.")],
    out: Annotated[Path, typer.Option("--out", help="JSONL file to write; texts go nowhere else.")],
    number: Annotated[int, typer.Option("-n", "--number", help="Rows to pick.")] = 500,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Model to improve; the shipped one if not given.")] = (
        None
    ),
    labels: Annotated[str, typer.Option("--labels", help="Labels to be uncertain about, comma separated; all.")] = "",
    policy: Annotated[str | None, typer.Option("--policy", help="Policy whose thresholds count.")] = None,
    store: Annotated[Path | None, typer.Option("--store", help="Label store whose rows are not picked again.")] = None,
    share: Annotated[float, typer.Option(help="Share of the pool to judge, drawn evenly: for very large pools.")] = 1.0,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of the model; all cores.")] = None,
) -> None:
    """Pick rows the model is unsure of, rows whose verdict hangs on how they are written, and an even sample.

    OUT.manifest.json says why each id was picked; annotators should label before they read it.
    """
    require("scan", "fsspec", "pyarrow")
    require("train", "onnx")
    from fineline_training.labels.pool import labelled_keys
    from fineline_training.labels.store import LabelStore
    from fineline_training.labels.suggest import suggest as pick

    labelled = labelled_keys(LabelStore.open(store).rows()) if store else frozenset[int]()
    classifier = Classifier.load(bundle, threads=threads)
    columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed:,.0f} rows"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("judging the pool", total=None)
        manifest = pick(
            pool,
            out,
            classifier=classifier,
            number=number,
            labels=[part.strip() for part in labels.split(",") if part.strip()],
            policy=policy,
            labelled=labelled,
            share=share,
            threads=threads,
            on_rows=lambda count: bars.advance(bar, count),
        )
    table = Table("", "rows", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("rows", "picked"):
        for name, count in manifest[title].items():
            table.add_row(f"{title}: {name}", f"{count:,}")
    Console().print(table)
    Console(soft_wrap=True).print(f"{len(manifest['suggestions']):,} rows in {out}, why in {out}.manifest.json")
