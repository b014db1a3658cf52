"""What a scan found: counts with intervals by label, language and source, corrected for the classifier's errors."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fineline import __version__
from fineline.errors import ConfigError, InputError
from fineline.policy import DEFAULT_POLICY, Action
from fineline.scan.decide import Rule, read_decided, read_manifest, read_rule
from fineline.scan.groups import Groups, flagged_matrix
from fineline.scan.intervals import Share, wilson
from fineline.scan.manifest import taxonomy_of
from fineline.scan.page import render
from fineline.scan.prevalence import ErrorRates, Estimate, corrected, read_error_rates
from fineline.scan.sheet import label_risks
from fineline.scan.store import Store
from fineline.taxonomy import load_taxonomy

SCHEMA = 1
SOURCE_LIMIT = 0.05
"""A source with a larger unlawful share is not to be used (GB/T 45654-2025; read in secondary sources)."""


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """Documents flagged with one label; ``risks`` are its entries in GB/T 45654-2025, Appendix A."""

    label: str
    name: str
    group: str
    risks: tuple[str, ...]
    flagged: Share


@dataclass(frozen=True, kw_only=True)
class GroupCount:
    """Documents of one language or source.

    Attributes:
        name: The language or source; ``None`` for documents that state none.
        flagged: Share with any label.
        labels: Documents by label, where there are any.
        estimate: Unlawful share corrected for the classifier's errors, if they were given.
        limit: Where the share flagged lies against ``SOURCE_LIMIT``: ``over``, ``within``, or ``unclear`` where the
            interval holds the limit. Sources only, like the next.
        limit_estimate: The same for the corrected share.
    """

    name: str | None
    flagged: Share
    labels: dict[str, int]
    estimate: Estimate | None = None
    limit: str | None = None
    limit_estimate: str | None = None


@dataclass(frozen=True, kw_only=True)
class ScanReport:
    """Content of ``report.json``.

    Attributes:
        rule: The rule behind the decisions.
        documents: Documents judged; exact duplicates count each time, as they do in training.
        rejected: Rows that held no document, by reason.
        flagged: Share of documents with any label.
        errors: The classifier's error rates on each set of the card that asks about all labels.
        estimates: Unlawful share of the corpus under each of them, by the labels that ship: no set knows a team's.
        measured_on: The set that corrects the sources.
    """

    schema: int
    fineline: str
    rule: Rule
    documents: int
    duplicates: int
    characters: int
    tokens: int
    rejected: dict[str, int]
    flagged: Share
    actions: dict[str, int]
    labels: tuple[LabelCount, ...]
    languages: tuple[GroupCount, ...]
    sources: tuple[GroupCount, ...]
    source_limit: float
    errors: tuple[ErrorRates, ...]
    estimates: tuple[Estimate, ...]
    measured_on: str | None


@dataclass(kw_only=True)
class _Tally:
    """Counts; behind the labels stands a column for any label that ships, which is what a card's error rates are of."""

    labels: tuple[str, ...]
    documents: int = 0
    duplicates: int = 0
    characters: int = 0
    tokens: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    languages: Groups
    sources: Groups

    def add(self, scores: pa.Table, decisions: pa.Table) -> None:
        once = pc.is_null(scores["duplicate_of"])
        self.documents += scores.num_rows
        self.duplicates += scores["duplicate_of"].length() - scores["duplicate_of"].null_count
        self.characters += pc.sum(scores["characters"]).as_py() or 0
        self.tokens += pc.sum(scores["tokens"].filter(once)).as_py() or 0
        self.actions.update(
            {entry["values"]: entry["counts"] for entry in decisions["action"].value_counts().to_pylist()}
        )
        hit = flagged_matrix(decisions, self.labels)
        shipped = [label in load_taxonomy().ids for label in self.labels]
        hit = np.column_stack([hit, hit[:, shipped].any(axis=1)])
        self.languages.add(scores["lang"], hit)
        self.sources.add(scores["source"], hit)


def _against_limit(low: float, high: float) -> str:
    return "over" if low > SOURCE_LIMIT else "within" if high <= SOURCE_LIMIT else "unclear"


