"""``fineline data``: what sources there are, fetching them, building a gated data set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from fineline.errors import DataError, FinelineError
from fineline.files import write_text
from fineline_training.build import build_dataset
from fineline_training.manifest import Manifest
from fineline_training.records import write_rows
from fineline_training.sources.mirror import State, find_mirror, pull_file, source_status
from fineline_training.sources.registry import AUTHORED, Source, find_source, load_registry

app = typer.Typer(name="data", help="Sources: status, download, build.", no_args_is_help=True)

MirrorOption = Annotated[
    Path | None, typer.Option("--mirror", help="Local copy of the upstream files; FINELINE_MIRROR by default.")
]
SourcesOption = Annotated[str, typer.Option("--sources", help="Source ids, comma separated; all by default.")]


@contextmanager
def _sentence() -> Iterator[None]:
    """Turn a Fineline error into one sentence on stderr and exit code 1."""
    try:
        yield
    except FinelineError as error:
        Console(stderr=True, soft_wrap=True).print(f"{error.code}: {error.message}", markup=False, highlight=False)
        raise typer.Exit(1) from None


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
    with _sentence():
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
    with _sentence():
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
    with _sentence():
        chosen = [source for source in _chosen(sources) if sources or source.splits("train")]
        needs_mirror = any(source.id != AUTHORED for source in chosen)
        folder = _mirror(mirror) if needs_mirror else find_mirror(mirror)
        dataset = build_dataset([source.id for source in chosen], folder, progress=True)
        write_rows(out, dataset.records)
        beside = out.with_name(f"{out.name}.manifest.json")
        write_text(beside, json.dumps(dataset.manifest.to_dict(), ensure_ascii=False, indent=2) + "\n")
        _print(dataset.manifest)
        Console(soft_wrap=True).print(f"{dataset.manifest.rows:,} rows in {out}, manifest in {beside}.")
