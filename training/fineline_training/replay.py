"""Rows of the original mixture that a team's rows are mixed with, so that what was learned before is not forgotten.

A draw of a few thousand rows in the proportions of sixty thousand would hold two of a rare label in a small language.
So every cell of source, language and label gives its rows in turn until enough are drawn: small cells give all they
have, large ones the rest. Rows of a minimal pair come together, and no frame gives a second pair before all others have
given one.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from fineline_training.records import Record

_LAWFUL = ""
Unit = list[Record]


def draw_replay(records: Sequence[Record], count: int, seed: int) -> list[Record]:
    """Draw rows, cells in turn.

    Args:
        records: Training rows of the original mixture.
        count: Rows to draw; the last pair may go over it. All of them where there are fewer.
        seed: The recipe's seed.
    """
    flagged = Counter(label for row in records for label in _positive(row))
    units: dict[str, Unit] = defaultdict(list)
    for number, row in enumerate(records):
        units[row.pair or f"#{number}"].append(row)
    cells: dict[tuple[str, str, str], list[Unit]] = defaultdict(list)
    for unit in units.values():
        held = {label for row in unit for label in _positive(row)}
        rarest = min(held, key=lambda label: (flagged[label], label), default=_LAWFUL)
        cells[unit[0].source, unit[0].lang, rarest].append(unit)
    rng = random.Random(f"{seed}/replay")
    turns = [_in_turn(cells[key], rng) for key in sorted(cells)]
    rng.shuffle(turns)
    drawn: list[Record] = []
    for place in range(max(map(len, turns), default=0)):
        for turn in turns:
            if len(drawn) >= count:
                return drawn
            drawn += turn[place] if place < len(turn) else []
    return drawn


def _positive(row: Record) -> Collection[str]:
    return [label for label, value in row.labels.items() if value] or row.any_of


def _in_turn(units: list[Unit], rng: random.Random) -> list[Unit]:
    """Random order in which no frame comes a second time before every frame came once."""
    shuffled = list(units)
    rng.shuffle(shuffled)
    seen: Counter[str] = Counter()
    rounds = []
    for number, unit in enumerate(shuffled):
        frame = unit[0].meta.get("frame", f"#{number}")
        rounds.append(seen[frame])
        seen[frame] += 1
    order = sorted(range(len(shuffled)), key=lambda place: rounds[place])
    return [shuffled[place] for place in order]


def narrowed(records: Sequence[Record], labels: Collection[str]) -> list[Record]:
    """Rows as they are known once labels are defined more narrowly: a no stays a no, a yes is not known any more.

    Nor is it known whether a set of which one label holds still has one.
    """
    if not labels:
        return list(records)
    return [
        replace(
            row,
            labels={label: value for label, value in row.labels.items() if not (value and label in labels)},
            meta={key: part for key, part in row.meta.items() if key != "any_of" or not set(row.any_of) & set(labels)},
        )
        for row in records
    ]
