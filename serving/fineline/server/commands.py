"""``fineline keys`` and ``fineline feedback``: what a server's operator does beside the server."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fineline.errors import ConfigError, InputError
from fineline.extras import require
from fineline.files import replacing
from fineline.server.keys import Scope, new_key, read_keys, write_keys

if TYPE_CHECKING:
    from fineline.server.feedback import FeedbackStore
    from fineline.server.feedback_settings import FeedbackSettings

keys_app = typer.Typer(
    help="API keys of the server; the file holds hashes, a key is shown once.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
feedback_app = typer.Typer(
    help="Appeals against verdicts, as the server's settings say where they are kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
KeysFile = Annotated[Path, typer.Option("--file", help="The file of keys; made if it is not there.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The server's settings; its section [feedback] is read.")
]
_DEFAULT = Path("fineline-keys.toml")


@keys_app.command()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; stands in logs.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be repeated.")],
    file: KeysFile = _DEFAULT,
    requests: Annotated[int | None, typer.Option(help="Most requests a minute.")] = None,
    characters: Annotated[int | None, typer.Option(help="Most characters to judge a minute.")] = None,
    days: Annotated[int | None, typer.Option(help="Days until it expires; never if not given.", min=1)] = None,
) -> None:
    """Make a key, print it once, and add its hash to the file. A running server reads the file again on SIGHUP."""
    there = read_keys(file) if file.exists() else ()
    expires = datetime.now(UTC) + timedelta(days=days) if days else None
    secret, key = new_key(name, scope, requests_per_minute=requests, characters_per_minute=characters, expires=expires)
    write_keys(file, [*there, key])
    typer.echo(secret)
    typer.echo(f"'{name}' is in {file}; this key is shown only now.", err=True)


@keys_app.command(name="list")
def list_command(file: KeysFile = _DEFAULT) -> None:
    """Print names, scopes, limits and expiry."""
    for key in read_keys(file):
        limits = {"requests": key.requests_per_minute, "characters": key.characters_per_minute}
        shown = [f"{value} {what} a minute" for what, value in limits.items() if value]
        until = [f"until {key.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"] if key.expires else []
        typer.echo("  ".join([key.name, ",".join(key.scopes), *shown, *until]))


@keys_app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name of the key.")], file: KeysFile = _DEFAULT) -> None:
    """Take a key out of the file. A running server reads the file again on SIGHUP."""
    there = read_keys(file)
    left = [key for key in there if key.name != name]
    if len(left) == len(there):
        raise InputError("keys_unknown", f"{file}: no key of that name; 'fineline keys list' shows them.")
    write_keys(file, left)
    typer.echo(f"'{name}' is out of {file}", err=True)


@keys_app.command()
def secret(path: Annotated[Path, typer.Argument(help="File to make, readable by its owner only.")]) -> None:
    """Make a secret, for [feedback] secret_file or key_file. To change one, put the new line above the old ones."""
    require("serve", "cryptography", "fastapi")
    from fineline.server.sealing import write_secret

    write_secret(path)
    typer.echo(f"a new secret is in {path}", err=True)


@contextmanager
def _store(config: Path | None) -> "Iterator[tuple[FeedbackSettings, FeedbackStore]]":
    require("serve", "sqlalchemy", "cryptography", "fastapi")
    from fineline.server.feedback import FeedbackStore
    from fineline.server.feedback_settings import FeedbackSettings, read_feedback_settings

    settings = read_feedback_settings(config) if config else FeedbackSettings()
    with closing(FeedbackStore.open(settings)) as store:
        if not store.exists:
            raise ConfigError("feedback_missing", "There is no feedback database there; name the server's --config.")
        yield settings, store


@feedback_app.command()
def purge(config: ConfigOption = None) -> None:
    """Delete the appeals whose retention time is over, as a running server does every hour."""
    with _store(config) as (_, store):
        typer.echo(f"{store.purge()} appeals deleted", err=True)


@feedback_app.command()
def delete(
    appeal: Annotated[str, typer.Argument(help="Id of the appeal.")],
    config: ConfigOption = None,
) -> None:
    """Delete one appeal with everything stored of it."""
    with _store(config) as (_, store):
        store.delete(appeal)
    typer.echo("1 appeal deleted", err=True)


@feedback_app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="JSONL to write; it holds users' texts.")],
    config: ConfigOption = None,
) -> None:
    """Write the settled appeals with a text as training rows: text, context, labels, known, lang."""
    written = left_out = 0
    with _store(config) as (settings, store), replacing(out) as file:
        from fineline.server.desk import training_row
        from fineline.server.sealing import Sealer

        sealer = Sealer.open(settings)
        for appeal in store.every(["upheld", "rejected"]):
            row = training_row(appeal, sealer.unseal(appeal.form, appeal.content))
            if row:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            written, left_out = written + bool(row), left_out + (not row)
    typer.echo(f"{written} rows in {out}, {left_out} settled appeals without a text or labels", err=True)
