"""The annotation guide of a team's labels, English and Chinese: rules from the label files, examples from the rows.

The guide holds texts of the store and therefore stands in it; the dated record holds ids and hashes.
"""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fineline.errors import DataError
from fineline.files import sha256_of, write_text
from fineline.taxonomy import load_taxonomy
from fineline_training.guide import GUIDES, LONGEST, PAIRS_PER_LABEL, render_template
from fineline_training.labels.agreement import RELIABLE, USABLE
from fineline_training.labels.spotcheck import OPEN_LIMIT
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow
from fineline_training.personal import find_personal
from fineline_training.records import UNDETERMINED

DISPUTED = 2
"""Rows shown on which people differed."""
_POOL = 100
"""Most flagged and most lawful rows that are compared for a label."""


class Pair(NamedTuple):
    """A flagged row and the lawful one that is most like it, if there is any."""

    flagged: LabelledRow
    lawful: LabelledRow | None


class Examples(NamedTuple):
    """Rows that show a label."""

    pairs: list[Pair]
    disputed: list[LabelledRow]

    @property
    def ids(self) -> list[str]:
        """Ids of all rows shown."""
        shown = [row for pair in self.pairs for row in pair if row]
        return sorted({row.id for row in [*shown, *self.disputed]})


def _reads(row: LabelledRow, lang: str) -> bool:
    """Whether a reader of the guide's language reads the row; one of unknown language by its script."""
    if row.lang != UNDETERMINED:
        return row.lang.split("-")[0].lower() == lang
    return (lang == "zh") == any("\u4e00" <= char <= "\u9fff" for char in row.text)


def _fit(row: LabelledRow, lang: str) -> bool:
    parts = (row.text, row.context or "")
    return _reads(row, lang) and max(map(len, parts)) <= LONGEST[lang] and not any(map(find_personal, parts))


def _marks(row: LabelledRow, label: str) -> list[int]:
    votes = [given[label] for given in row.votes.values() if label in given]
    return [row.labels[label]] if label in row.labels else votes


def _alike(one: LabelledRow, other: LabelledRow) -> float:
    return SequenceMatcher(None, one.text, other.text, autojunk=False).ratio()


def choose_examples(rows: Iterable[LabelledRow], label: str, lang: str, count: int = PAIRS_PER_LABEL) -> Examples:
    """Choose the rows that show a label: short, in the reader's language, without personal data.

    Flagged and lawful rows are those on which all agree, the ones that most people labelled first. Each flagged row
    stands with the lawful one whose words are most like its own, because their difference is what there is to learn.

    Args:
        rows: Rows of the store; their order does not matter.
        label: Label id.
        lang: ``en`` or ``zh``.
        count: Most pairs.
    """
    known = [(row, marks) for row in rows if (marks := _marks(row, label)) and _fit(row, lang)]
    known.sort(key=lambda entry: (-len(entry[1]), entry[0].id))
    flagged, lawful = ([row for row, marks in known if set(marks) == {mark}][:_POOL] for mark in (1, 0))
    closest = [Pair(one, max(lawful, key=partial(_alike, one), default=None)) for one in flagged]
    closest.sort(key=lambda pair: -_alike(pair.flagged, pair.lawful) if pair.lawful else 0)
    pairs: list[Pair] = []
    shown: set[str] = set()
    for pair in closest:
        texts = {row.text for row in pair if row}
        if len(pairs) < count and not texts & shown:
            pairs.append(pair)
            shown |= texts
    return Examples(pairs, [row for row, marks in known if len(set(marks)) == 2][:DISPUTED])


def write_guide(store: LabelStore, labels: Sequence[str]) -> tuple[list[Path], Path]:
    """Write the guides into the store and leave the record.

    Args:
        store: The store.
        labels: Labels that the guide is for.

    Returns:
        The guides, and the record.

    Raises:
        DataError: No label is named.
    """
    if not labels:
        raise DataError("guide_labels", f"{store.path}: no own label; give --own-label or --label.")
    rows, ours = store.rows(), load_taxonomy()
    files, shown = [], set()
    for lang, name in GUIDES.items():
        examples = {label: choose_examples(rows, label, lang) for label in labels}
        shown |= {key for each in examples.values() for key in each.ids}
        text = render_template(
            f"labels/guide.{lang}.md.j2",
            taxonomy=ours,
            labels=[store.taxonomy[label] for label in labels],
            examples=examples,
            reliable=RELIABLE,
            usable=USABLE,
            open_limit=OPEN_LIMIT,
        )
        files.append(store.path / name)
        write_text(files[-1], text)
    content = {
        "labels": [store.taxonomy[label].as_table() for label in labels],
        "files": {file.name: sha256_of(file) for file in files},
        "rows": store.digest(),
        "examples": sorted(shown),
    }
    return files, store.write_record("guide", content)
