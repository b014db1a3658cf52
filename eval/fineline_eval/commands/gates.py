"""``fineline gates``: hold a report to the recorded floors, or record them from it."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fineline.extras import require

app = typer.Typer()


@app.command()
def run(
    report: Annotated[Path, typer.Argument(help="report.json, or the folder it lies in.")],
    record: Annotated[bool, typer.Option("--record", help="Record stricter floors from this report instead.")] = False,
    loosen: Annotated[bool, typer.Option("--loosen", help="With --record: record laxer ones, too.")] = False,
    floors: Annotated[Path | None, typer.Option(help="File of floors; the one in the package if not given.")] = None,
) -> None:
    """Check the gates on a report; exit status 1 when a gated measure is beyond its floor or limit."""
    require("eval", "sklearn", "huggingface_hub", "pyarrow", "yaml")
    from fineline_eval.gates import (
        FLOORS_FILE,
        check_gates,
        load_gates,
        loosened,
        read_floors,
        record_floors,
        write_floors,
    )
    from fineline_eval.measures import report_measures
    from fineline_eval.report import read_report

    if loosen and not record:
        raise typer.BadParameter("--loosen goes with --record")
    loaded, rules, file = read_report(report), load_gates(), floors or FLOORS_FILE
    measures = report_measures(loaded)
    if record:
        found = record_floors(measures, rules, model=loaded.model, policy=loaded.policy)
        kept = loosened(read_floors(file), found, rules) if file.is_file() and not loosen else {}
        write_floors(replace(found, floors=found.floors | kept), file)
        for name, floor in kept.items():
            typer.echo(
                f"stricter floor kept: {name} {floor:.4f}, in this report {found.floors.get(name, 'none')}", err=True
            )
        if kept:
            typer.echo(f"{len(kept)} floors kept; --loosen would take this report's", err=True)
        typer.echo(f"{len(found.floors | kept)} floors recorded: {file}")
        return
    failures = check_gates(measures, rules, read_floors(file), policy=loaded.policy)
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1)
    typer.echo("all gates hold")
