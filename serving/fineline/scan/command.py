"""``fineline scan``: score a corpus, decide on the stored scores, report, assess."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from typer.core import TyperGroup

from fineline.errors import InputError
from fineline.extras import require
from fineline.policy import DEFAULT_POLICY

if TYPE_CHECKING:
    from fineline.scan.progress import Progress as ScanProgress
    from fineline.scan.run import ScanResult, ScanSpec


class _RunByDefault(TyperGroup):
    """``fineline scan INPUT OUTPUT`` is ``fineline scan run INPUT OUTPUT``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help=(
        "Score a corpus of any size once, and decide, report and assess from the stored scores. "
        "'fineline scan INPUT OUTPUT' is short for 'fineline scan run INPUT OUTPUT'."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

Output = Annotated[str, typer.Argument(metavar="OUTPUT", help="Output folder of a scan: local path or fsspec URL.")]
BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of a bundle; the shipped model if not given.")
]
PolicyOption = Annotated[str, typer.Option("--policy", help="cn_measures, international or minors.")]
FilterOption = Annotated[
    bool, typer.Option("--filter", help="Also write the input's rows to OUTPUT/kept and OUTPUT/dropped, all columns.")
]
CardOption = Annotated[
    Path | None,
    typer.Option("--card", help="report.json of the model's card: corrects the counts for the classifier's errors."),
]


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"


def _line(progress: "ScanProgress") -> str:
    left = progress.seconds_left
    rest = f", {_duration(left)} left" if left is not None else ""
    return f"{progress.rows:,} of about {progress.expected:,} rows, {progress.rate:,.0f} rows/s{rest}"


def _scan(spec: "ScanSpec") -> "ScanResult":
    from fineline.scan.run import scan

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading inputs", total=None)

        def show(progress: "ScanProgress") -> None:
            if progress.shards:
                bar.update(task, description=_line(progress), completed=progress.rows, total=progress.expected)

        return scan(spec, show)


@app.command()
def run(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="File, folder or glob: local path or fsspec URL.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Folder to write; the same one again resumes.")],
    text_field: Annotated[str, typer.Option(help="Field that is judged.")] = "text",
    id_field: Annotated[str | None, typer.Option(help="Field kept as 'id'.")] = None,
    lang_field: Annotated[str | None, typer.Option(help="Field with the language, for the report.")] = None,
    source_field: Annotated[str | None, typer.Option(help="Field with the source, for the report.")] = None,
    context_field: Annotated[str | None, typer.Option(help="Field with what the text answers.")] = None,
    bundle: BundleOption = None,
    policy: PolicyOption = DEFAULT_POLICY,
    engine: Annotated[str, typer.Option(help="local (processes on this machine) or ray.")] = "local",
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if not given.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster; none starts one here.")] = None,
    shard_rows: Annotated[int, typer.Option(help="Most rows of a shard, which is what a killed scan may lose.")] = 4096,
    remember: Annotated[
        int, typer.Option(help="Different documents remembered to score exact duplicates once; 0 scores every one.")
    ] = 2_000_000,
    filter_: FilterOption = False,
    report_: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html and report.json.")] = True,
    card: CardOption = None,
    metrics: Annotated[Path | None, typer.Option(help="Prometheus text file to keep up to date.")] = None,
) -> None:
    """Score a corpus, apply the policy, and report. Killed and called again, it goes on where it stopped.

    OUTPUT holds scores, hashes and counts, and no text, until --filter copies your own rows there or 'fineline scan
    sample' writes the sheet that reviewers fill in.
    """
    require("scan", "pyarrow", "fsspec")
    from fineline.scan.documents import Fields
    from fineline.scan.run import ScanSpec

    result = _scan(
        ScanSpec(
            input=source,
            output=output,
            fields=Fields(text=text_field, id=id_field, lang=lang_field, source=source_field, context=context_field),
            bundle=bundle,
            policy=policy,
            engine=engine,
            workers=workers,
            address=address,
            shard_rows=shard_rows,
            remembered=remember,
            metrics=metrics,
        )
    )
    counts = result.counts
    typer.echo(
        f"{counts['documents']} documents scored ({counts['duplicates']} exact duplicates), {counts['rejected']} rows "
        f"rejected, in {_duration(result.seconds)}; {result.resumed} of {counts['shards']} shards were there: {output}",
        err=True,
    )
    _after(output, policy, bundle, filter_=filter_)
    if report_ and counts["documents"]:
        _report(output, policy, card)


