"""``fineline labels new``: a team's own label, from a template to a file that training reads."""

from pathlib import Path
from typing import Annotated

import typer

from fineline.errors import ConfigError
from fineline.files import write_text

_NEXT = """\
{file} written. Next:
1. Fill it in, in English and Chinese: what is flagged, and the nearest texts that never are.
2. Import the rows you have labelled:
   fineline labels import FILE --store STORE --own-label {file} --licence LICENCE --basis BASIS
3. See what annotators are told, share out more rows, and see how far they agree:
   fineline labels guide STORE, fineline labels assign STORE, fineline labels agreement STORE
4. Go on from the shipped model, which keeps its labels:
   fineline train --from BUNDLE --labels STORE --own-label {file}"""


def new(
    label_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the label; one of ours to define that label anew.")
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; labels/ID.toml if not given.")] = None,
) -> None:
    """Write the file of an own label to fill in, and say what comes next."""
    from fineline_training.labels.template import own_label_template

    text = own_label_template(label_id)
    file = out or Path("labels") / f"{label_id.replace('/', '_')}.toml"
    if file.exists():
        raise ConfigError(
            "own_label_exists", f"{file}: is there already; fill that in, or name another file with --out."
        )
    write_text(file, text)
    typer.echo(_NEXT.format(file=file))
