"""Masks personal data in a text by its kind, so that a row can train without the person."""

from collections import Counter
from typing import NamedTuple

from fineline_training.personal import BANK_CARD, EMAIL, IP_ADDRESS, PHONE, RESIDENT_ID, PersonalSpan, personal_spans

MASKS = {
    EMAIL: "[EMAIL]",
    PHONE: "[PHONE]",
    RESIDENT_ID: "[RESIDENT_ID]",
    BANK_CARD: "[BANK_CARD]",
    IP_ADDRESS: "[IP_ADDRESS]",
}


class Masked(NamedTuple):
    """A text without the personal data that has a form, and how many of each kind were masked."""

    text: str
    found: Counter[str]


def _merged(text: str) -> list[PersonalSpan]:
    """Spans in order, overlapping ones as one under the first one's kind: half of a number is personal data, too."""
    merged: list[PersonalSpan] = []
    for span in sorted(personal_spans(text)):
        if merged and span.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(span.end, merged[-1].end))
        else:
            merged.append(span)
    return merged


def mask(text: str) -> Masked:
    """Replace each piece of personal data by its kind in brackets.

    Repeated until nothing is found, because a mask can uncover what its neighbour hid. Each round removes digits or an
    at sign, so it ends.
    """
    found: Counter[str] = Counter()
    while spans := _merged(text):
        for span in reversed(spans):
            text = text[: span.start] + MASKS[span.kind] + text[span.end :]
            found[span.kind] += 1
    return Masked(text, found)
