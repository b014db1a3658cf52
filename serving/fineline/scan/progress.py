"""Where a running scan stands: counts, rate, time left, and the same for Prometheus."""

import time
from dataclasses import dataclass, field

from fineline.scan.store import Part


@dataclass(kw_only=True)
class Progress:
    """Where a scan stands.

    Attributes:
        expected: Rows of the inputs by a quick count.
        earlier: Rows of shards that an earlier run completed.
        rows: Rows of all completed shards, rejected ones included.
        rejected: Rows without a document.
        duplicates: Documents whose scores stand elsewhere.
        characters: Characters of all documents.
        tokens: Tokens given to the model.
        shards: Completed shards.
        began: ``time.monotonic`` of the first shard sent to the engine.
    """

    expected: int = 0
    earlier: int = 0
    rows: int = 0
    rejected: int = 0
    duplicates: int = 0
    characters: int = 0
    tokens: int = 0
    shards: int = 0
    began: float = field(default_factory=time.monotonic)

    def add(self, part: Part) -> None:
        """Count a completed shard."""
        self.rows += part.rows + part.rejected
        self.rejected += part.rejected
        self.duplicates += part.duplicates
        self.characters += part.characters
        self.tokens += part.tokens
        self.shards += 1

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        return (self.rows - self.earlier) / max(time.monotonic() - self.began, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the end at the rate so far; ``None`` before there is one."""
        return max(0, self.expected - self.rows) / self.rate if self.rate else None

    def counts(self) -> dict[str, int]:
        """Counts of a finished scan, for the manifest."""
        return {
            "documents": self.rows - self.rejected,
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "characters": self.characters,
            "tokens": self.tokens,
            "shards": self.shards,
        }

    def prometheus(self) -> str:
        """The counts in the text format that node_exporter's textfile collector reads."""
        values = {
            "rows_expected": self.expected,
            "rows": self.rows,
            "rejected_rows": self.rejected,
            "duplicates": self.duplicates,
            "characters": self.characters,
            "tokens": self.tokens,
            "shards": self.shards,
            "rows_per_second": round(self.rate, 3),
        }
        return "".join(
            f"# TYPE fineline_scan_{name} gauge\nfineline_scan_{name} {value}\n" for name, value in values.items()
        )
