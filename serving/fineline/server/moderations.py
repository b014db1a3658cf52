"""Verdicts in the shape of the OpenAI moderation API."""

from functools import cache
from typing import Any

from fineline.classifier import Verdict
from fineline.taxonomy import load_taxonomy

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Categories of the OpenAI moderation API. Those that no label's crosswalk names stay at 0 and false."""


@cache
def _sources() -> dict[str, tuple[str, ...]]:
    taxonomy = load_taxonomy()
    return {
        category: tuple(x.id for x in taxonomy if category in (entry[1:] for entry in x.crosswalk["openai"]))
        for category in CATEGORIES
    }


def moderation_result(verdict: Verdict) -> dict[str, Any]:
    """One entry of ``results``: its 13 categories, mapped by the taxonomy's crosswalk, and our labels beside them."""
    sources = _sources()
    scores = {c: max((verdict.scores[x] for x in labels), default=0.0) for c, labels in sources.items()}
    flags = {c: any(x in verdict.flagged for x in labels) for c, labels in sources.items()}
    scores |= {label: score for label, score in verdict.scores.items() if label not in scores}
    flags |= {label: label in verdict.flagged for label in verdict.scores if label not in flags}
    return {
        "flagged": bool(verdict.flagged),
        "categories": flags,
        "category_scores": {name: round(score, 6) for name, score in scores.items()},
        "category_applied_input_types": {name: ["text"] for name in flags},
    }
