"""Long texts: is one flagged sentence found wherever it stands, and does length alone make lawful text flagged?

The classifier reads a long text in windows and takes the highest score, so a long text has more chances to be flagged
than a short one, and a sentence may be drowned by what shares its window. Both are measured on the same long texts,
made of held-back lawful texts of one language, with a held-back flagged one at the start, in the middle or at the end.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fineline_eval.metrics import Metric, share
from fineline_eval.robustness import GROUPS, language_group
from fineline_eval.scoring import Scorer
from fineline_training.records import Record

PLACES = ("start", "middle", "end")
ALL = "all"
CASES = {2_000: 14, 8_000: 5, 20_000: 3}
"""Length in characters to sentences of each group of languages: a long text costs as much as a hundred short ones."""
PROSE = frozenset({"answer", "essay", "letter", "news", "notice", "review", "story"})
"""Registers in which long texts are written; a long text of chat lines would be a text that nobody sends."""
_LEAST_PROSE = 1_000
"""Characters of lawful prose below which a language is left out: a long text would be a few texts over and over."""
_LONGEST_SENTENCE = 200
_SEED = 7


@dataclass(frozen=True, kw_only=True)
class LengthResult:
    """Long texts of one length in one group of languages.

    A sentence counts as caught when one of its own labels is flagged, so that a false alarm about another part of the
    text seldom counts as a catch.

    Attributes:
        group: Group of languages, or ``all``.
        characters: Least length of the lawful text around the sentence.
        alone: Share of the sentences caught by themselves.
        start: Share caught before the lawful text.
        middle: Share caught in its middle.
        end: Share caught after it.
        lawful_flagged: Share of the lawful texts without the sentence that are flagged by any label.
    """

    group: str
    characters: int
    alone: Metric
    start: Metric
    middle: Metric
    end: Metric
    lawful_flagged: Metric


@dataclass(frozen=True, kw_only=True)
class LongTexts:
    """All lengths, shortest first; within a length all languages together, then the groups."""

    lengths: tuple[LengthResult, ...]


def _prose(rows: Sequence[Record]) -> dict[str, list[str]]:
    """Lawful prose by language."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if not row.unlawful and row.meta.get("register") in PROSE:
            found[row.lang].append(row.text)
    return {lang: texts for lang, texts in found.items() if sum(map(len, texts)) >= _LEAST_PROSE}


def _sentences(rows: Sequence[Record], langs: Mapping[str, list[str]]) -> dict[str, list[int]]:
    """Flagged sentences by group, in a fixed random order that takes the languages of a group in turn."""
    fit = [
        index
        for index, row in enumerate(rows)
        if any(row.labels.values()) and row.lang in langs and not row.context and len(row.text) <= _LONGEST_SENTENCE
    ]
    random.Random(_SEED).shuffle(fit)
    seen: Counter[str] = Counter()
    turns = {}
    for index in fit:
        turns[index] = seen[rows[index].lang]
        seen[rows[index].lang] += 1
    groups: dict[str, list[int]] = {group: [] for group in GROUPS}
    for index in sorted(fit, key=turns.__getitem__):
        groups[language_group(rows[index].lang)].append(index)
    return groups


def _filled(texts: Sequence[str], characters: int, rng: random.Random) -> list[str]:
    """Texts in random order up to a length; where they do not suffice, all of them again in another order."""
    parts: list[str] = []
    length = 0
    while length < characters:
        for text in rng.sample(texts, len(texts)):
            parts.append(text)
            length += len(text) + 1
            if length >= characters:
                break
    return parts


def _variants(row: Record, parts: Sequence[str]) -> list[Record]:
    """The sentence at each of ``PLACES``, then the text without it."""
    at = {"start": 0, "middle": len(parts) // 2, "end": len(parts)}
    with_sentence = [replace(row, text="\n".join([*parts[: at[x]], row.text, *parts[at[x] :]])) for x in PLACES]
    return [*with_sentence, replace(row, text="\n".join(parts), labels={})]


def _own_label(row: Record, probabilities: NDArray[np.float64], scorer: Scorer) -> bool:
    labels = [label for label, value in row.labels.items() if value]
    return bool(scorer.flags(probabilities[None], labels)[0])


def evaluate_long_texts(
    rows: Sequence[Record],
    probabilities: NDArray[np.float64],
    scorer: Scorer,
    *,
    cases: Mapping[int, int] = CASES,
) -> LongTexts:
    """Set flagged sentences into long lawful texts.

    Four model calls a sentence, length and group of languages, 264 long texts in all: with windows of 192 tokens that
    is about 5,000 windows, most of them for Chinese. A language without enough lawful prose is left out.

    Args:
        rows: Authored development rows.
        probabilities: Calibrated, of the rows as they are, shape (rows, labels).
        scorer: Scores the long texts and decides at the policy's thresholds.
        cases: Length in characters to number of sentences of each group of languages.

    Returns:
        Results with intervals over the frames of the sentences.
    """
    prose = _prose(rows)
    sentences = _sentences(rows, prose)
    results = []
    for characters, count in sorted(cases.items()):
        chosen = [index for group in GROUPS for index in sentences[group][:count]]
        if not chosen:
            continue
        texts = []
        for index in chosen:
            row = rows[index]
            parts = _filled(prose[row.lang], characters, random.Random(f"{characters}/{row.text}"))
            texts += _variants(row, parts)
        scored = scorer.probabilities(f"long-{characters}", texts).reshape(len(chosen), len(PLACES) + 1, -1)
        found = {
            place: np.array([_own_label(rows[i], scored[n, p], scorer) for n, i in enumerate(chosen)])
            for p, place in enumerate(PLACES)
        }
        found["alone"] = np.array([_own_label(rows[i], probabilities[i], scorer) for i in chosen])
        found["lawful_flagged"] = scorer.flags(scored[:, -1], scorer.labels)
        groups = np.array([language_group(rows[i].lang) for i in chosen])
        for group in (ALL, *GROUPS):
            inside = np.flatnonzero(groups == group) if group != ALL else np.arange(len(chosen))
            if len(inside):
                frames = [rows[chosen[n]].meta.get("frame", "") for n in inside]
                shares = {name: share(hits[inside], frames) for name, hits in found.items()}
                results.append(LengthResult(group=group, characters=characters, **shares))
    return LongTexts(lengths=tuple(results))
