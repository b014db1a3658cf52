"""``fineline gates``: hold a report to the recorded floors, or record them from it."""

from pathlib import Path
from typing import Annotated

import typer

from fineline.extras import require

app = typer.Typer()


@app.command()
def run(
    report: Annotated[Path, typer.Argument(help="report.json, or the folder it lies in.")],
    record: Annotated[bool, typer.Option("--record", help="Record the floors from this report instead.")] = False,
    floors: Annotated[Path | None, typer.Option(help="File of floors; the one in the package if not given.")] = None,
) -> None:
    """Check the gates on a report; exit status 1 when a gated measure is beyond its floor or limit."""
    require("eval", "sklearn", "huggingface_hub", "pyarrow", "yaml")
    from fineline_eval.gates import FLOORS_FILE, check_gates, load_gates, read_floors, record_floors
    from fineline_eval.measures import report_measures
    from fineline_eval.report import read_report

    loaded, rules, file = read_report(report), load_gates(), floors or FLOORS_FILE
    measures = report_measures(loaded)
    if record:
        kept = record_floors(measures, rules, model=loaded.model, policy=loaded.policy, path=file)
        typer.echo(f"{len(kept.floors)} floors recorded: {file}")
        return
    failures = check_gates(measures, rules, read_floors(file))
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1)
    typer.echo("all gates hold")
