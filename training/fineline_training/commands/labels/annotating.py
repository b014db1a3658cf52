"""``fineline labels guide``, ``assign``, ``agreement``, ``spotcheck`` and ``clean``: people's work on a label store."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from fineline.errors import DataError
from fineline.extras import require

if TYPE_CHECKING:
    from fineline_training.labels.reliability import Estimate
    from fineline_training.labels.spotcheck import LabelErrors
    from fineline_training.labels.store import LabelStore

StoreArgument = Annotated[Path, typer.Argument(help="Folder of the label store.")]
LabelOption = Annotated[
    list[str] | None, typer.Option("--label", help="A label, once for each; the team's own labels if not given.")
]
OwnOption = Annotated[
    list[Path] | None, typer.Option("--own-label", help="File of an own label to add to the store, once for each.")
]
ReviewOption = Annotated[str, typer.Option("--review", help="Who looks again, with commas: names or numbers.")]
SeedOption = Annotated[int, typer.Option(help="Seed; another one draws another sample.")]


def _open(path: Path, own_labels: Sequence[Path] | None = None) -> "LabelStore":
    require("train", "sklearn", "jinja2")
    from fineline.own_labels import read_own_labels
    from fineline_training.labels.store import LabelStore

    labels = read_own_labels(own_labels or ())
    store = LabelStore.open(path, create=bool(labels))
    if labels:
        store.define(labels)
    return store


def _labels(store: "LabelStore", given: Sequence[str] | None) -> list[str]:
    if unknown := [place for place, label in enumerate(given or (), 1) if label not in store.taxonomy.ids]:
        raise DataError(
            "label_unknown", f"--label, number {unknown[0]}: no label of the store; add it with --own-label."
        )
    chosen = list(dict.fromkeys(given or [label.id for label in store.own_labels]))
    if not chosen:
        raise DataError("labels_none", f"{store.path}: has no own label; name the labels with --label.")
    return chosen


def _people(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _figure(estimate: "Estimate") -> tuple[str, str]:
    if estimate.value is None:
        return "-", "-"
    return f"{estimate.value:.2f}", f"{estimate.low:.2f} to {estimate.high:.2f}"


def guide(store: StoreArgument, own_label: OwnOption = None, label: LabelOption = None) -> None:
    """Write the annotation guide of the team's labels, English and Chinese, with examples from its rows."""
    opened = _open(store, own_label)
    from fineline_training.labels.guide import write_guide

    files, record = write_guide(opened, _labels(opened, label))
    for file in (*files, record):
        typer.echo(str(file))


def assign(
    store: StoreArgument,
    annotators: Annotated[str, typer.Option(help="Who labels, with commas: names or numbers.")],
    double: Annotated[float, typer.Option(help="Share of all rows that two people label.")] = 0.2,
    review: ReviewOption = "",
    texts: Annotated[Path | None, typer.Option(help="Texts to label (JSONL), as 'suggest' writes them.")] = None,
    own_label: OwnOption = None,
    label: LabelOption = None,
    seed: SeedOption = 0,
) -> None:
    """Deal rows to annotators and reviewers, never the same row to a person twice; one task file each."""
    opened = _open(store, own_label)
    from fineline_training.labels.assign import assign as deal_rows

    people = (_people(annotators), _people(review))
    done = deal_rows(
        opened, _labels(opened, label), people[0], double=double, reviewers=people[1], texts=texts, seed=seed
    )
    for refusal in done.refused:
        typer.echo(f"{refusal.file} line {refusal.line}: {refusal.reason}", err=True)
    if done.known:
        typer.echo(f"{done.known} texts are in the store or were dealt before, and are left out")
    typer.echo(f"{done.first} new rows, {done.second} second answers, {done.review} reviews; nobody free: {done.left}")
    for file in (*done.files, done.record):
        typer.echo(str(file))
    typer.echo("Filled files come back with 'fineline labels import'.")


