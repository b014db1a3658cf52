"""``fineline card``: render the model card, and the README's results, from a report."""

from pathlib import Path
from typing import Annotated

import typer

from fineline.extras import require

app = typer.Typer()


@app.command()
def run(
    report: Annotated[Path, typer.Argument(help="report.json of 'fineline eval'.")],
    out: Annotated[Path, typer.Option(help="Card to write.")],
    readme: Annotated[Path | None, typer.Option(help="README whose results block is rendered anew.")] = None,
) -> None:
    """Render a model card from a report; no number in it is typed by hand."""
    require("eval", "sklearn", "huggingface_hub", "pyarrow", "yaml")
    from fineline.files import write_text
    from fineline_eval.card import FIGURES, draw_figures, render_card
    from fineline_eval.report import read_report
    from fineline_eval.summary import replace_results

    loaded = read_report(report)
    # All is rendered before anything is written: a report that cannot be shown leaves the old card whole.
    card, figures = render_card(loaded), draw_figures(loaded)
    block = replace_results(readme.read_text(encoding="utf-8"), loaded) if readme is not None else ""
    for figure in figures:
        write_text(out.parent / FIGURES / figure.name, figure.svg)
    write_text(out, card)
    typer.echo(f"card written: {out}")
    if readme is not None:
        write_text(readme, block)
        typer.echo(f"results written: {readme}")
