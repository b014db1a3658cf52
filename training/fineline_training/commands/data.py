"""``fineline data``: sources, fetching them, a gated data set, its composition, and the annotation guide."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from fineline.errors import DataError
from fineline.extras import require
from fineline.files import write_text
from fineline_training.build import build_dataset
from fineline_training.corpus import load_corpus
from fineline_training.manifest import Manifest
from fineline_training.records import write_rows
from fineline_training.sources.mirror import State, find_mirror, pull_file, source_status
from fineline_training.sources.registry import AUTHORED, Source, find_source, load_registry

app = typer.Typer(name="data", help="Sources, data sets, the corpus and its guide.", no_args_is_help=True)

MirrorOption = Annotated[
    Path | None, typer.Option("--mirror", help="Local copy of the upstream files; FINELINE_MIRROR by default.")
]
SourcesOption = Annotated[str, typer.Option("--sources", help="Source ids, comma separated; all by default.")]
WIDTH = 100
"""Columns that the tables of ``stats`` need; text that goes to a file is not cut to 80."""


def _chosen(sources: str) -> list[Source]:
    ids = [part.strip() for part in sources.split(",") if part.strip()]
    return [find_source(source_id) for source_id in ids] if ids else list(load_registry().values())


def _mirror(named: Path | None) -> Path:
    mirror = find_mirror(named)
    if mirror is None:
        raise DataError("mirror_unset", "Name a folder of upstream files with --mirror or FINELINE_MIRROR.")
    return mirror


@app.command()
def status(mirror: MirrorOption = None, sources: SourcesOption = "") -> None:
    """Show each source: licence, use, languages, and whether the mirror holds its pinned files."""
    folder, chosen = find_mirror(mirror), _chosen(sources)
    table = Table("source", "licence", "use", "languages", "files", "state", title="Sources")
    for source in chosen:
        use = ", ".join(f"{split}: {what}" for split, what in source.use.items())
        if source.id == AUTHORED:
            state = "in the repository"
        elif folder is None:
            state = "no mirror named"
        else:
            found = source_status(source, folder).state
            state = f"[{'green' if found is State.PRESENT else 'red'}]{found}[/]"
        languages = " ".join(source.languages[:6]) + (" ..." if len(source.languages) > 6 else "")
        table.add_row(source.id, source.licence, use, languages, str(len(source.files)), state)
    Console().print(table)


@app.command()
def pull(
    out: Annotated[Path, typer.Option("--out", help="Data folder; each source gets its own subfolder.")],
    mirror: MirrorOption = None,
    sources: SourcesOption = "",
) -> None:
    """Copy files from a mirror or, where none is named, download them; every hash is checked."""
    origin = find_mirror(mirror)
    if origin is not None and out.exists() and origin.samefile(out):
        raise DataError("pull_same_folder", "The mirror and --out are the same folder; name another --out.")
    written = there = 0
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        for source in _chosen(sources):
            bar = bars.add_task(source.id, total=None)
            received = partial(bars.advance, bar)
            for file in source.files:
                fresh = pull_file(source, file, out, mirror=origin, progress=received)
                written, there = written + fresh, there + (not fresh)
            bars.update(bar, total=1, completed=1)
    Console(soft_wrap=True).print(f"{written} files written to {out}, {there} were there already.")


def _print(manifest: Manifest) -> None:
    table = Table("source", "read", "kept", "train", "dev", "flagged", title="Data set")
    drops = Table("source", "rows left out", "reason", title="Left out")
    for source in manifest.sources:
        splits = (f"{source.splits.get(split, 0):,}" for split in ("train", "dev"))
        table.add_row(source.id, f"{source.read:,}", f"{source.kept:,}", *splits, f"{source.unlawful_share:.1%}")
        for reason, count in source.dropped.items():
            drops.add_row(source.id, f"{count:,}", reason)
    gates = Table("gate", "checked", "result", title="Gates")
    for gate in manifest.gates:
        gates.add_row(gate.gate, f"{gate.checked:,}", gate.detail)
    for part in (table, drops, gates):
        Console().print(part)
    if manifest.missing:
        Console(soft_wrap=True).print(f"Not in the mirror, left out: {', '.join(manifest.missing)}.")


@app.command()
def build(
    out: Annotated[Path, typer.Option("--out", help="File of rows: .jsonl, .jsonl.gz, .csv or .parquet.")],
    mirror: MirrorOption = None,
    sources: Annotated[
        str, typer.Option("--sources", help="Source ids, comma separated; all training sources by default.")
    ] = "",
) -> None:
    """Build the gated data set and its manifest (``<out>.manifest.json``)."""
    chosen = [source for source in _chosen(sources) if sources or source.splits("train")]
    needs_mirror = any(source.id != AUTHORED for source in chosen)
    folder = _mirror(mirror) if needs_mirror else find_mirror(mirror)
    dataset = build_dataset([source.id for source in chosen], folder, progress=True)
    write_rows(out, dataset.records)
    beside = out.with_name(f"{out.name}.manifest.json")
    write_text(beside, json.dumps(dataset.manifest.to_dict(), ensure_ascii=False, indent=2) + "\n")
    _print(dataset.manifest)
    Console(soft_wrap=True).print(f"{dataset.manifest.rows:,} rows in {out}, manifest in {beside}.")


@app.command()
def stats(
    mirror: MirrorOption = None,
    sources: SourcesOption = "",
    as_json: Annotated[Path | None, typer.Option("--json", help="File to write all numbers to, as JSON.")] = None,
) -> None:
    """Show what the training rows are made of, and how varied the authored corpus is."""
    require("train", "sklearn")
    from fineline_training.commands.composition_tables import corpus_tables, row_tables
    from fineline_training.composition import Composition, count_rows, measure_corpus

    chosen = [source.id for source in _chosen(sources) if sources or source.splits("train")]
    dataset = build_dataset(chosen, find_mirror(mirror), required=False, progress=True)
    composition = Composition(
        rows=count_rows(dataset.records), corpus=measure_corpus(load_corpus()), missing=dataset.manifest.missing
    )
    console = Console()
    console.width = max(console.width, WIDTH)
    console.print(row_tables(composition.rows), *corpus_tables(composition.corpus), sep="\n")
    if composition.missing:
        Console(soft_wrap=True).print(f"Not in the mirror, not counted: {', '.join(composition.missing)}.")
    if as_json is not None:
        write_text(as_json, json.dumps(composition.to_dict(), ensure_ascii=False, indent=2) + "\n")


@app.command()
def guide(
    out: Annotated[Path, typer.Option("--out", help="Folder of the two files.")] = Path("training/annotation"),
) -> None:
    """Render the annotation guide, in English and Chinese, from the taxonomy, the acts and the corpus."""
    require("train", "jinja2")
    from fineline_training.guide import GUIDES, render_guide

    items = load_corpus()
    for lang, name in GUIDES.items():
        write_text(out / name, render_guide(lang, items))
        typer.echo(f"guide written: {out / name}")
