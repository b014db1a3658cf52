"""The corpus written for this project: the act decides, so its rows know nearly every label."""

from pathlib import Path

from fineline.taxonomy import load_taxonomy
from fineline_training.corpus import Item, load_corpus
from fineline_training.records import Record
from fineline_training.sources.readers.base import Rows, reader
from fineline_training.sources.readers.grounds import ETHNICITY, lawful

_HELD_BACK = 5


def _labels(item: Item) -> dict[str, int]:
    """A lawful act breaks nothing; a flagged one leaves open what often holds together with its labels."""
    if not item.flagged:
        return lawful()
    taxonomy = load_taxonomy()
    positive = {*item.labels, *({ETHNICITY} if "ethnic_hatred" in item.labels else ())}
    unknown = {other for label in positive for other in taxonomy[label].overlaps} - positive
    return {label: int(label in positive) for label in taxonomy.ids if label not in unknown}


@reader("authored")
def read_authored(folder: Path) -> Rows:
    """One frame in five is held back as dev, with all its expansions: nothing of it is seen in training."""
    for item in load_corpus(folder):
        meta = {
            name: getattr(item, name)
            for name in ("act", "topic", "register", "writer", "target", "frame", "form", "file")
        }
        yield Record(
            text=item.text,
            context=item.context,
            lang=item.lang,
            labels=_labels(item),
            source="authored",
            pair=item.pair,
            split="dev" if int(item.frame, 16) % _HELD_BACK == 0 else "train",
            meta={key: value for key, value in meta.items() if value} | ({"aimed": "yes"} if item.aimed else {}),
        )
