"""A composition as tables of at most 100 columns."""

from collections.abc import Callable, Mapping

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.table import Table

from fineline_training.composition import FRAME_LIMIT, Corpus, Rows, Tally, Variety


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _tallies(title: str, tallies: Mapping[str, Tally]) -> Table:
    table = _table(title, "flagged", "lawful")
    for name, tally in tallies.items():
        table.add_row(name, f"{tally.flagged:,}", f"{tally.lawful:,}")
    return table


def row_tables(rows: Rows) -> Columns:
    """Training rows in all, and by label, language, act, register and source."""
    return Columns(
        [
            _tallies("Rows by label", {**rows.labels, "all rows": rows.all}),
            _tallies("Rows by language", rows.languages),
            _tallies("Rows by act", rows.acts),
            _tallies("Rows by register", rows.registers),
            _tallies("Rows by source", rows.sources),
        ]
    )


def _similarity(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}".removeprefix("0")


def _varieties(title: str, parts: Mapping[str, Variety], limit: float = 1.0) -> Table:
    columns = ("flagged", "lawful", "frames", "in pairs", "biggest", "answers", "context", "similarity")
    table = _table(title, *columns)
    for name, part in parts.items():
        biggest = f"{part.biggest:.1%}"
        table.add_row(
            name,
            f"{part.flagged:,}",
            f"{part.lawful:,}",
            f"{part.frames:,}",
            f"{part.paired:.0%}",
            f"[red]{biggest}[/]" if part.biggest > limit else biggest,
            f"{part.answers:.0%}",
            f"{part.context:.0%}",
            _similarity(part.similarity),
        )
    return table


def _cells(title: str, corpus: Corpus, shown: Callable[[Variety], str]) -> Table:
    table = _table(title, *corpus.languages)
    for label, by_lang in corpus.cells.items():
        table.add_row(label, *(shown(by_lang[lang]) if lang in by_lang else "-" for lang in corpus.languages))
    return table


def corpus_tables(corpus: Corpus) -> list[Table]:
    """Variety of the authored corpus by label, by language, and in each label and language."""
    nearest = "Similarity to the nearest frame outside the group"
    return [
        _varieties(f"Authored corpus by label (biggest frame {FRAME_LIMIT:.0%} at most)", corpus.labels, FRAME_LIMIT),
        _varieties("Authored corpus by language", corpus.languages),
        _cells("Distinct frames by label and language", corpus, lambda part: str(part.frames)),
        _cells(nearest, corpus, lambda part: _similarity(part.similarity)),
    ]
