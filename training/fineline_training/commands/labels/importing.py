"""``fineline labels import``: files of labelled rows into a team's label store."""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from fineline.errors import ConfigError
from fineline.extras import require

_PLACES = 5
"""Places printed of each reason; the record has all."""
_FILE = {"name": "file", "read_as": "read as", "rows": "rows", "refused": "refused"}
_FILE |= {"unanswered": "unanswered", "recovered": "not UTF-8, recovered"}


def import_(
    files: Annotated[list[Path], typer.Argument(help="JSONL, JSON, CSV, TSV (each also .gz) or Parquet.")],
    store: Annotated[Path, typer.Option(help="Folder of the label store; made if there is none.")],
    licence: Annotated[str, typer.Option(help="Licence of the texts: SPDX id, or words such as 'own work'.")],
    basis: Annotated[str, typer.Option(help="Legal basis for using them: consent, contract, a law.")],
    collected_by: Annotated[str, typer.Option(help="Who collected the texts, for the record.")] = "",
    annotator: Annotated[str, typer.Option(help="Who labelled the rows that name nobody.")] = "",
    source: Annotated[str, typer.Option(help="Source of rows that name none; the file's name by default.")] = "",
    own_label: Annotated[list[Path] | None, typer.Option(help="File of an own label; may be given again.")] = None,
    format: Annotated[
        str, typer.Option(help="auto, jsonl, csv, parquet, labelstudio, argilla or feedback (exported appeals).")
    ] = "auto",
    text_field: Annotated[str, typer.Option(help="Field that is judged.")] = "",
    labels_field: Annotated[str, typer.Option(help="Field, question or choice with the labels.")] = "",
    known: Annotated[str, typer.Option(help="For lists: labels that were looked at, comma separated, or 'all'.")] = "",
    mapping: Annotated[Path | None, typer.Option(help="TOML with more names: of fields, and words for labels.")] = None,
    encoding: Annotated[str, typer.Option(help="Encoding of rows that are not UTF-8.")] = "",
    personal: Annotated[str, typer.Option(help="Rows with personal data: mask, drop, or stop the import.")] = "stop",
    ordinary: Annotated[bool, typer.Option(help="Ordinary text, no label set: the limit holds.")] = False,
    unlawful_limit: Annotated[float | None, typer.Option(help="Highest share of flagged rows there; 0.05.")] = None,
    any_licence: Annotated[bool, typer.Option(help="Take a licence that forbids commercial use.")] = False,
) -> None:
    """Import labelled rows: checked row by row, refused ones reported with the reason, everybody's votes kept."""
    require("train", "pyarrow")
    from fineline import Classifier
    from fineline.own_labels import read_own_labels
    from fineline_training.labels.importing import ImportOptions, import_files
    from fineline_training.labels.mapping import read_map
    from fineline_training.labels.reading import FORMATS, ReadOptions
    from fineline_training.labels.store import LabelStore
    from fineline_training.labels.team_gates import UNLAWFUL_LIMIT, Personal, bundle_judge, check_rights, check_rows

    for option, value, choices in (("format", format, FORMATS), ("personal", personal, get_args(Personal))):
        if value not in choices:
            raise ConfigError(f"import_{option}", f"--{option} must be one of {', '.join(choices)}.")
    opened = LabelStore.open(store, create=True)
    own = read_own_labels(own_label or ())
    given = {"text": text_field, "labels": labels_field, "known": [part.strip() for part in known.split(",") if part]}
    fields = read_map(mapping, opened.taxonomy.extended(own).ids, **given)
    options = ImportOptions(
        rights=check_rights(licence, basis, any_licence=any_licence),
        collected_by=collected_by,
        read=ReadOptions(format=format, fields=fields, annotator=annotator, source=source, encoding=encoding),
        own=own,
    )
    gates = partial(
        check_rows,
        personal=cast(Personal, personal),
        ordinary=ordinary,
        unlawful_limit=UNLAWFUL_LIMIT if unlawful_limit is None else unlawful_limit,
        judge=bundle_judge(Classifier.load()) if ordinary else None,
    )
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        done = import_files(
            opened, files, options, gates, lambda name: progress.update(task, description=f"importing {name}")
        )
    _print(done.record)
    typer.echo(f"Record: {done.path}")
    if done.record["refusals"]:
        raise typer.Exit(1)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _place(part: Mapping[str, Any]) -> str:
    place = f"{part['file']} line {part['line']}" if part["line"] else part["file"]
    return f"{place} (see {part['other']})" if part.get("other") else place


def _print(record: Mapping[str, Any]) -> None:
    """Print the report: files, labels, what was refused and why, what should be known."""
    console = Console()
    table = _table(*_FILE.values())
    for entry in record["files"]:
        table.add_row(*(str(entry[key]) for key in _FILE))
    console.print(table)
    table = _table("label", "positive", "negative", "disputed")
    for label, counts in record["labels"].items():
        table.add_row(label, *(str(count) for count in counts.values()))
    if record["labels"]:
        console.print(table)
    places: dict[str, list[str]] = defaultdict(list)
    for part in record["refusals"]:
        places[part["reason"]].append(_place(part))
    for reason, found in sorted(places.items(), key=lambda entry: -len(entry[1])):
        more = f", and {len(found) - _PLACES} more in the record" if len(found) > _PLACES else ""
        typer.echo(f"refused, {len(found)}: {reason}: {', '.join(found[:_PLACES])}{more}")
    for warning in record["warnings"]:
        typer.echo(f"warning: {warning}")
    typer.echo(
        f"{record['new']} new rows, {record['votes_added']} that add votes to a text, {record['repeated']} repeated, "
        f"{len(record['refusals'])} refused; {record['rows_of_store']} rows in the store."
    )
