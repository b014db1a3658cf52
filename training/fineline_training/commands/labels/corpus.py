"""``fineline labels corpus-sample`` and ``corpus-agreement``: labelling a sample of the corpus anew by two people."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fineline.extras import require
from fineline.files import write_text


def sample(
    out: Annotated[Path, typer.Argument(help="Sheet to write (JSONL), without acts and labels.")],
    per_label: Annotated[int, typer.Option(help="Items a label, half flagged and half lawful.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 7,
) -> None:
    """Draw corpus items for annotators who have not seen the writers' labels."""
    require("train", "yaml", "krippendorff")
    from fineline_training.agreement import draw_sample, write_sheet
    from fineline_training.corpus import load_corpus

    items = draw_sample(load_corpus(), per_label, seed)
    write_sheet(items, out)
    Console().print(f"{len(items)} items in {out}")


def agreement(
    first: Annotated[Path, typer.Argument(help="One annotator's labels (JSONL with id and labels).")],
    second: Annotated[Path, typer.Argument(help="The other annotator's.")],
    out: Annotated[Path | None, typer.Option("--out", help="Also write the table as Markdown.")] = None,
    show: Annotated[int, typer.Option(help="Ids to print of items on which passes and corpus differ.")] = 0,
) -> None:
    """Print Krippendorff's alpha a label, and how often both agree with the corpus."""
    require("train", "yaml", "krippendorff")
    from fineline_training import agreement as logic
    from fineline_training.corpus import load_corpus

    corpus = logic.corpus_labels(load_corpus())
    one, other = logic.read_pass(first), logic.read_pass(second)
    results = logic.agreement(one, other, corpus)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in logic.AGREEMENT_COLUMNS:
        table.add_column(column, justify="left" if column == "label" else "right", no_wrap=True)
    for row in results:
        table.add_row(*row.cells())
    Console().print(table)
    if out:
        write_text(out, logic.as_markdown(results))
    for key in logic.differences(one, other, corpus)[:show]:
        typer.echo(f"{key}: {' / '.join(','.join(sorted(p[key])) or 'lawful' for p in (one, other, corpus))}")
