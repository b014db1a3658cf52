"""A small fixed choice of rows in every language."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from fineline_training.records import Record


def choose_golden(rows: Sequence[Record], per_lang: int) -> list[Record]:
    """At most ``per_lang`` rows a language, flagged and lawful in turn; the choice depends on the texts alone.

    Args:
        rows: Candidates; rows too long for one window make poor references and are passed over.
        per_lang: Rows a language.

    Returns:
        The rows, by language, in a fixed order.
    """
    by_lang: dict[str, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for row in sorted(rows, key=lambda row: hashlib.sha256(row.text.encode()).hexdigest()):
        if len(row.text) <= 400:
            by_lang[row.lang][int(any(row.labels.values()))].append(row)
    chosen: list[Record] = []
    for lang in sorted(by_lang):
        lawful, flagged = by_lang[lang]
        turns = [row for pair in zip(flagged, lawful, strict=False) for row in pair]
        rest = flagged[len(lawful) :] + lawful[len(flagged) :]
        chosen += [*turns, *rest][:per_lang]
    return chosen
