"""Figures that other authors published, with their sources."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml

_FILE = Path(__file__).with_name("published.toml")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published figure.

    Attributes:
        suite: Id of our suite on the same data.
        metric: Name of the metric.
        model: Whose it is.
        value: Share or score, 0 to 1.
        source: Where it was read.
    """

    suite: str
    metric: str
    model: str
    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class _Figures:
    figure: tuple[Published, ...]


@cache
def _figures() -> tuple[Published, ...]:
    return build(_Figures, read_toml(_FILE), _FILE.name).figure


def published_figures(suite: str) -> tuple[Published, ...]:
    """Figures for one suite."""
    return tuple(figure for figure in _figures() if figure.suite == suite)
