"""The result of an evaluation: one typed, versioned record, the only source of numbers for cards and documents."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fineline.config import build
from fineline.errors import ConfigError
from fineline.files import write_text
from fineline_eval.metrics import Metric

REPORT_SCHEMA = 1
_NUMBERS = frozenset({"value", "low", "high", "average_precision", "calibration_error", "macro_f1_labels"})
"""Fields that may be NaN: null in the file."""


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    """One value of a suite's slice field: share of its rows flagged, by the classifier and by the floor."""

    name: str
    lawful: bool
    flagged: Metric
    floor: Metric | None = None


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """One suite.

    Attributes:
        metrics: By name, for the classifier.
        floor: The same for the character n-gram baseline on the same rows.
        floor_rows: Training rows the baseline had.
        lawful_flagged: Over the suite's over-blocking rows.
    """

    id: str
    title: str
    source: str
    n: int
    target: str
    headline: tuple[str, ...]
    metrics: dict[str, Metric]
    floor: dict[str, Metric]
    floor_rows: int
    slices: tuple[SliceResult, ...] = ()
    lawful_flagged: Metric | None = None
    lawful_flagged_floor: Metric | None = None


@dataclass(frozen=True, kw_only=True)
class LabelResult:
    """One label on the held-back authored frames."""

    label: str
    positives: int
    precision: Metric
    recall: Metric
    f1: Metric
    average_precision: float
    calibration_error: float


@dataclass(frozen=True, kw_only=True)
class LangResult:
    """One language on the held-back authored frames.

    Attributes:
        macro_f1: Mean of the F1 of flagged and lawful.
        lawful_flagged: Share of lawful rows flagged by any label.
        pairs_right: Share of minimal pairs judged right on both sides.
    """

    lang: str
    n: int
    macro_f1: Metric
    recall: Metric
    lawful_flagged: Metric
    pairs_right: Metric


@dataclass(frozen=True, kw_only=True)
class ActResult:
    """Lawful rows of one act: share flagged by any label."""

    act: str
    lawful_flagged: Metric


@dataclass(frozen=True, kw_only=True)
class Authored:
    """Results on the held-back authored frames. Thresholds were chosen on these rows: they are development data."""

    n: int
    pairs: int
    pairs_right: Metric
    lawful_flagged: Metric
    macro_f1_labels: float
    labels: tuple[LabelResult, ...]
    langs: tuple[LangResult, ...]
    acts: tuple[ActResult, ...]


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Milliseconds a text, one at a time and in batches, on the machine named."""

    machine: str
    threads: int
    single_ms: float
    batch_ms: float
    tokens: int
    n: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything ``fineline eval`` measured."""

    schema: int
    model: str
    policy: str
    files: dict[str, str]
    fineline: str
    authored: Authored
    suites: tuple[SuiteResult, ...]
    missing: tuple[str, ...]
    speed: Speed
    manifest: dict[str, object]
    minutes: float


def _plain(value: Any) -> Any:
    """JSON has no NaN: undefined values become null."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _restored(value: Any) -> Any:
    """Undo ``_plain``: null is NaN where a number belongs, and an absent part elsewhere."""
    if isinstance(value, dict):
        given = {key: entry for key, entry in value.items() if entry is not None or key in _NUMBERS}
        return {key: float("nan") if entry is None else _restored(entry) for key, entry in given.items()}
    if isinstance(value, list):
        return [_restored(entry) for entry in value]
    return value


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    write_text(path, json.dumps(_plain(asdict(report)), ensure_ascii=False, indent=1) + "\n")


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        ConfigError: The file is missing, truncated, or of another schema.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("report_missing", f"{path}: no report here; run 'fineline eval' first.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ConfigError("report_syntax", f"{path}: not a whole report; run 'fineline eval' again.") from None
    if not isinstance(raw, dict) or raw.get("schema") != REPORT_SCHEMA:
        raise ConfigError(
            "report_schema", f"{path}: not a report of schema {REPORT_SCHEMA}; run 'fineline eval' again."
        )
    # The manifest is the bundle's own: it is kept as it stands.
    kept = {"manifest": raw["manifest"]} if "manifest" in raw else {}
    return build(Report, _restored(raw) | kept, path.name)
