"""Numbered failure modes: what goes wrong, how often, and a neutral example of the kind of text."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline_eval.card.results import marked
from fineline_eval.gates import load_gates
from fineline_eval.measures import report_measures
from fineline_eval.metrics import SMALL_CELL
from fineline_eval.report import Report

_FILE = Path(__file__).with_name("failure_modes.toml")


@dataclass(frozen=True, kw_only=True)
class FailureMode:
    """One failure mode.

    Attributes:
        title: What goes wrong.
        measure: Measure of the report that counts it; ``*`` stands for any characters, and the worst match is shown.
        example: A neutral example of the kind of text; none where the worst match may be of any kind.
    """

    title: str
    measure: str
    example: str = ""


@dataclass(frozen=True, kw_only=True)
class _Modes:
    mode: tuple[FailureMode, ...]


@cache
def load_failure_modes() -> tuple[FailureMode, ...]:
    """All failure modes, in the card's order."""
    return build(_Modes, read_toml(_FILE), _FILE.name).mode


def failure_modes(report: Report) -> list[str]:
    """The numbered list with rates from the report; a mode whose measure is absent says so."""
    measures, gates = report_measures(report), load_gates()
    lines = []
    for index, mode in enumerate(load_failure_modes(), 1):
        sign = 1 if gates.is_lower_better(mode.measure) else -1
        matching = [
            (sign * metric.value, name, metric)
            for name, metric in measures.items()
            if fnmatchcase(name, mode.measure) and metric.value == metric.value
        ]
        # The worst of many small cells would be chance.
        found = [row for row in matching if row[2].n >= SMALL_CELL] or matching
        rate = "not measured"
        if found:
            _, name, metric = max(found, key=lambda item: item[0])
            rate = f"`{name}` {marked(metric)}, n = {metric.n:,}"
        such = f" Such as: “{mode.example}”" if mode.example else ""
        lines.append(f"{index}. **{mode.title}.** {rate}.{such}")
    return ["\n".join(lines)]