def agreement(store: StoreArgument, label: LabelOption = None, seed: SeedOption = 0) -> None:
    """Print Krippendorff's alpha of each label, and Cohen's kappa of each pair and of each against the others."""
    opened = _open(store)
    from fineline_training.labels.agreement import record_agreement

    chosen = _labels(opened, label) if label else opened.taxonomy.ids
    result, record = record_agreement(opened, chosen, seed)
    table = _table("label", "rows", "two votes", "disputed", "yes", "alpha", "95 % interval", "reading")
    for entry in result.labels:
        counts = (str(entry.voted), str(entry.alpha.rows), str(entry.disputed), f"{entry.positive:.0%}")
        table.add_row(entry.label, *counts, *_figure(entry.alpha), entry.reading)
    people = _table("label", "person", "against", "rows", "same", "kappa", "95 % interval")
    for pair in result.people:
        same = f"{pair.same:.1%}" if pair.same is not None else "-"
        people.add_row(pair.label, pair.person, pair.other, str(pair.kappa.rows), same, *_figure(pair.kappa))
    Console().print(table, people)
    typer.echo(str(record))


def spotcheck(
    store: StoreArgument,
    size: Annotated[int | None, typer.Option(help="Draw so many rows at random for --review.")] = None,
    review: ReviewOption = "",
    judged: Annotated[
        list[Path] | None, typer.Option(help="A filled file of the draw, once for each checker: print the error rate.")
    ] = None,
    label: LabelOption = None,
    seed: SeedOption = 0,
) -> None:
    """Draw rows for a blind second look, then bound the share of wrong labels by what was found."""
    if (size is None) == (not judged) or bool(size) != bool(review):
        raise DataError("spotcheck_step", "Draw with --size and --review, or give the filled files with --judged.")
    opened = _open(store)
    from fineline_training.labels import spotcheck as logic

    if size is not None:
        drawn = logic.draw(opened, _labels(opened, label), _people(review), size, seed)
        typer.echo(f"{drawn.drawn} of {drawn.population} rows")
        for file in (*drawn.files, drawn.record):
            typer.echo(str(file))
        return
    result = logic.judge(opened, judged or [])
    for title, entries in (("label", result.labels), ("annotator", result.people)):
        table = _table(title, "checked", "open", "missed", "invented", "wrong", "at most (95 % interval)")
        for entry in entries:
            table.add_row(*_error_cells(entry))
        Console().print(table)
    typer.echo(f"{len(result.wrong)} rows with a wrong label, listed in {result.record}")


def _error_cells(entry: "LabelErrors") -> tuple[str, ...]:
    counts = (str(entry.open), str(entry.missed), str(entry.invented))
    if entry.rate is None:
        return (entry.name, "0", *counts, "-", "-")
    return (entry.name, str(entry.rate.n), *counts, f"{entry.rate.value:.2%}", f"{entry.rate.high:.2%}")


def clean(
    store: StoreArgument,
    bundle: Annotated[Path | None, typer.Option(help="Bundle whose features are read; the shipped one if not.")] = None,
    review: ReviewOption = "",
    drop: Annotated[
        bool, typer.Option("--drop/--leave", help="Set likely errors aside, unseen by training, or leave them.")
    ] = False,
    folds: Annotated[int, typer.Option(help="Parts the rows are cut into; each is predicted from the others.")] = 5,
    label: LabelOption = None,
    seed: SeedOption = 0,
) -> None:
    """Rank likely label errors by confident learning, and deal them to reviewers."""
    require("train", "cleanlab")
    opened = _open(store)
    from fineline_training.labels.clean import clean as find_errors

    columns = (TextColumn("read {task.completed} rows"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        done = find_errors(
            opened,
            _labels(opened, label),
            bundle=bundle,
            reviewers=_people(review),
            drop=drop,
            folds=folds,
            seed=seed,
            on_rows=lambda count: progress.advance(task, count),
        )
    table = _table("label", "rows", "yes", "likely errors", "of them yes", "the first ids")
    for entry in done.labels:
        issues = entry.issues
        found = str(len(issues)) if entry.ranked else "too few rows"
        ids = " ".join(suspect.id for suspect in issues[:3])
        table.add_row(entry.label, str(entry.rows), str(entry.positive), found, str(sum(s.given for s in issues)), ids)
    Console().print(table)
    typer.echo(f"{done.set_aside} marks set aside")
    for file in (*done.files, done.record):
        typer.echo(str(file))