def _groups(counted: Groups, labels: Sequence[str], rates: ErrorRates | None, *, limited: bool) -> Iterator[GroupCount]:
    """Groups, most documents first."""
    for name, place in sorted(counted.names.items(), key=lambda item: (-counted.counts[item[1], 0], item[0] or "")):
        documents, flagged, *by_label, shipped = map(int, counted.counts[place])
        share = wilson(flagged, documents)
        estimate = corrected(shipped, documents, rates) if rates else None
        yield GroupCount(
            name=name,
            flagged=share,
            labels={label: count for label, count in zip(labels, by_label, strict=True) if count},
            estimate=estimate,
            limit=_against_limit(share.low, share.high) if limited else None,
            limit_estimate=_against_limit(estimate.low, estimate.high) if limited and estimate else None,
        )


def _measured(errors: Sequence[ErrorRates], wanted: str | None) -> ErrorRates | None:
    if wanted is None:
        return errors[0] if errors else None
    found = next((rates for rates in errors if rates.name == wanted), None)
    if found is None:
        known = ", ".join(rates.name for rates in errors) or "none"
        raise ConfigError("card_report_set", f"The card measures no set of that name on all labels; it has: {known}.")
    return found


def make_report(
    output: str, *, decisions: str = DEFAULT_POLICY, card: Path | None = None, measured_on: str | None = None
) -> ScanReport:
    """Count a finished scan.

    Args:
        output: Output folder.
        decisions: Name of the decisions to report.
        card: ``report.json`` of the model's card; without it nothing is corrected for the classifier's errors.
        measured_on: Set of the card whose error rates correct the sources; its first if not given.

    Raises:
        InputError: There are no whole decisions of that name, or no document was judged.
        ConfigError: The card is about another model, policy or thresholds.
    """
    store = Store(output)
    manifest, rule = read_manifest(store), read_rule(store, decisions)
    if card is not None and rule.changed:
        raise ConfigError(
            "card_report_thresholds",
            f"The decisions '{decisions}' use changed thresholds, which the card did not measure; report without it.",
        )
    errors: tuple[ErrorRates, ...] = ()
    if card is not None:
        errors = read_error_rates(card, model=rule.model, files=manifest["bundle"]["files"], policy=rule.policy)
    rates = _measured(errors, measured_on)
    labels = tuple(rule.thresholds)
    tally = _Tally(labels=labels, languages=Groups(len(labels) + 1), sources=Groups(len(labels) + 1))
    for scores, decided in read_decided(store, rule):
        tally.add(scores, decided)
    if not tally.documents:
        raise InputError("report_empty", f"{output}: no document was judged, so there is nothing to report.")
    totals = tally.sources.counts.sum(axis=0)
    flagged = int(totals[1])
    taxonomy = taxonomy_of(manifest)
    return ScanReport(
        schema=SCHEMA,
        fineline=__version__,
        rule=rule,
        documents=tally.documents,
        duplicates=tally.duplicates,
        characters=tally.characters,
        tokens=tally.tokens,
        rejected=dict(Counter(entry["reason"] for entry in store.rejects()).most_common()),
        flagged=wilson(flagged, tally.documents),
        actions={str(action): tally.actions[str(action)] for action in Action},
        labels=tuple(
            LabelCount(
                label=label,
                name=taxonomy[label].name_en,
                group=taxonomy[label].group,
                risks=label_risks(taxonomy[label]),
                flagged=wilson(int(count), tally.documents),
            )
            for label, count in zip(labels, totals[2:-1], strict=True)
        ),
        languages=tuple(_groups(tally.languages, labels, rates, limited=False)),
        sources=tuple(_groups(tally.sources, labels, rates, limited=True)),
        source_limit=SOURCE_LIMIT,
        errors=errors,
        estimates=tuple(corrected(int(totals[-1]), tally.documents, each) for each in errors),
        measured_on=rates.name if rates else None,
    )


def write_report(
    output: str, *, decisions: str = DEFAULT_POLICY, card: Path | None = None, measured_on: str | None = None
) -> ScanReport:
    """Count a finished scan and write ``report.json`` and ``report.html``; arguments and errors as ``make_report``."""
    report, store = make_report(output, decisions=decisions, card=card, measured_on=measured_on), Store(output)
    content: dict[str, Any] = asdict(report)
    store.put("report.json", (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace"))
    store.put("report.html", render(report, read_manifest(store)).encode("utf-8", "replace"))
    return report
