"""Who gets which row: never one who has had it before, as evenly as that allows, the same for the same seed."""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Dealt(NamedTuple):
    """Rows by person, and the rows for which too few people were free."""

    rows: dict[str, list[str]]
    left: list[str]


def deal(
    wanted: Mapping[str, int], people: Sequence[str], barred: Mapping[str, Collection[str]], *, seed: str
) -> Dealt:
    """Give each row to so many people, always to those with the fewest rows so far.

    Args:
        wanted: Row id to the number of people who are to have it.
        people: Who may take rows.
        barred: Row id to the people who may not have it, because they labelled, reviewed or hold it.
        seed: Seed of the order and of the choice between people with equally many rows.

    Returns:
        Every person's rows, in the order in which they were dealt.
    """
    rng = random.Random(seed)
    given: dict[str, list[str]] = {person: [] for person in people}
    left = []
    order = sorted(wanted)
    rng.shuffle(order)
    for row in order:
        free = [person for person in people if person not in barred.get(row, ())]
        if len(free) < wanted[row]:
            left.append(row)
        rng.shuffle(free)
        for person in sorted(free, key=lambda person: len(given[person]))[: wanted[row]]:
            given[person].append(row)
    return Dealt(given, left)


def spread(groups: Mapping[str, str], count: int, seed: str) -> list[str]:
    """Draw rows so that every group gives its share.

    Args:
        groups: Row id to the group that it stands for, such as its language.
        count: Rows to draw; all of them if there are fewer.
        seed: Seed of the draw.

    Returns:
        Row ids: within one of each group's exact share of ``count``.
    """
    rng = random.Random(seed)
    order = sorted(groups)
    rng.shuffle(order)
    order.sort(key=lambda row: groups[row])
    count, total = min(count, len(order)), len(order)
    # Every place where count * place / total passes a whole number: evenly spaced over the sorted groups.
    return [row for place, row in enumerate(order) if (place + 1) * count // total > place * count // total]
