"""What the model sees in each epoch: shares of the sources, rows set inside longer text, rows with words hidden."""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from fineline_training.evasion import UNSPACED_LANGS, evade, evasions_of
from fineline_training.recipe import DataSpec
from fineline_training.records import Record
from fineline_training.sources.registry import AUTHORED

_FILLER_SENTENCES = (1, 6)
_FILLER_LENGTH = {True: 180, False: 600}
"""Characters of filler in unspaced and spaced writing: with more, a row could fall out of its first window. With less,
a sentence is lost in the windows of a long text (training/LOG.md)."""


def _shuffled(rows: Sequence[Record], rng: random.Random) -> list[Record]:
    """Random order in which the rows of a pair stay neighbours, so that a slice seldom parts them."""
    units: dict[str, list[Record]] = defaultdict(list)
    for index, row in enumerate(rows):
        units[row.pair or str(index)].append(row)
    order = list(units.values())
    rng.shuffle(order)
    return [row for unit in order for row in unit]


class _Pools:
    """The rows that may be drawn, by source, and the lawful sentences that rows may be set among, by language."""

    def __init__(self, records: Sequence[Record], seed: int, never: Collection[str]) -> None:
        by_source: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_source[record.source].append(record)
        self.rows: dict[str, tuple[list[Record], ...]] = {}
        for source, rows in by_source.items():
            shuffled = _shuffled(rows, random.Random(f"{seed}/{source}"))
            expanded = [row for row in shuffled if row.meta.get("frame", row.pair) != row.pair]
            written = [row for row in shuffled if row.meta.get("frame", row.pair) == row.pair]
            self.rows[source] = (written, expanded)
        self.fillers: dict[str, list[str]] = defaultdict(list)
        for record in by_source.get(AUTHORED, []):
            lawful = not any(record.labels.values()) and all(label in record.labels for label in never)
            if lawful and record.context is None and len(record.text) < 240:
                self.fillers[record.lang].append(record.text)


class Mixture:
    """Draws the rows of an epoch; the same seed and epoch give the same rows.

    Args:
        records: Training rows of all sources.
        spec: Shares by source.
        seed: The recipe's seed.
        never: Labels that a row must be known not to have before it is set around others: of labels defined anew the
            mixture knows the no alone.
    """

    def __init__(self, records: Sequence[Record], spec: DataSpec, seed: int, *, never: Collection[str] = ()) -> None:
        self._spec = spec
        self._seed = seed
        self._records, self._never = records, never
        self._first = [self._first_epoch(record) for record in records]
        self._stages: dict[int, _Pools] = {}

    def _first_epoch(self, row: Record) -> int:
        """First epoch that may draw a row."""
        file = row.meta.get("file", "")
        return max((first for pattern, first in self._spec.late.items() if fnmatchcase(file, pattern)), default=0)

    def _pools(self, number: int) -> _Pools:
        """What epoch ``number`` is drawn from: as if rows of later epochs did not exist."""
        stage = max((first for first in self._first if first <= number), default=0)
        if stage not in self._stages:
            rows = [row for row, first in zip(self._records, self._first, strict=True) if first <= stage]
            self._stages[stage] = _Pools(rows, self._seed, self._never)
        return self._stages[stage]

    def epoch(self, number: int) -> list[Record]:
        """Rows of epoch ``number`` in random order."""
        rng = random.Random(f"{self._seed}/{number}")
        pools = self._pools(number)
        units: dict[str, list[Record]] = defaultdict(list)
        for source in sorted(pools.rows):
            for index, row in enumerate(self._draw(source, pools.rows[source], number)):
                units[row.pair or f"{source}/{index}"].append(row)
        rows = [row for unit in units.values() for row in self._vary(unit, pools.fillers, rng)]
        rng.shuffle(rows)
        return rows

    def _draw(self, source: str, pools: tuple[list[Record], ...], number: int) -> list[Record]:
        """Consecutive slices of a source's rows, so that all are seen before any is seen again."""
        share = self._spec.sources[source]
        wanted = [round(share.weight * len(pool)) for pool in pools]
        wanted[1] = round(share.expansions * wanted[1])
        if share.cap and sum(wanted) > share.cap:
            wanted = [round(share.cap * count / sum(wanted)) for count in wanted]
        return [
            pool[(number * count + index) % len(pool)]
            for pool, count in zip(pools, wanted, strict=True)
            for index in range(count)
        ]

    def _vary(self, unit: list[Record], fillers: Mapping[str, list[str]], rng: random.Random) -> list[Record]:
        """The same change to all rows of a pair: what differs between them stays what the pair is about."""
        first, choice = unit[0], rng.random()
        if any(row.context for row in unit):
            return unit
        if choice < self._spec.evade:
            kind, seed = rng.choice(evasions_of(first.lang)), rng.random()
            return [replace(row, text=evade(row.text, kind, random.Random(seed))) for row in unit]
        composable = first.source == AUTHORED and len(fillers.get(first.lang, ())) > 20
        if composable and choice < self._spec.evade + self._spec.compose:
            return self._compose(unit, fillers[first.lang], rng)
        return unit

    def _compose(self, unit: list[Record], fillers: list[str], rng: random.Random) -> list[Record]:
        """Set rows among lawful sentences of their language: the verdict must not depend on place or share."""
        unspaced = unit[0].lang in UNSPACED_LANGS
        room, parts = _FILLER_LENGTH[unspaced], []
        for filler in rng.sample(fillers, rng.randint(*_FILLER_SENTENCES)):
            if len(filler) <= room:
                parts.append(filler)
                room -= len(filler)
        place = rng.randint(0, len(parts))
        joined = ("" if unspaced else " ").join
        return [replace(row, text=joined([*parts[:place], row.text, *parts[place:]])) for row in unit]
