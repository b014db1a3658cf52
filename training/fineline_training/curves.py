"""The learning curves of a fit as SVG: gain, what is kept, lawful text flagged.

Written by hand as the cards' figures are: the bytes depend on the numbers alone.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from fineline_training.watch import Check

_LEFT, _TOP, _WIDTH, _HEIGHT, _GAP = 56, 26, 420, 120, 46
_STYLE = """text{font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#8888;stroke-width:1;fill:none}
.line{stroke:#2f7ed8;fill:none;stroke-width:2}.in{fill:#2f7ed8}.out{fill:#e07b00}.kept{stroke:#2a9d4a;stroke-width:1.5}
@media (prefers-color-scheme:dark){text{fill:#ddd}}"""
_PANELS = {
    "gain": "average precision on the new rows' labels",
    "kept": "average precision on the labels before, original mixture",
    "lawful_flagged": "lawful text flagged, original mixture",
}


def _panel(top: float, name: str, checks: Sequence[Check], chosen: Check) -> list[str]:
    values = [float(getattr(check, name)) for check in checks]
    low, high = min(values), max(values)
    margin = max((high - low) * 0.1, 0.005)
    low, high = low - margin, high + margin
    last = max(check.done for check in checks) or 1.0

    def place(check: Check) -> tuple[float, float]:
        share = (float(getattr(check, name)) - low) / (high - low)
        return _LEFT + _WIDTH * check.done / last, top + _HEIGHT * (1 - share)

    parts = [
        f'<text x="{_LEFT}" y="{top - 8}">{escape(_PANELS[name])}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{_HEIGHT}" class="grid"/>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = top + _HEIGHT * (1 - share)
        parts.append(f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDTH}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{low + share * (high - low):.3f}</text>')
    x, _ = place(chosen)
    parts.append(f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + _HEIGHT}" class="kept"/>')
    path = " ".join("{:.1f},{:.1f}".format(*place(check)) for check in checks if check.share == 1)
    parts.append(f'<polyline points="{path}" class="line"/>')
    for check in checks:
        cx, cy = place(check)
        kind = "in" if check.within else "out"
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3" class="{kind}"/>')
    return parts


def draw_curves(checks: Sequence[Check], chosen: Check) -> str:
    """Three panels over the epochs trained; orange points are outside the gates, the green line is the state kept.

    Points beside the line are states between the bundle and the trained one.

    Args:
        checks: All checks in order, at least one.
        chosen: The one whose state was kept.
    """
    parts: list[str] = []
    for number, name in enumerate(_PANELS):
        parts += _panel(_TOP + number * (_HEIGHT + _GAP), name, checks, chosen)
    height = _TOP + len(_PANELS) * (_HEIGHT + _GAP) + 8
    last = max(check.done for check in checks)
    foot = f'<text x="{_LEFT + _WIDTH}" y="{height - 24}" text-anchor="end">epochs, 0 to {last:g}</text>'
    width = _LEFT + _WIDTH + 20
    alt = f"Learning curves over {len(checks)} checks; the state after {chosen.done:g} epochs was kept"
    alt += "." if chosen.share == 1 else f", {100 * chosen.share:g} % of the encoder's way."
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
    return "\n".join([head, f"<title>{escape(alt)}</title>", f"<style>{_STYLE}</style>", *parts, foot, "</svg>"]) + "\n"
