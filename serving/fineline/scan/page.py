"""The report as one HTML page that needs nothing from elsewhere; every name in it comes from users and is escaped."""

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from fineline.scan.figures import Bar, bars, percent
from fineline.scan.prevalence import Estimate, Rate
from fineline.taxonomy import load_taxonomy

if TYPE_CHECKING:
    from fineline.scan.intervals import Share
    from fineline.scan.report import GroupCount, ScanReport

_TEMPLATE = Path(__file__).with_name("report.html")
_SHOWN = 40
"""Rows of a table or figure; ``report.json`` has all."""
_NOT_STATED = "(not stated)"

_READING = """Flagged means that the classifier nominates a document for a label; it is no finding that the document is
unlawful, which a text alone cannot settle. The labels are made for the 17 risks of GB/T 45654-2025, Appendix A.1 and
A.2, and for parts of A.4; A.3 (commercial violations) and A.5 (fitness for special services) are not judged. Intervals
are at 95 % and take the documents as a sample of what their source holds."""
_LIMIT = """The standard has a source left out if more than {limit} of it is illegal or unhealthy information (read in
secondary sources). 'Over' and 'within' mean that the whole interval is; 'unclear' that the interval holds the limit."""
_ERRORS = """The share flagged is not the share that is unlawful: the classifier misses some and flags some in error.
The corrected share is (flagged + specificity - 1) / (sensitivity + specificity - 1), cut to 0 to 100 % (Rogan and
Gladen 1978); its interval redraws all three shares. It holds as far as the corpus resembles the set that the error was
measured on, so it is given for every set of the card that asks about all labels. The authored texts are minimal pairs,
lawful texts as close to unlawful ones as can be written, and thresholds were chosen on them: ordinary text is flagged
in error less often."""
_BELOW = """Where it says 'below false alarms', a smaller share of the documents was flagged than of the set's lawful
texts. The set is then harder than the documents, and 0 is no measurement: draw and review a sample."""

_OWN = "No set of the card knows {labels}, so a document that nothing else flags counts as not flagged here."


