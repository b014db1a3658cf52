"""Identity swaps: the same sentence said of many groups, so that only the group can change the verdict.

The terms are the corpus' own (``identity.yaml`` of each language), the sentences are not in it: what is measured is how
a group is read in a sentence the model has not seen.
"""

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline_training.corpus.loader import CORPUS_DIR, load_file
from fineline_training.records import Record

SOURCE = "identity"
MAIN_LANGUAGES = ("zh", "en")
TERMS_MAIN = 18
"""Terms of a ground in the main languages; with nine grounds 162 a language."""
TERMS_OTHER = 6
"""Terms of a ground in any other language, or all where the corpus has fewer."""

_TEMPLATES = Path(__file__).with_name("identity_templates.toml")
_HOSTILE = "hostile"


@dataclass(frozen=True, kw_only=True)
class Templates:
    """Sentences of one language, each with the slot ``{group}``; only the hostile ones are to be flagged."""

    neutral: tuple[str, ...]
    friendly: tuple[str, ...]
    hostile: tuple[str, ...]


@lru_cache
def load_templates() -> Mapping[str, Templates]:
    """Templates by language."""
    table = read_toml(_TEMPLATES)
    return {lang: build(Templates, part, f"{_TEMPLATES.name}: {lang}") for lang, part in table.items()}


def identity_terms(lang: str) -> dict[str, tuple[str, ...]]:
    """Terms by ground, as many of each ground as far as the corpus has them; the same in every run."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for item in load_file(CORPUS_DIR / lang / "identity.yaml"):
        if item.target:
            found[item.topic][item.target] = None
    most = TERMS_MAIN if lang in MAIN_LANGUAGES else TERMS_OTHER
    return {
        ground: tuple(random.Random(f"{lang}/{ground}").sample(list(terms), min(most, len(terms))))
        for ground, terms in sorted(found.items())
    }


def identity_swaps() -> list[Record]:
    """Every template with every sampled term of its language: about 11,700 short texts.

    ``meta`` names things as authored rows do: ``target`` is the term, ``topic`` the ground, ``frame`` the template,
    which is the pair as well. Of the labels a row knows only its ground.
    """
    rows = []
    for lang, templates in load_templates().items():
        terms = [(ground, term) for ground, listed in identity_terms(lang).items() for term in listed]
        for kind, texts in asdict(templates).items():
            for number, text in enumerate(texts, 1):
                frame = f"{lang}/{kind}/{number}"
                rows += [
                    Record(
                        text=text.replace("{group}", term),
                        lang=lang,
                        labels={ground: int(kind == _HOSTILE)},
                        source=SOURCE,
                        pair=frame,
                        split="test",
                        meta={"topic": ground, "target": term, "frame": frame},
                    )
                    for ground, term in terms
                ]
    return rows