def _after(
    output: str,
    policy: str,
    bundle: Path | None,
    *,
    filter_: bool,
    thresholds: dict[str, float] | None = None,
    name: str | None = None,
) -> None:
    """Decide, and filter if asked."""
    from fineline.scan.decide import decide
    from fineline.scan.filtering import filter_rows

    decided = decide(output, policy=policy, thresholds=thresholds, name=name, bundle=bundle)
    typer.echo(", ".join(f"{count} {action}" for action, count in decided.actions.items()), err=True)
    if filter_:
        rows = filter_rows(output, decisions=decided.rule.name)
        typer.echo(f"{rows.kept} rows kept, {rows.dropped} dropped, {rows.unreadable} unreadable", err=True)


def _report(output: str, decisions: str, card: Path | None) -> None:
    from fineline.scan.report import write_report

    write_report(output, decisions=decisions, card=card)
    typer.echo(f"report: {output.rstrip('/')}/report.html", err=True)


def _thresholds(given: list[str]) -> dict[str, float]:
    found = {}
    for entry in given:
        label, _, value = entry.partition("=")
        try:
            found[label] = float(value)
        except ValueError:
            raise InputError("threshold_value", f"--threshold {entry}: give it as LABEL=0.7.") from None
    return found


@app.command(name="decide")
def decide_command(
    output: Output,
    policy: PolicyOption = DEFAULT_POLICY,
    threshold: Annotated[
        list[str] | None, typer.Option(help="LABEL=PROBABILITY in place of the policy's; may be repeated.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the decisions; the policy's if not given.")] = None,
    bundle: BundleOption = None,
    filter_: FilterOption = False,
) -> None:
    """Apply another policy or other thresholds to the stored scores."""
    require("scan", "pyarrow", "fsspec")
    _after(output, policy, bundle, filter_=filter_, thresholds=_thresholds(threshold or []), name=name)


@app.command(name="report")
def report_command(
    output: Output,
    decisions: Annotated[str, typer.Option(help="Name of the decisions.")] = DEFAULT_POLICY,
    card: CardOption = None,
) -> None:
    """Write report.html and report.json."""
    require("scan", "pyarrow", "fsspec")
    _report(output, decisions, card)


@app.command(name="sample")
def sample_command(
    output: Output,
    inputs: Annotated[str | None, typer.Option(help="Where the inputs stand now, if they were moved.")] = None,
    decisions: Annotated[str, typer.Option(help="Name of the decisions.")] = DEFAULT_POLICY,
    size: Annotated[int, typer.Option(help="Documents for manual review.")] = 4000,
    share: Annotated[float, typer.Option(help="Share of the documents for technical checks.")] = 0.10,
    seed: Annotated[int, typer.Option(help="Another one draws another sample.")] = 0,
) -> None:
    """Draw the samples of the standard's assessment. The sheet to fill in holds the texts: reviewers need them."""
    require("scan", "pyarrow", "fsspec")
    from fineline.scan.sample import review_sample

    drawn = review_sample(output, inputs, decisions=decisions, size=size, share=share, seed=seed)
    typer.echo(
        f"{drawn.manual} documents to review, {drawn.technical} for technical checks: {output.rstrip('/')}", err=True
    )


@app.command(name="assess")
def assess_command(
    sheet: Annotated[str, typer.Argument(metavar="SHEET", help="The filled review_sheet.csv.")],
    drawn: Annotated[str | None, typer.Option(help="review_sample.json; beside the sheet if not given.")] = None,
) -> None:
    """Turn a filled sheet into pass rates with intervals."""
    require("scan", "pyarrow", "fsspec")
    from fineline.scan.assess import assess, told

    for line in told(assess(sheet, drawn)):
        typer.echo(line)
