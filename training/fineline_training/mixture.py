"""What the model sees in each epoch: shares of the sources, and some rows set inside longer text."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from fineline_training.recipe import DataSpec
from fineline_training.records import Record
from fineline_training.sources.registry import AUTHORED

_FILLER_SENTENCES = (1, 4)
_NO_SPACE_LANGS = frozenset({"zh", "ja", "th"})


class Mixture:
    """Draws the rows of an epoch; the same seed and epoch give the same rows.

    Args:
        records: Training rows of all sources.
        spec: Shares by source.
        seed: The recipe's seed.
    """

    def __init__(self, records: Sequence[Record], spec: DataSpec, seed: int) -> None:
        self._spec = spec
        self._seed = seed
        self._by_source: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            self._by_source[record.source].append(record)
        self._fillers: dict[str, list[str]] = defaultdict(list)
        for record in self._by_source.get(AUTHORED, []):
            if record.context is None and not any(record.labels.values()) and len(record.text) < 240:
                self._fillers[record.lang].append(record.text)

    def epoch(self, number: int) -> list[Record]:
        """Rows of epoch ``number`` in random order."""
        rng = random.Random(f"{self._seed}/{number}")
        rows: list[Record] = []
        for source in sorted(self._by_source):
            rows += self._draw(source, rng)
        rows = [self._compose(row, rng) if self._wants_filler(row, rng) else row for row in rows]
        rng.shuffle(rows)
        return rows

    def _draw(self, source: str, rng: random.Random) -> list[Record]:
        share = self._spec.sources[source]
        available = self._by_source[source]
        wanted = round(share.weight * len(available))
        if share.cap:
            wanted = min(wanted, share.cap)
        whole, part = divmod(wanted, len(available))
        return available * whole + rng.sample(available, part)

    def _wants_filler(self, row: Record, rng: random.Random) -> bool:
        eligible = row.source == AUTHORED and row.context is None and len(self._fillers[row.lang]) > 20
        return eligible and rng.random() < self._spec.compose

    def _compose(self, row: Record, rng: random.Random) -> Record:
        """Set a row among lawful sentences of its language: the verdict must not depend on its place or share."""
        parts = rng.sample(self._fillers[row.lang], rng.randint(*_FILLER_SENTENCES))
        parts.insert(rng.randint(0, len(parts)), row.text)
        return replace(row, text=("" if row.lang in _NO_SPACE_LANGS else " ").join(parts))
