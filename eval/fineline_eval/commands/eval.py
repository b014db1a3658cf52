"""``fineline eval``: judge a bundle on all suites and write ``report.json``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fineline.extras import require
from fineline.policy import DEFAULT_POLICY

app = typer.Typer()


@app.callback(invoke_without_command=True)
def run(
    bundle: Annotated[Path | None, typer.Option(help="Folder of a bundle; the shipped model if not given.")] = None,
    out: Annotated[Path, typer.Option(help="Report to write.")] = Path("runs/eval/report.json"),
    mirror: Annotated[Path | None, typer.Option(help="Local copy of the public sets.")] = None,
    policy: Annotated[str, typer.Option(help="Policy whose thresholds decide.")] = DEFAULT_POLICY,
    floors: Annotated[bool, typer.Option(help="Train keyword lists and n-grams to compare with, too.")] = True,
    team: Annotated[Path | None, typer.Option(help="Rows of a team that 'fineline train --from' held back.")] = None,
    before: Annotated[Path | None, typer.Option(help="Bundle that training went on from, for these rows.")] = None,
) -> None:
    """Evaluate a bundle; run again to continue where it stopped."""
    require("eval", "sklearn", "huggingface_hub", "pyarrow", "yaml", "fastapi", "httpx")
    from fineline.taxonomy import load_taxonomy
    from fineline_eval.decisions import FILE, origin, write_decisions
    from fineline_eval.evaluate import evaluate
    from fineline_eval.report import write_report
    from fineline_eval.summary import summary_table
    from fineline_training.sources.mirror import find_mirror

    console = Console(stderr=True)
    cache = out.parent / "logits"
    report, decisions = evaluate(
        bundle,
        find_mirror(mirror),
        policy=policy,
        cache=cache,
        console=console,
        floors=floors,
        team=team,
        before=before,
    )
    write_decisions(decisions, out.with_name(FILE), origin(report.model, report.policy, report.files, report.digest))
    write_report(report, out)
    Console().print(summary_table(report))
    console.print(f"report written: {out} ({report.minutes} min)")
    if absent := [label for label in load_taxonomy().ids if label not in report.labels]:
        console.print(f"the bundle lacks labels, which count as never flagged: {', '.join(absent)}")
    if report.missing:
        console.print(f"not in the mirror, not evaluated: {', '.join(report.missing)}")
