"""What the training rows are made of, and how varied the authored corpus is.

A *frame* is a text as written: all expansions of a text with a slot are one frame. Rows of a label are the flagged ones
that carry it and the lawful ones on its topic.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from fineline.taxonomy import load_taxonomy
from fineline_training.corpus import Item
from fineline_training.records import Record

FRAME_LIMIT = 0.01
"""Largest share of a label's rows that one frame may give: with more, the model learns the template."""
ANSWER = "answer"
ANSWER_WORDS = range(40, 151)
ANSWER_CHARACTERS = {"zh": range(60, 261), "ja": range(60, 261), "th": range(160, 761)}
"""The same length in writing without spaces; Thai letters spell sounds, so a word takes about five."""
NOT_STATED = "not stated"


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Rows that are known to break a rule, and rows that break none."""

    flagged: int
    lawful: int


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Training rows, counted five ways; public sources name no act or register.

    Attributes:
        all: All training rows.
        held_back: Development rows, which are counted nowhere else here.
        labels: By label: flagged rows that carry it, lawful rows that are known not to.
        languages: By language.
        acts: By act.
        registers: By kind of text.
        sources: By source.
    """

    all: Tally
    held_back: int
    labels: Mapping[str, Tally]
    languages: Mapping[str, Tally]
    acts: Mapping[str, Tally]
    registers: Mapping[str, Tally]
    sources: Mapping[str, Tally]


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How varied one part of the authored corpus is. Shares lie between 0 and 1.

    Attributes:
        flagged: Rows that perform a flagged act.
        lawful: Rows that perform a lawful one.
        frames: Distinct texts as written.
        paired: Share of rows that stand in a group with both verdicts.
        biggest: Share of rows that come from the biggest frame.
        answers: Share of frames that are an assistant's answer of 40 to 150 words (``ANSWER_CHARACTERS`` in unspaced
            writing).
        context: Share of rows with a context.
        similarity: Mean over frames of the cosine to the nearest frame of the same label and language that stands in
            another group (TF-IDF of character 3-grams); ``None`` where there is no other group. Twins in one group are
            alike on purpose.
    """

    flagged: int
    lawful: int
    frames: int
    paired: float
    biggest: float
    answers: float
    context: float
    similarity: float | None


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Variety of the authored corpus by label, by language, and by label and language."""

    labels: Mapping[str, Variety]
    languages: Mapping[str, Variety]
    cells: Mapping[str, Mapping[str, Variety]]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Training rows, the authored corpus, and the sources that the mirror lacks."""

    rows: Rows
    corpus: Corpus
    missing: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def _tally(rows: Iterable[Record]) -> Tally:
    flags = Counter(row.unlawful for row in rows)
    return Tally(flagged=flags[True], lawful=flags[False])


def _by(rows: Iterable[Record], key: Callable[[Record], str]) -> dict[str, Tally]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        groups[key(row) or NOT_STATED].append(row)
    return {name: _tally(groups[name]) for name in sorted(groups, key=lambda name: (-len(groups[name]), name))}


def count_rows(records: Sequence[Record]) -> Rows:
    """Count the rows of a built data set; only those of the split ``train`` are training rows."""
    rows = [record for record in records if record.split == "train"]
    labels = {
        label: Tally(
            flagged=sum(row.labels.get(label) == 1 for row in rows),
            lawful=sum(row.labels.get(label) == 0 and not row.unlawful for row in rows),
        )
        for label in load_taxonomy().ids
    }
    return Rows(
        all=_tally(rows),
        held_back=len(records) - len(rows),
        labels=labels,
        languages=_by(rows, lambda row: row.lang),
        acts=_by(rows, lambda row: row.meta.get("act", "")),
        registers=_by(rows, lambda row: row.meta.get("register", "")),
        sources=_by(rows, lambda row: row.source),
    )


def _frame(item: Item) -> tuple[str, str]:
    return item.lang, item.wording


def _labelled(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Rows by label, in the taxonomy's order."""
    rows: dict[str, list[Item]] = {label: [] for label in load_taxonomy().ids}
    for item in items:
        for label in item.labels or (item.topic,):
            rows[label].append(item)
    return {label: found for label, found in rows.items() if found}


def _is_answer(item: Item) -> bool:
    """Whether a text is an assistant's answer of the length that generators write."""
    if item.lang in ANSWER_CHARACTERS:
        fits = len(item.wording) in ANSWER_CHARACTERS[item.lang]
    else:
        fits = len(item.wording.split()) in ANSWER_WORDS
    return fits and item.register == ANSWER


def _similarity(frames: Sequence[Item]) -> float | None:
    """Mean cosine of each frame to the nearest one outside its group."""
    groups = np.unique([item.frame for item in frames], return_inverse=True)[1]
    if groups.max() == 0:
        return None
    # Spaces around, so that a text of one character has a 3-gram too; the slot's own letters are nobody's wording.
    texts = [f" {item.wording.replace('{group}', '')} " for item in frames]
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(3, 3), dtype=np.float32).fit_transform(texts)
    cosine = (vectors @ vectors.T).toarray()
    cosine[groups[:, None] == groups[None, :]] = 0.0
    return float(cosine.max(axis=1).mean())


def _variety(rows: Sequence[Item], twins: frozenset[str], similarity: float | None) -> Variety:
    frames = {_frame(item): item for item in rows}
    flagged = sum(item.flagged for item in rows)
    return Variety(
        flagged=flagged,
        lawful=len(rows) - flagged,
        frames=len(frames),
        paired=sum(item.pair in twins for item in rows) / len(rows),
        biggest=Counter(map(_frame, rows)).most_common(1)[0][1] / len(rows),
        answers=sum(map(_is_answer, frames.values())) / len(frames),
        context=sum(item.context is not None for item in rows) / len(rows),
        similarity=similarity,
    )


def _mean(cells: Iterable[Variety]) -> float | None:
    """Mean similarity over the frames of several cells."""
    known = [(cell.similarity, cell.frames) for cell in cells if cell.similarity is not None]
    return sum(value * frames for value, frames in known) / sum(frames for _, frames in known) if known else None


def _langs(items: Sequence[Item]) -> list[str]:
    """Languages, the one with most rows first."""
    return [lang for lang, _ in Counter(item.lang for item in items).most_common()]


def measure_corpus(items: Sequence[Item]) -> Corpus:
    """Measure how varied the authored corpus is."""
    verdicts: dict[str, set[bool]] = defaultdict(set)
    for item in items:
        verdicts[item.pair].add(item.flagged)
    twins = frozenset(pair for pair, found in verdicts.items() if len(found) == 2)
    labelled = _labelled(items)
    languages = {lang: [item for item in items if item.lang == lang] for lang in _langs(items)}
    cells: dict[str, dict[str, Variety]] = defaultdict(dict)
    for label, rows in labelled.items():
        for lang in languages:
            if part := [item for item in rows if item.lang == lang]:
                # One row a frame, the first of each, as the frames are what is compared.
                frames = list({_frame(item): item for item in reversed(part)}.values())
                cells[label][lang] = _variety(part, twins, _similarity(frames))
    return Corpus(
        labels={label: _variety(rows, twins, _mean(cells[label].values())) for label, rows in labelled.items()},
        languages={
            lang: _variety(rows, twins, _mean(by_lang[lang] for by_lang in cells.values() if lang in by_lang))
            for lang, rows in languages.items()
        },
        cells=dict(cells),
    )
