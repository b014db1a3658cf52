"""Figures of a card as SVG, drawn from a report.

Written by hand rather than by a plotting library: the bytes depend on the numbers alone, so a test can hold the figures
to their report, and a style sheet inside lets text follow a reader's light or dark background.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from fineline_eval.metrics import Metric
from fineline_eval.report import Report

_STYLE = """text{font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#8888;stroke-width:1;fill:none}
.main{stroke:#2f7ed8;fill:none;stroke-width:2}.dot{fill:#2f7ed8}.bar{fill:#2f7ed8;fill-opacity:.75}
.whisker{stroke:#e07b00;stroke-width:1.5}.cell{fill:#2f7ed8}.bad{fill:#e07b00}
@media (prefers-color-scheme:dark){text{fill:#ddd}}"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure.

    Attributes:
        name: File name.
        alt: What it shows, for people who do not see it.
        svg: The drawing.
    """

    name: str
    alt: str
    svg: str


def _text(x: float, y: float, content: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str, opacity: float = 1.0) -> str:
    shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {shape} class="{kind}" opacity="{opacity:.3f}"/>'


def _figure(name: str, alt: str, width: int, height: int, parts: Sequence[str]) -> Figure:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
    body = "\n".join([head, f"<title>{escape(alt)}</title>", f"<style>{_STYLE}</style>", *parts, "</svg>"])
    return Figure(name=name, alt=alt, svg=body + "\n")


def _plane(xlabel: str, ylabel: str, ymax: float) -> tuple[list[str], Callable[[float, float], tuple[float, float]]]:
    """Axes from 0 to 1 and from 0 to ``ymax``, and the map from values to places."""
    left, top, width, height = 60, 20, 400, 300

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * x, top + height * (1 - y / ymax)

    parts = [f'<rect x="{left}" y="{top}" width="{width}" height="{height}" class="grid"/>']
    for step in range(6):
        share = step / 5
        x, y = place(share, share * ymax)
        parts += [_line(x, top, x, top + height, "grid"), _line(left, y, left + width, y, "grid")]
        parts += [_text(x, top + height + 18, f"{share:.1f}", "middle")]
        parts += [_text(left - 6, y + 4, f"{share * ymax:.2f}", "end")]
    parts += [_text(left + width / 2, top + height + 38, xlabel, "middle"), _text(left, top - 7, ylabel)]
    return parts, place


def _curve(points: Sequence[tuple[float, float]]) -> list[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return [f'<polyline points="{path}" class="main"/>'] + [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" class="dot"/>' for x, y in points
    ]


def _reliability(report: Report) -> Figure:
    overall = report.reliability.overall
    parts, place = _plane("predicted probability", "observed share", 1)
    parts.append(_line(*place(0, 0), *place(1, 1), "whisker"))
    parts += _curve([place(part.predicted, part.observed) for part in overall.bins])
    alt = (
        f"Reliability over {overall.n:,} judgements: observed share against predicted probability in "
        f"{len(overall.bins)} bins, with the diagonal of perfect calibration."
    )
    return _figure("reliability.svg", alt, 480, 370, parts)


def _risk_coverage(report: Report) -> Figure:
    curve = report.reliability.curve
    highest = max(point.risk.high for point in curve) or 1
    parts, place = _plane("coverage, surest rows first", "share of wrong verdicts", highest)
    parts += [
        _line(*place(point.coverage, point.risk.low), *place(point.coverage, point.risk.high), "whisker")
        for point in curve
    ]
    parts += _curve([place(point.coverage, point.risk.value) for point in curve])
    alt = (
        f"Risk by coverage: share of wrong verdicts among the surest rows, {curve[-1].risk.value:.3f} over all of them."
    )
    return _figure("risk_coverage.svg", alt, 480, 370, parts)


def _heat_map(report: Report) -> Figure:
    langs = report.authored.langs
    names = ("lawful flagged", "recall", "macro-F1", "pairs right")
    parts = [_text(70 + 110 * i + 55, 18, name, "middle") for i, name in enumerate(names)]
    for row, lang in enumerate(langs):
        y = 28 + 24 * row
        parts.append(_text(60, y + 16, lang.lang, "end"))
        for column, metric in enumerate((lang.lawful_flagged, lang.recall, lang.macro_f1, lang.pairs_right)):
            x, defined = 70 + 110 * column, metric.value == metric.value
            kind = "bad" if column == 0 else "cell"
            parts.append(_rect(x, y, 108, 22, kind, 0.6 * metric.value if defined else 0))
            parts.append(_text(x + 54, y + 16, f"{100 * metric.value:.1f}" if defined else "-", "middle"))
    alt = f"Heat map of {len(langs)} languages on the held-back authored frames, in percent: {', '.join(names)}."
    return _figure("languages.svg", alt, 520, 40 + 24 * len(langs), parts)


def _bars(title: str, rows: Sequence[tuple[str, Metric]], top: float, scale: float) -> list[str]:
    parts = [_text(10, top, title)]
    for index, (name, metric) in enumerate(rows):
        y = top + 8 + 20 * index
        parts.append(_text(140, y + 13, name, "end"))
        if metric.value == metric.value:
            parts.append(_rect(148, y + 2, 300 * metric.value / scale, 14, "bar"))
            parts.append(_text(510, y + 13, f"{100 * metric.value:.1f} (n={metric.n:,})", "end"))
        if metric.low == metric.low:
            low, high = (148 + 300 * end / scale for end in (metric.low, metric.high))
            parts.append(_line(low, y + 9, high, y + 9, "whisker"))
    return parts


def _false_positives(report: Report) -> Figure:
    langs = [(row.lang, row.lawful_flagged) for row in report.authored.langs]
    acts = [(row.act, row.lawful_flagged) for row in report.authored.acts]
    ends = [metric.high for _, metric in (*langs, *acts) if metric.high == metric.high]
    # Bars share a scale, so that the two panels can be compared; whiskers beyond it would leave the picture.
    scale = max([*ends, 0.01]) * 1.25
    second = 20 + 20 * len(langs) + 40
    parts = _bars("lawful text flagged by language, %", langs, 20, scale)
    parts += _bars("lawful text flagged by act, %", acts, second, scale)
    alt = f"Share of lawful authored text flagged in {len(langs)} languages and {len(acts)} acts, with 95 % intervals."
    return _figure("false_positives.svg", alt, 520, second + 20 * len(acts) + 20, parts)


def draw_figures(report: Report) -> tuple[Figure, ...]:
    """All figures of a report's card."""
    return (_false_positives(report), _heat_map(report), _reliability(report), _risk_coverage(report))
