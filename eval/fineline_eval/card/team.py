"""The section of a card that a bundle has whose training went on from another one with a team's rows."""

from typing import Any

from fineline_eval.card.results import marked
from fineline_eval.metrics import Metric
from fineline_eval.report import Report, reading_manifest
from fineline_eval.summary import markdown_table, number
from fineline_eval.team import LabelScores

_HEADER = (
    "label", "n", "positives", "AP before", "AP", "change", "precision", "recall", "F1 before", "F1", "others flagged",
)  # fmt: skip
_ABOUT = """\
Training went on from `{start}` with {rows:,} rows of a team, in {langs} languages. {held:,} of them were held back from
training, from the choice of the state that was kept and from thresholds; they share their source with the others. Where
the earlier bundle did not have a label, there is nothing before. Others flagged: share of rows known not to have the
label."""
_ELSEWHERE = """\
Lawful held-back authored text that added labels flag (they may be right: nobody labelled it for them): {shares}."""


def _row(
    label: str, n: int, positives: int, now: LabelScores, then: LabelScores | None, gain: Metric | None
) -> list[str]:
    return [
        f"`{label}`",
        f"{n:,}",
        f"{positives:,}",
        marked(then.average_precision) if then else "-",
        marked(now.average_precision),
        marked(gain) if gain else "-",
        marked(now.precision),
        marked(now.recall),
        marked(then.f1) if then else "-",
        marked(now.f1),
        marked(now.lawful_flagged),
    ]


def team_section(report: Report) -> list[str]:
    """What the team's held-back rows say, and where its rows came from; empty for other bundles."""
    found = report.team
    manifest: Any = report.manifest
    if found is None or "team" not in manifest:
        return []
    with reading_manifest():
        start, rows = manifest["start"]["model"], manifest["team"]
        imports = [
            (entry["import"], entry.get("licence", "-"), entry.get("basis", "-"), f"{entry['new']:,}")
            for entry in rows["imports"]
        ]
        about = _ABOUT.format(start=start, rows=rows["rows"], langs=len(rows["languages"]), held=found.n)
    table = [_row(one.label, one.n, one.positives, one.after, one.before, one.gain) for one in found.labels]
    shares = ", ".join(f"`{label}` {number(metric.value)} %" for label, metric in found.elsewhere.items())
    return [
        about,
        markdown_table(_HEADER, table),
        *([_ELSEWHERE.format(shares=shares)] if shares else []),
        markdown_table(("import", "licence", "legal basis", "new rows"), imports),
    ]
