"""Gates a data set must pass before it trains a model; each returns what it saw, or raises with a stable code.

Dropping comes first (``build.py`` leaves out rows and counts them); a gate then proves that nothing is left.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fineline.errors import DataError
from fineline_training.leakage import EvaluationKeys
from fineline_training.personal import find_personal
from fineline_training.records import Record
from fineline_training.sources.mirror import State, source_status
from fineline_training.sources.registry import Source


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """A gate that was passed.

    Attributes:
        gate: Its name.
        checked: How many things (sources, files, rows) it looked at.
        detail: One line for the report.
    """

    gate: str
    checked: int
    detail: str


def check_licences(sources: Iterable[Source], use: str, *, permissive_only: bool = True) -> GateResult:
    """Every source may be used for ``use``.

    Raises:
        DataError: A source has no split for the use, or its licence is not permissive.
    """
    checked = list(sources)
    for source in checked:
        if not source.splits(use):
            allowed = ", ".join(sorted(set(source.use.values())))
            raise DataError("licence_use", f"{source.id} may not be used for '{use}', only for {allowed}; take it out.")
        if permissive_only and not source.permissive:
            raise DataError("licence_not_permissive", f"{source.id}: {source.licence} is not permissive; take it out.")
    return GateResult(gate="licence", checked=len(checked), detail=f"every source allows '{use}'")


def check_provenance(sources: Iterable[Source], mirror: Path) -> GateResult:
    """Every file is the pinned one.

    Raises:
        DataError: A file is missing or has another hash.
    """
    count = 0
    for source in sources:
        for name, state in source_status(source, mirror).files.items():
            if state is not State.PRESENT:
                code = "provenance_missing" if state is State.MISSING else "provenance_hash"
                raise DataError(code, f"{source.id}: {name}: {state}; fetch it again with 'fineline data pull'.")
            count += 1
    return GateResult(gate="provenance", checked=count, detail="every file has its pinned sha256")


def check_personal_data(records: Iterable[Record]) -> GateResult:
    """No row holds a mail address, phone, resident id, bank card or public IP number.

    Raises:
        DataError: A row does; the message names its source and the kind, never the value.
    """
    count = 0
    for count, record in enumerate(records, 1):
        if kind := find_personal(record.text) or find_personal(record.context or ""):
            raise DataError("personal_data", f"{record.source}: row {count} of the data set holds {kind}; drop it.")
    return GateResult(gate="personal data", checked=count, detail="none found")


def check_leakage(records: Iterable[Record], evaluation: EvaluationKeys) -> GateResult:
    """No training text or context stands in an evaluation suite, after normalisation.

    Raises:
        DataError: One does; the message names its source.
    """
    count = 0
    for count, record in enumerate(records, 1):
        if evaluation.holds(record):
            raise DataError(
                "leakage", f"{record.source}: row {count} of the data set also stands in an evaluation suite; drop it."
            )
    return GateResult(gate="leakage", checked=count, detail=f"no overlap with {len(evaluation)} evaluation keys")


def check_unlawful_share(shares: Mapping[str, float], limit: float, *, judged: bool = True) -> GateResult:
    """No source of ordinary text holds more flagged rows than the recipe allows.

    Args:
        shares: Sampled share of flagged rows by source.
        limit: Highest share allowed.
        judged: Whether a classifier judged the samples; else only the rows' own labels count.

    Raises:
        DataError: A source is over the limit.
    """
    for source_id, share in shares.items():
        if share > limit:
            raise DataError(
                "unlawful_share", f"{source_id}: {share:.1%} of its sample is flagged, over the limit of {limit:.1%}."
            )
    detail = (
        f"every share is at most {limit:.1%}" if judged else "not judged: no model given, the rows' own labels count"
    )
    return GateResult(gate="unlawful share", checked=len(shares), detail=detail)
