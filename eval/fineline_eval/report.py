"""The result of an evaluation: one typed, versioned record, the only source of numbers for cards and documents."""

import json
import math
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from fineline.config import build
from fineline.errors import ConfigError
from fineline.files import write_text
from fineline.own_labels import own_label
from fineline.taxonomy import Taxonomy, load_taxonomy
from fineline_eval.banks import Banks
from fineline_eval.bias import Bias
from fineline_eval.long_texts import LongTexts
from fineline_eval.metrics import Metric
from fineline_eval.reliability import ReliabilityReport
from fineline_eval.robustness import Robustness
from fineline_eval.served import Served
from fineline_eval.team import Team

REPORT_SCHEMA = 2
FILE = "report.json"


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    """Share flagged of the lawful rows of a slice, or of its others, by the classifier and by each floor."""

    name: str
    lawful: bool
    flagged: Metric
    floors: dict[str, Metric]


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """One suite.

    Attributes:
        langs: Languages of its rows.
        metrics: By name, for the classifier.
        floors: The same for each floor on the same rows.
        floor_rows: Training rows the floors had.
        lawful_flagged: Over the suite's over-blocking rows.
        lawful_flagged_floors: The same for each floor.
    """

    id: str
    title: str
    source: str
    langs: tuple[str, ...]
    n: int
    target: str
    headline: tuple[str, ...]
    metrics: dict[str, Metric]
    floors: dict[str, dict[str, Metric]]
    floor_rows: int
    slices: tuple[SliceResult, ...] = ()
    lawful_flagged: Metric | None = None
    lawful_flagged_floors: dict[str, Metric] | None = None


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
    """Everything ``fineline eval`` measured.

    Attributes:
        labels: Labels of the bundle; a label of the taxonomy that is not among them is never flagged.
        missing: Suites that were not in the mirror.
        manifest: The bundle's own.
        digest: That of ``bundle.json``; empty in reports written before it was noted.
        own_labels: The bundle's labels that a team added or defined anew; no suite knows the added ones.
        team: A team's held-back rows, where they were given.
    """

    schema: int
    model: str
    policy: str
    labels: tuple[str, ...]
    files: dict[str, str]
    fineline: str
    authored: Authored
    banks: Banks
    bias: Bias
    robustness: Robustness
    long_texts: LongTexts
    reliability: ReliabilityReport
    served: Served
    suites: tuple[SuiteResult, ...]
    missing: tuple[str, ...]
    speed: Speed
    manifest: dict[str, object]
    minutes: float
    digest: str = ""
    own_labels: tuple[dict[str, object], ...] = ()
    team: Team | None = None

    @property
    def taxonomy(self) -> Taxonomy:
        """The labels as the bundle means them."""
        return load_taxonomy().extended(own_label(table, FILE) for table in self.own_labels)


@contextmanager
def reading_manifest() -> Iterator[None]:
    """Say in one sentence that a manifest lacks an entry, whatever was about to be read of it.

    Raises:
        ConfigError: The block missed an entry: the bundle was not made by ``fineline train``.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            "report_manifest", f"The report's manifest lacks {error}; evaluate a bundle that 'fineline train' made."
        ) from None


def _plain(value: Any) -> Any:
    """JSON has no NaN: undefined values become null."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _restored(kind: Any, value: Any) -> Any:
    """Undo ``_plain`` by type: null is NaN where a number belongs, and an absent part elsewhere."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kind = next(argument for argument in arguments if argument is not type(None))
        return _restored(kind, value)
    if is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        given = {name: entry for name, entry in value.items() if entry is not None or hints.get(name) is float}
        return {name: _restored(hints.get(name), entry) for name, entry in given.items()}
    if origin is dict and isinstance(value, dict):
        return {name: _restored(arguments[1], entry) for name, entry in value.items()}
    if origin is tuple and isinstance(value, list):
        return [_restored(arguments[0], entry) for entry in value]
    return math.nan if kind is float and value is None else value


def write_report(report: Report, path: Path) -> None:
    """Write a report as JSON."""
    write_text(path, json.dumps(_plain(asdict(report)), ensure_ascii=False, indent=1) + "\n")


def read_report(path: Path) -> Report:
    """Read a report.

    Args:
        path: The file, or the folder it lies in.

    Raises:
        ConfigError: The file is missing, truncated, or of another schema.
    """
    path = path / FILE if path.is_dir() else path
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
    return build(Report, _restored(Report, raw) | kept, path.name)
