"""Verdicts in the shape of the OpenAI moderation API."""

from collections.abc import Mapping, Sequence
from typing import Any

from fineline.bundle import Bundle
from fineline.classifier import Verdict
from fineline.taxonomy import OPENAI_CATEGORIES


def category_sources(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """The bundle's labels behind each OpenAI category; one that no label's crosswalk names stays at 0 and false."""
    found: dict[str, tuple[str, ...]] = dict.fromkeys(OPENAI_CATEGORIES, ())
    for label in bundle.taxonomy:
        if label.id in bundle.meta.labels:
            for entry in label.crosswalk["openai"]:
                found[entry[1:]] += (label.id,)
    return found


def moderation_result(verdict: Verdict, sources: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """One entry of ``results``: OpenAI's 13 categories, and our labels beside them.

    Args:
        verdict: On the text.
        sources: ``category_sources`` of the bundle that judged.
    """
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
