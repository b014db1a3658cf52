"""A filled review sheet to the pass rates that GB/T 45654-2025 asks of a corpus."""

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec

from fineline.errors import InputError
from fineline.extras import require
from fineline.own_labels import own_label
from fineline.scan.figures import percent
from fineline.scan.intervals import Share, clopper_pearson
from fineline.scan.sample import DRAWN, SCHEMA, SHARE, SIZE, review_sample
from fineline.scan.sheet import RISKS, Judgement, read_sheet
from fineline.taxonomy import Taxonomy, load_taxonomy

__all__ = ["Assessment", "Criterion", "assess", "review_sample", "told"]

MANUAL_PASS, TECHNICAL_PASS = 0.96, 0.98
"""Least pass rates of a corpus's manual and technical samples (GB/T 45654-2025; read in secondary sources)."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One of the standard's bounds.

    Attributes:
        passed: Share of the sample that passes, with its exact interval.
        required: Least share.
        enough: Whether the sample has the size that the standard recommends.
        met: Whether the share reaches the bound.
        surely: Whether the whole interval does.
    """

    passed: Share
    required: float
    enough: bool
    met: bool
    surely: bool


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Result of a filled sheet.

    Attributes:
        documents: Documents of the corpus.
        manual: The reviewers' sample.
        technical: The classifier's sample; a document passes if nothing is flagged.
        sources: Reviewers' pass rate by source; an empty name stands for documents that state none.
        technical_sources: The same for the technical sample.
        risks: Share of the reviewers' sample that fails by a risk of Appendix A, or by a team's label that comes from
            none; those that were found only.
        reviewers: Rows by reviewer.
        sensitivity: Share of the failing rows that the classifier flagged; ``None`` where none fails.
        specificity: Share of the passing rows that it did not flag; ``None`` where none passes.
    """

    documents: int
    manual: Criterion
    technical: Criterion
    sources: dict[str, Share]
    technical_sources: dict[str, Share]
    risks: dict[str, Share]
    reviewers: dict[str, int]
    sensitivity: Share | None
    specificity: Share | None


def assess(sheet: str, drawn: str | None = None) -> Assessment:
    """Turn a filled sheet into pass rates.

    Args:
        sheet: The sheet, local path or fsspec URL.
        drawn: The ``review_sample.json`` it was drawn with; beside the sheet if not given.

    Raises:
        InputError: A file cannot be read, or the sheet is not whole, not finished, or not as it was drawn.
        ConfigError: The extra 'scan' is not installed.
    """
    require("scan", "scipy")
    sample = _sample(drawn or posixpath.join(posixpath.dirname(sheet), DRAWN))
    rows = sample["rows"]
    taxonomy = load_taxonomy().extended(own_label(table, DRAWN) for table in sample.get("own_labels", ()))
    judged = read_sheet(_read(sheet), [row["digest"] for row in rows], taxonomy)
    flagged = [bool(row["flagged"]) for row in rows]
    passes = [judgement.passed for judgement in judged]
    checked = sum(group["documents"] for group in sample["technical"])
    clean = checked - sum(group["flagged"] for group in sample["technical"])
    documents = sample["documents"]
    return Assessment(
        documents=documents,
        manual=_criterion(sum(passes), len(passes), MANUAL_PASS, enough=len(passes) >= min(SIZE, documents)),
        technical=_criterion(clean, checked, TECHNICAL_PASS, enough=checked >= SHARE * documents),
        sources=_by(zip([row["source"] for row in rows], passes, strict=True)),
        technical_sources={
            group["source"] or "": clopper_pearson(group["documents"] - group["flagged"], group["documents"])
            for group in sample["technical"]
        },
        risks=_risks(judged, taxonomy),
        reviewers=dict(Counter(judgement.reviewer for judgement in judged).most_common()),
        sensitivity=_share([hit for hit, good in zip(flagged, passes, strict=True) if not good]),
        specificity=_share([not hit for hit, good in zip(flagged, passes, strict=True) if good]),
    )


def told(assessment: Assessment) -> list[str]:
    """The result in sentences."""
    lines = [
        _line("manual review", assessment.manual, f"{SIZE:,} documents"),
        _line("technical check", assessment.technical, f"{SHARE:.0%} of the corpus"),
    ]
    for title, shares in (("pass, source", assessment.sources), ("fail, risk", assessment.risks)):
        lines += [f"{title} {name or '(not stated)'}: {_with_interval(share)}" for name, share in shares.items()]
    for title, share in (("sensitivity", assessment.sensitivity), ("specificity", assessment.specificity)):
        if share is not None:
            lines.append(f"classifier's {title} against the reviewers: {_with_interval(share)}")
    return lines


def _line(name: str, criterion: Criterion, size: str) -> str:
    verdict = "reaches" if criterion.met else "is below"
    holds = criterion.passed.low < criterion.required <= criterion.passed.high
    doubt = ", but its interval holds that bound" if holds else ""
    small = "" if criterion.enough else f"; the sample is smaller than the {size} recommended"
    return (
        f"{name}: {_with_interval(criterion.passed)} passes and {verdict} {percent(criterion.required)}{doubt}{small}"
    )


def _with_interval(share: Share) -> str:
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)}, n={share.n:,})"


def _criterion(hits: int, n: int, required: float, *, enough: bool) -> Criterion:
    share = clopper_pearson(hits, n)
    return Criterion(
        passed=share, required=required, enough=enough, met=share.value >= required, surely=share.low >= required
    )


def _by(pairs: Iterable[tuple[str | None, bool]]) -> dict[str, Share]:
    groups: dict[str, list[bool]] = {}
    for name, good in pairs:
        groups.setdefault(name or "", []).append(good)
    return {name: clopper_pearson(sum(values), len(values)) for name, values in sorted(groups.items())}


def _share(values: Sequence[bool]) -> Share | None:
    return clopper_pearson(sum(values), len(values)) if values else None


def _risks(judged: Sequence[Judgement], taxonomy: Taxonomy) -> dict[str, Share]:
    counts = Counter(risk for judgement in judged for risk in judgement.risks)
    return {risk: clopper_pearson(counts[risk], len(judged)) for risk in (*RISKS, *taxonomy.ids) if counts[risk]}


def _sample(url: str) -> Mapping[str, Any]:
    try:
        sample = json.loads(_read(url))
    except ValueError:
        sample = None
    if not isinstance(sample, dict) or sample.get("schema") != SCHEMA:
        raise InputError("sample_record", f"{url}: not the record of a sample; give the {DRAWN} drawn with the sheet.")
    return sample


def _read(url: str) -> bytes:
    try:
        with fsspec.open(url, "rb") as file:
            return bytes(file.read())
    except OSError as error:
        raise InputError("sheet_file", f"{url}: cannot be read ({type(error).__name__}); give the path.") from None
