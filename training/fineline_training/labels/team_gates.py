"""The data gates of the public sources, for a team's own rows: drop or mask first, then prove that nothing is left."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

from fineline import Classifier
from fineline.errors import DataError
from fineline_training import gates
from fineline_training.build import LEAKED, Judge, flagged_share
from fineline_training.labels.masking import Masked, mask
from fineline_training.labels.near import NearIndex, load_sketches
from fineline_training.labels.votes import LabelledRow, settled
from fineline_training.leakage import EvaluationKeys, load_digests
from fineline_training.records import Record, Refusal

Personal = Literal["mask", "drop", "stop"]
"""What becomes of a row with personal data: masked by its kind, dropped, or the whole import stops."""
UNLAWFUL_LIMIT = 0.05
"""Highest share of flagged rows in a source of ordinary text, as for public sources."""
NEARLY_LEAKED = "near copy of a text in an evaluation suite"
_UNNAMED = frozenset(
    ["", "?", "-", "n/a", "na", "none", "null", "tbd", "todo", "unknown", "无", "未知", "不明", "待定"]
)
_RESTRICTED = re.compile(
    r"\b(?:nc|nd)\b|non[- ]?commercial|no[- ]?deriv|research[- ]only|非商业|禁止演绎", re.IGNORECASE
)


class Placed(NamedTuple):
    """A row and where it was read: the file's name, and its line (row number in Parquet)."""

    file: str
    line: int
    row: LabelledRow


@dataclass(frozen=True, kw_only=True)
class GateOutcome:
    """What the gates let through.

    Attributes:
        rows: The rows that may train, in their order; masked where that was the choice.
        dropped: The other rows, with file, line and reason.
        report: Plain data for the dated record of the import; no text.
    """

    rows: tuple[Placed, ...]
    dropped: tuple[Refusal, ...]
    report: dict[str, Any]


def check_rights(licence: str, basis: str, *, any_licence: bool = False) -> dict[str, str]:
    """Licence and legal basis are named, and the licence allows a commercial model.

    Args:
        licence: SPDX id or words, such as ``own work``.
        basis: Why the texts, and personal data in them, may be used: consent, contract, a law.
        any_licence: Take a licence that forbids commercial use or derived works, for a model that stays in research.

    Returns:
        Both, for the record.

    Raises:
        DataError: One is missing or a placeholder, or the licence does not allow it.
    """
    named = {"licence": licence.strip(), "basis": basis.strip()}
    for name, value in named.items():
        if value.casefold() in _UNNAMED:
            raise DataError(f"{name}_missing", f"No {name} is named; data without one may not train: give --{name}.")
    if not any_licence and _RESTRICTED.search(named["licence"].replace("_", "-")):
        raise DataError(
            "licence_not_permissive", "The licence forbids commercial use or derived works; leave the file out."
        )
    return named


def bundle_judge(classifier: Classifier) -> Judge:
    """Judge that flags a row as the classifier's policy does."""

    def judge(records: Sequence[Record]) -> list[bool]:
        verdicts = classifier.classify([row.text for row in records], [row.context for row in records])
        return [bool(verdict.flagged) for verdict in verdicts]

    return judge


def _masked(row: LabelledRow) -> tuple[LabelledRow, Counter[str]]:
    """The row without personal data in text, context and meta; how many of each kind it held."""
    text, context = mask(row.text), mask(row.context or "")
    meta: dict[str, Masked] = {key: mask(value) for key, value in row.meta.items()}
    found = sum((part.found for part in (text, context, *meta.values())), Counter[str]())
    if not found:
        return row, found
    kept = {key: part.text for key, part in meta.items()}
    return replace(row, text=text.text, context=context.text or None, meta=kept), found


def _leak(records: Sequence[Record], evaluation: EvaluationKeys, near: NearIndex) -> str | None:
    if any(map(evaluation.holds, records)):
        return LEAKED
    return NEARLY_LEAKED if any(map(near.holds, records)) else None


def _shares(records: Sequence[Record], limit: float, ordinary: bool, judge: Judge | None) -> dict[str, Any]:
    """Flagged rows by source; a source of ordinary text stops the import above the limit."""
    sources: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        sources[record.source].append(record)
    shares = {
        name: flagged_share(name, rows, judge) if ordinary else sum(row.unlawful for row in rows) / len(rows)
        for name, rows in sorted(sources.items())
    }
    gate = gates.check_unlawful_share(shares, limit, judged=judge is not None) if ordinary else None
    return {
        "ordinary": ordinary,
        "limit": limit if ordinary else None,
        "shares": {name: round(share, 4) for name, share in shares.items()},
        "detail": gate.detail if gate else "a label set: no limit holds",
    }


def check_rows(
    rows: Sequence[Placed],
    *,
    personal: Personal = "stop",
    evaluation: EvaluationKeys | None = None,
    near: NearIndex | None = None,
    unlawful_limit: float = UNLAWFUL_LIMIT,
    ordinary: bool = False,
    judge: Judge | None = None,
) -> GateOutcome:
    """Hold a team's rows against the data gates.

    Args:
        rows: Rows and where they were read.
        personal: What becomes of a row whose text, context or meta holds personal data.
        evaluation: Texts that must not train; the committed digests of all suites by default.
        near: Sketches of the same texts, for edited copies; the committed ones by default.
        unlawful_limit: Highest share of flagged rows in a source of ordinary text.
        ordinary: Whether the rows are declared as ordinary text. In a label set flagged rows are what it is for.
        judge: Flags rows of a sample of each ordinary source (``bundle_judge``); without it their own labels count.

    Returns:
        The rows that passed, those that did not, and the report.

    Raises:
        DataError: A row holds personal data and the choice is ``stop``, or a source of ordinary text is over the limit.
    """
    evaluation = load_digests() if evaluation is None else evaluation
    near = load_sketches() if near is None else near
    kept: list[Placed] = []
    dropped: list[Refusal] = []
    kinds: Counter[str] = Counter()
    holders: list[Placed] = []
    for placed in rows:
        row, found = _masked(placed.row)
        # A mask can turn a text into one that a suite holds with the same mask.
        versions = [settled(version) for version in ((placed.row, row) if found else (row,))]
        reason = _leak(versions, evaluation, near)
        if reason is None and found:
            kinds += found
            holders.append(placed)
            reason = f"holds {min(found)}" if personal == "drop" else None
        if reason:
            dropped.append(Refusal(placed.file, placed.line, reason))
        else:
            kept.append(placed._replace(row=row))
    if holders and personal == "stop":
        first = holders[0]
        raise DataError(
            "personal_data",
            f"{len(holders)} rows hold {', '.join(sorted(kinds))}; the first is {first.file}, line {first.line}. "
            "Import with 'fineline labels import', --personal mask or --personal drop.",
        )
    records = [settled(placed.row) for placed in kept]
    passed = [gates.check_personal_data(records), gates.check_leakage(records, evaluation)]
    report = {
        "rows": len(rows),
        "kept": len(kept),
        "dropped": dict(sorted(Counter(refusal.reason for refusal in dropped).items())),
        "personal": {"choice": personal, "rows": len(holders), "found": dict(sorted(kinds.items()))},
        "unlawful": _shares(records, unlawful_limit, ordinary, judge),
        "near": f"overlap with {len(near)} sketches of evaluation texts",
        "gates": [asdict(gate) for gate in passed],
    }
    return GateOutcome(rows=tuple(kept), dropped=tuple(dropped), report=report)
