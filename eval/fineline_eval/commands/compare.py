"""``fineline compare``: what became better or worse between two evaluations; fails when a gate does."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fineline.extras import require

app = typer.Typer()


@app.command()
def run(
    old: Annotated[Path, typer.Argument(help="Folder with report.json and decisions.parquet, or its report.")],
    new: Annotated[Path, typer.Argument(help="The same for the newer bundle.")],
    gates: Annotated[Path | None, typer.Option(help="Gates file; the one in the package if not given.")] = None,
    floors: Annotated[Path | None, typer.Option(help="File of floors; the one in the package if not given.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Print undecided slices that no gate guards, too.")] = False,
) -> None:
    """Compare two evaluations row by row; exit status 1 when a gated slice is worse or misses its floor."""
    require("eval", "sklearn", "huggingface_hub", "pyarrow", "yaml")
    from fineline_eval.compare import compare, comparison_table, gated_worse
    from fineline_eval.decisions import read_decisions
    from fineline_eval.gates import FLOORS_FILE, GATES_FILE, check_gates, load_gates, read_floors
    from fineline_eval.measures import report_measures
    from fineline_eval.report import read_report

    rules = load_gates(gates or GATES_FILE)
    before, after = read_report(old), read_report(new)
    found = compare(read_decisions(old), read_decisions(new), rules)
    Console().print(comparison_table(found, rules, f"{before.model} to {after.model}", every=every))
    typer.echo(f"{found.matched:,} rows judged by both, {found.unmatched:,} by one side only")
    failures = [f"{gate}: {change}" for gate, change in gated_worse(found, rules)]
    failures += [f"{name}: judged by the old side only" for name in found.absent]
    failures += map(str, check_gates(report_measures(after), rules, read_floors(floors or FLOORS_FILE)))
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1)
    typer.echo("all gates hold")
