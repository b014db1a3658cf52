"""``fineline compare``: what became better or worse between two evaluations; fails when a gate does."""

import json
from dataclasses import asdict
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
    shared: Annotated[
        bool, typer.Option("--shared", help="Leave out what only one side judged, and bounds that both miss.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--json", help="File to write all differences and failures to.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Print undecided slices that no gate guards, too.")] = False,
) -> None:
    """Compare two evaluations by row; exit status 1 when a gated slice is worse beyond chance or misses its floor."""
    require("eval", "sklearn", "huggingface_hub", "pyarrow", "yaml")
    from fineline.errors import ConfigError
    from fineline.files import write_text
    from fineline_eval.compare import (
        BY_CHANCE,
        LEAST_MATCHED,
        beyond_chance,
        compare,
        comparison_table,
        gated,
        shared_parts,
    )
    from fineline_eval.decisions import origin, read_decisions
    from fineline_eval.gates import FLOORS_FILE, GATES_FILE, check_gates, excused, load_gates, read_floors
    from fineline_eval.measures import report_measures
    from fineline_eval.report import read_report

    rules = load_gates(gates or GATES_FILE)
    before, after = read_report(old), read_report(new)
    if before.policy != after.policy:
        raise ConfigError(
            "compare_policy", f"Policies differ: {before.policy}, {after.policy}; evaluate both under the same one."
        )
    old_decisions, new_decisions = (
        read_decisions(path, origin(report.model, report.policy, report.files, report.digest))
        for path, report in ((old, before), (new, after))
    )
    left: tuple[str, ...] = ()
    if shared:
        old_decisions, new_decisions, left = shared_parts(old_decisions, new_decisions)
        if left:
            typer.echo(f"judged by one side only, left out: {', '.join(left)}")
    found = compare(old_decisions, new_decisions, rules)
    Console().print(comparison_table(found, f"{before.model} to {after.model}", every=every))
    typer.echo(f"{found.matched:,} rows judged by both, {found.unmatched:,} by one side only")
    count = len(gated(found))
    typer.echo(
        f"{count} gated measures; between equally good models {BY_CHANCE * count:.1f} look worse by chance alone"
    )
    failures = [
        f"{d.gate}: {d.measure} {d.old:.4f} to {d.new:.4f}, change {d.change:+.4f} ({d.low:+.4f} to {d.high:+.4f})"
        for d in beyond_chance(found)
    ]
    failures += [f"{name}: less than {LEAST_MATCHED:.0%} of the old side's rows judged by both" for name in found.thin]
    failures += [f"{name}: judged by the old side only" for name in found.lost]
    bounds, known = read_floors(floors or FLOORS_FILE), report_measures(before)
    beyond = check_gates(report_measures(after), rules, bounds, policy=after.policy)
    if shared:
        missed = check_gates(known, rules, bounds, policy=before.policy)
        beyond = tuple(
            f for f in beyond if f.measure.split("/")[0] not in left and not excused(f, known, missed, rules)
        )
    failures += map(str, beyond)
    if out is not None:
        differences = [asdict(d) for d in found.differences]
        text = json.dumps({"failures": failures, "left_out": left, "differences": differences}, indent=1)
        write_text(out, text + "\n")
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(1)
    typer.echo("all gates hold")