def _paragraph(text: str) -> str:
    return f'<p class="dim">{escape(text)}</p>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> str:
    """A table whose last ``numbers`` columns hold numbers."""

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = [""] * (len(cells) - numbers) + ["n"] * numbers
        return "".join(
            f'<{tag} class="{f"{kind} over" if cell == "over" else kind}">{escape(cell)}</{tag}>'
            for cell, kind in zip(cells, kinds, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{line('th', head)}</tr></thead><tbody>{body}</tbody></table>"


def _with_interval(share: "Share | Rate | Estimate") -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def _figure(title: str, rows: Sequence[Bar], *, limit: float | None = None) -> str:
    return f'<div class="figure">{bars(title, rows[:_SHOWN], limit=limit)}</div>' if rows else ""


def _bar(name: str, share: "Share | Estimate", *, marked: bool = False) -> Bar:
    return Bar(name=name, value=share.value, low=share.low, high=share.high, marked=marked)


def _tiles(report: "ScanReport") -> str:
    rejected = sum(report.rejected.values())
    tiles = (
        ("documents", f"{report.documents:,}"),
        ("flagged", f"{report.flagged.hits:,}"),
        ("share flagged", percent(report.flagged.value)),
        *((action, f"{count:,}") for action, count in report.actions.items()),
        ("exact duplicates", f"{report.duplicates:,}"),
        ("rows not judged", f"{rejected:,}"),
        ("tokens read", f"{report.tokens:,}"),
    )
    return "<dl>" + "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in tiles) + "</dl>"


def _labels(report: "ScanReport") -> Iterator[str]:
    yield "<h2>Labels</h2>"
    found = sorted((entry for entry in report.labels if entry.flagged.hits), key=lambda entry: -entry.flagged.value)
    yield _figure("Share of documents flagged, by label", [_bar(entry.label, entry.flagged) for entry in found])
    rows = [
        (entry.label, entry.name, ", ".join(entry.risks), f"{entry.flagged.hits:,}", _with_interval(entry.flagged))
        for entry in report.labels
    ]
    yield _table(("label", "name", "risk in Appendix A", "documents", "share"), rows, numbers=2)


def _group_row(group: "GroupCount") -> tuple[str, ...]:
    most = sorted(group.labels.items(), key=lambda item: -item[1])[:3]
    return (
        _NOT_STATED if group.name is None else group.name,
        ", ".join(f"{label} {count:,}" for label, count in most) or "-",
        f"{group.flagged.n:,}",
        f"{group.flagged.hits:,}",
        _with_interval(group.flagged),
    )


def _languages(report: "ScanReport") -> Iterator[str]:
    yield "<h2>Languages</h2>"
    shown = report.languages[:_SHOWN]
    yield _figure("Share flagged, by language", [_bar(group.name or _NOT_STATED, group.flagged) for group in shown])
    yield _table(
        ("language", "most frequent labels", "documents", "flagged", "share"), [_group_row(g) for g in shown], numbers=3
    )
    yield from _more(len(report.languages))


def _sources(report: "ScanReport") -> Iterator[str]:
    limit = percent(report.source_limit)
    yield f"<h2>Sources against the limit of {limit}</h2>"
    yield _paragraph(_LIMIT.format(limit=limit))
    states = [group.limit for group in report.sources]
    yield "<p>" + ", ".join(f"{states.count(state)} {state}" for state in ("over", "unclear", "within")) + ".</p>"
    shown = sorted(report.sources, key=lambda group: -group.flagged.value)[:_SHOWN]
    figure = [_bar(g.name or _NOT_STATED, g.flagged, marked=g.limit == "over") for g in shown]
    yield _figure("Share flagged, by source, against the limit", figure, limit=report.source_limit)
    head = ["source", "most frequent labels", "documents", "flagged", "share", "limit"]
    rows = [[*_group_row(group), group.limit or ""] for group in shown]
    if report.measured_on:
        head += ["corrected share", "limit"]
        for row, group in zip(rows, shown, strict=True):
            row += [_corrected(group.estimate) if group.estimate else "", group.limit_estimate or ""]
    yield _table(head, rows, numbers=len(head) - 2)
    yield from _more(len(report.sources))


def _corrected(estimate: Estimate) -> str:
    return _with_interval(estimate) + (", below false alarms" if estimate.below_false_alarms else "")


def _errors(report: "ScanReport") -> Iterator[str]:
    yield "<h2>Corrected for the classifier's errors</h2>"
    if not report.errors:
        yield _paragraph("Not corrected: no report of the model's card was given.")
        return
    yield _paragraph(_ERRORS)
    yield _paragraph(_BELOW)
    if own := [entry.label for entry in report.labels if entry.label not in load_taxonomy().ids]:
        yield _paragraph(_OWN.format(labels=", ".join(own)))
    pairs = list(zip(report.errors, report.estimates, strict=True))
    figure = [_bar("flagged", report.flagged), *(_bar(rates.title, estimate) for rates, estimate in pairs)]
    yield _figure("Share flagged, and unlawful share by the error rates of each set", figure)
    rows = [
        (
            rates.title,
            f"{rates.n:,}",
            _with_interval(rates.sensitivity),
            _with_interval(rates.specificity),
            _corrected(e),
        )
        for rates, e in pairs
    ]
    yield _table(("measured on", "texts", "sensitivity", "specificity", "corrected share"), rows, numbers=4)


def _more(count: int) -> Iterator[str]:
    if count > _SHOWN:
        yield _paragraph(f"{_SHOWN} of {count:,} are shown; report.json has all.")


def _record(report: "ScanReport", manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Rows not judged</h2>"
    rejected = [(reason, f"{count:,}") for reason, count in list(report.rejected.items())[:_SHOWN]]
    yield _table(("reason", "rows"), rejected, numbers=1) if rejected else _paragraph("None.")
    yield "<h2>Record</h2>"
    changed = ", ".join(f"{label} {report.rule.thresholds[label]:g}" for label in report.rule.changed)
    rows = [
        ("model", report.rule.model),
        ("taxonomy", report.rule.taxonomy),
        ("policy", report.rule.policy),
        ("thresholds changed", changed or "none"),
        ("rule", f"sha256 {report.rule.digest}"),
        *((key, _plain(value)) for key, value in manifest.items()),
    ]
    yield _table(("entry", "value"), rows)


def _plain(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 2000 else text[:2000] + "… (manifest.json has all)"


def render(report: "ScanReport", manifest: Mapping[str, Any]) -> str:
    """The page of a report; ``manifest`` is shown as the record of the scan."""
    body = (
        _tiles(report),
        _paragraph(_READING),
        *_labels(report),
        *_languages(report),
        *_sources(report),
        *_errors(report),
        *_record(report, manifest),
    )
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title="Report of a corpus scan",
        subtitle=escape(f"{report.rule.model}, decisions '{report.rule.name}', Fineline {report.fineline}"),
        body="\n".join(body),
    )
