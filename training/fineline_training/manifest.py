"""What a data set is made of, by source: licence, revision, rows read, kept and dropped with reasons, labels."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fineline_training.gates import GateResult
from fineline_training.records import Record
from fineline_training.sources.registry import Source


@dataclass(frozen=True, kw_only=True)
class LabelCount:
    """Rows that know a label, by its value; rows that do not know it are in neither."""

    positive: int
    negative: int


@dataclass(frozen=True, kw_only=True)
class SourceReport:
    """What one source gave.

    Attributes:
        id: Source id.
        licence: SPDX id.
        repository: Where it comes from.
        commit: Revision.
        attribution: Line to print with the model.
        read: Upstream rows of the splits used.
        kept: Rows in the data set.
        dropped: Rows left out, by reason; ``read`` is ``kept`` plus these.
        splits: Rows kept by split.
        languages: Rows kept by language.
        labels: Counts by label, for labels that some row knows.
        any_of: Rows that know only that one of several labels holds.
        unlawful_share: Share of kept rows that are known to break a rule.
    """

    id: str
    licence: str
    repository: str
    commit: str
    attribution: str
    read: int
    kept: int
    dropped: Mapping[str, int]
    splits: Mapping[str, int]
    languages: Mapping[str, int]
    labels: Mapping[str, LabelCount]
    any_of: int
    unlawful_share: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a data set is made of.

    Attributes:
        sources: One report each, in the order asked for.
        missing: Sources asked for that the mirror lacks.
        gates: Gates passed.
    """

    sources: tuple[SourceReport, ...]
    missing: tuple[str, ...]
    gates: tuple[GateResult, ...]

    @property
    def rows(self) -> int:
        """Rows in the data set."""
        return sum(source.kept for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def report(source: Source, kept: Iterable[Record], dropped: Mapping[str, int]) -> SourceReport:
    """Count what a source gave."""
    rows = list(kept)
    positive = Counter(label for row in rows for label, value in row.labels.items() if value)
    known = Counter(label for row in rows for label in row.labels)
    return SourceReport(
        id=source.id,
        licence=source.licence,
        repository=source.repository,
        commit=source.commit,
        attribution=source.attribution,
        read=len(rows) + sum(dropped.values()),
        kept=len(rows),
        dropped=dict(sorted(dropped.items())),
        splits=dict(Counter(row.split for row in rows)),
        languages=dict(Counter(row.lang for row in rows).most_common()),
        labels={
            label: LabelCount(positive=positive[label], negative=known[label] - positive[label])
            for label in sorted(known)
        },
        any_of=sum(1 for row in rows if row.any_of),
        unlawful_share=sum(row.unlawful for row in rows) / len(rows) if rows else 0.0,
    )
