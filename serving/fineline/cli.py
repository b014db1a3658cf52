"""The command ``fineline``; training and evaluation add theirs through the entry points ``fineline.commands``."""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from fineline.classifier import Classifier, Verdict
from fineline.engine import CPU
from fineline.errors import FinelineError
from fineline.extras import require
from fineline.policy import DEFAULT_POLICY
from fineline.rows import score_file
from fineline.scan.command import app as scan_app
from fineline.server.commands import feedback_app, keys_app

GROUP = "fineline.commands"


class _Commands(TyperGroup):
    """Own commands, and those of installed entry points, which are imported only when they are called."""

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *sorted(self._entry_points())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        entry = self._entry_points().get(cmd_name)
        if own is not None or entry is None:
            return own
        require("train" if entry.module.startswith("fineline_training") else "eval", entry.module)
        return typer.main.get_command(entry.load())

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        rows = [(name, "from " + entry.module.split(".")[0]) for name, entry in sorted(self._entry_points().items())]
        own = [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*own, *rows])


app = typer.Typer(
    cls=_Commands,
    help="Multilingual content-safety classifier: judges the act, not the topic.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

app.add_typer(scan_app, name="scan")
app.add_typer(keys_app, name="keys")
app.add_typer(feedback_app, name="feedback")

BundleOption = Annotated[
    Path | None, typer.Option("--bundle", help="Folder of a bundle; the shipped model if not given.")
]
PolicyOption = Annotated[str, typer.Option("--policy", help="cn_measures, international or minors.")]
_DEVICE = typer.Option("--device", help="cpu, cuda (needs onnxruntime-gpu and a bundle with an fp16 model) or auto.")


def _table(texts: list[str], verdicts: list[Verdict]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("action", "flagged", "score", "text"):
        table.add_column(name, overflow="fold")
    styles = {"allow": "green", "review": "yellow", "block": "red"}
    for text, verdict in zip(texts, verdicts, strict=True):
        top = max(verdict.scores, key=lambda label: verdict.scores[label])
        shown = ", ".join(verdict.flagged) or "-"
        action = f"[{styles[verdict.action]}]{verdict.action}[/]"
        # Text, because a string would be read as rich's markup: "[/]" or ":x:" in a user's text is not ours to render.
        printable = Text(text.encode("utf-8", "replace").decode())
        table.add_row(action, shown, f"{verdict.scores[top]:.2f}", printable)
    return table


@app.command()
def classify(
    texts: Annotated[list[str], typer.Argument(help="Texts to judge; '-' reads one text a line from standard input.")],
    context: Annotated[str | None, typer.Option(help="What the texts answer, for instance the user's prompt.")] = None,
    bundle: BundleOption = None,
    policy: PolicyOption = DEFAULT_POLICY,
    as_json: Annotated[bool, typer.Option("--json", help="One verdict a line as JSON.")] = False,
) -> None:
    """Judge texts and print the verdicts."""
    given = texts
    if texts == ["-"]:
        given = [line.decode("utf-8", "replace").rstrip("\r\n") for line in sys.stdin.buffer]
    classifier = Classifier.load(bundle, policy=policy)
    verdicts = classifier.classify(given, [context] * len(given))
    if as_json:
        for verdict in verdicts:
            typer.echo(json.dumps(verdict.as_dict(), ensure_ascii=False))
    else:
        Console().print(_table(given, verdicts))


@app.command()
def score(
    source: Annotated[Path, typer.Argument(metavar="IN", help="JSONL with a field 'text'.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="JSONL to write.")],
    text_field: Annotated[str, typer.Option(help="Field that is judged.")] = "text",
    context_field: Annotated[str, typer.Option(help="Field with what the text answers.")] = "context",
    bundle: BundleOption = None,
    policy: PolicyOption = DEFAULT_POLICY,
) -> None:
    """Score a JSONL file: each row keeps its fields and gains scores, flagged and action."""
    classifier = Classifier.load(bundle, policy=policy)
    columns = (TextColumn("scored {task.completed} rows"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        result = score_file(
            classifier,
            source,
            target,
            text_field=text_field,
            context_field=context_field,
            on_rows=lambda count: progress.advance(task, count),
        )
    for line, reason in result.refused[:20]:
        typer.echo(f"{source}: line {line}: {reason}", err=True)
    typer.echo(f"{result.scored} rows scored, {len(result.refused)} refused: {target}", err=True)
    if result.refused:
        raise typer.Exit(1)


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="Settings in TOML; options of this command override it.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 127.0.0.1 if not given.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 8000 if not given.")] = None,
    bundle: BundleOption = None,
    policy: Annotated[str | None, typer.Option(help="Policy of requests that name none.")] = None,
    device: Annotated[str | None, _DEVICE] = None,
    keys: Annotated[Path | None, typer.Option(help="File of API keys, made by 'fineline keys new'.")] = None,
    insecure_no_auth: Annotated[bool, typer.Option("--insecure-no-auth", help="Judge for everybody.")] = False,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    openapi: Annotated[Path | None, typer.Option(help="Write the OpenAPI document here, and stop.")] = None,
) -> None:
    """Serve the HTTP API."""
    require("serve", "fastapi", "uvicorn", "prometheus_client", "sqlalchemy", "cryptography")
    from fineline.server import run
    from fineline.server.settings import ServerSettings, overridden, read_settings

    settings = overridden(
        read_settings(config) if config else ServerSettings(),
        {
            "listen": {"host": host, "port": port},
            "engine": {"bundle": bundle and str(bundle), "policy": policy, "device": device},
            "auth": {"keys": keys and str(keys), "insecure_no_auth": insecure_no_auth or None},
            "tls": {"certificate": certificate and str(certificate), "key": key and str(key)},
        },
    )
    if openapi:
        run.write_openapi(settings, openapi)
    else:
        run.serve(settings)


@app.command()
def verify(bundle: BundleOption = None, device: Annotated[str, _DEVICE] = CPU) -> None:
    """Check a bundle's files, and that this machine computes its golden scores."""
    classifier = Classifier.load(bundle, device=device)
    worst = classifier.self_check()
    tolerance = classifier.bundle.meta.golden_tolerance
    typer.echo(
        f"{classifier.bundle.model_id}: files match, largest golden difference {worst:.4f} (tolerance {tolerance}) "
        f"on {classifier.engine.device}"
    )


def main() -> None:
    """Run the command; an error becomes one sentence with its code, and exit status 1."""
    try:
        app()
    except FinelineError as error:
        typer.echo(f"error [{error.code}]: {error.message}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
