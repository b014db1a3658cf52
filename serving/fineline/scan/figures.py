"""Figures of a scan's report as SVG inside the page: no script, no font and no file from elsewhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_LEFT, _PLOT, _RIGHT, _ROW, _TOP = 230, 430, 190, 22, 26
_NAME_CHARACTERS = 32
_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One line of a figure: a share between 0 and 1 with its interval."""

    name: str
    value: float
    low: float
    high: float
    marked: bool = False


def percent(share: float) -> str:
    """A share for people: two significant digits below 1 %, so that rare things do not read as none."""
    hundred = 100 * share
    if hundred == 0 or hundred >= 0.995:
        return f"{hundred:.2f} %"
    return f"{hundred:.{1 - math.floor(math.log10(hundred))}f} %"


def _scale(highest: float) -> tuple[float, float]:
    """End of the axis and the step of its grid, both round numbers."""
    step = max(highest, 1e-9) / 5
    power = 10 ** math.floor(math.log10(step))
    step = next(factor for factor in _STEPS if factor * power >= step * 0.999) * power
    return step * math.ceil(max(highest, 1e-9) / step - 1e-9), step


def bars(title: str, rows: Sequence[Bar], *, limit: float | None = None) -> str:
    """Horizontal bars with whiskers.

    Args:
        title: What the figure shows, for people who do not see it.
        rows: At least one.
        limit: A bound drawn as a line.
    """
    end, step = _scale(max([row.high for row in rows] + [limit or 0.0]))
    height = _TOP + _ROW * len(rows) + 12

    def x(share: float) -> float:
        return _LEFT + _PLOT * min(share, end) / end

    parts = []
    for i in range(round(end / step) + 1):
        at = x(i * step)
        parts.append(f'<line class="grid" x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{height - 8}"/>')
        parts.append(f'<text x="{at:.1f}" y="{_TOP - 8}" text-anchor="middle">{100 * i * step:g} %</text>')
    for i, row in enumerate(rows):
        top = _TOP + _ROW * i
        middle = top + _ROW / 2
        name = row.name if len(row.name) <= _NAME_CHARACTERS else row.name[: _NAME_CHARACTERS - 1] + "…"
        kind = "bar over" if row.marked else "bar"
        told = f"{percent(row.value)} ({percent(row.low)} to {percent(row.high)})"
        parts += [
            f'<text x="{_LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{kind}" x="{_LEFT}" y="{top + 5}" width="{x(row.value) - _LEFT:.1f}" height="{_ROW - 10}"/>',
            f'<line class="whisker" x1="{x(row.low):.1f}" y1="{middle}" x2="{x(row.high):.1f}" y2="{middle}"/>',
            f'<text class="told" x="{_LEFT + _PLOT + 8}" y="{middle + 4:.1f}">{told}</text>',
        ]
    if limit is not None:
        parts.append(f'<line class="limit" x1="{x(limit):.1f}" y1="{_TOP}" x2="{x(limit):.1f}" y2="{height - 8}"/>')
    size = f'viewBox="0 0 {_LEFT + _PLOT + _RIGHT} {height}" width="{_LEFT + _PLOT + _RIGHT}"'
    return f'<svg {size} role="img"><title>{escape(title)}</title>{"".join(parts)}</svg>'
