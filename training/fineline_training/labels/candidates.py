"""One pass over a pool: the rows that could be worth labelling, a bounded number of each kind.

Three kinds, because each misses what the others find: rows whose score for a label lies closest to its threshold, rows
that are judged otherwise when their writing is not normalised, and an even sample of the pool, which also holds the
rows that the model is sure and wrong about. Only places, digests and scores stay in memory, no text.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fineline import Classifier
from fineline.encoding import Encoder
from fineline.text import View
from fineline_training.labels.pool import JUDGED, Place, PoolRow

OVERSAMPLE = 6
"""Candidates kept for each row wanted; of these are chosen the rows that stand for the others."""
_FARTHEST = 2.0
"""Log-odds between score and threshold from which the model is not uncertain: odds that differ by seven times."""
_SMALLEST_GAP = 0.1
"""Difference of a probability between the two views from which they disagree."""


class Why(StrEnum):
    """What makes a row worth labelling."""

    UNCERTAIN = "uncertain"
    VIEWS = "views disagree"
    SAMPLE = "sample of the pool"


class Candidate(NamedTuple):
    """A row that could be worth labelling.

    Attributes:
        rank: The higher, the better of its kind.
        key: Digest of its text and context.
        place: Where it stands.
        label: The label it is about; empty in a sample.
        score: Calibrated probability of that label.
    """

    rank: float
    key: int
    place: Place
    label: str = ""
    score: float = 0.0


class Best:
    """The candidates of highest rank, each text once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[Candidate] = []
        self._keys: set[int] = set()

    def add(self, candidate: Candidate) -> None:
        """Keep a candidate if it is among the best so far."""
        if candidate.key in self._keys:
            return
        self._keys.add(candidate.key)
        heapq.heappush(self._heap, candidate)
        if len(self._heap) > self._size:
            self._keys.discard(heapq.heappop(self._heap).key)

    def ranked(self) -> list[Candidate]:
        """Highest rank first."""
        return sorted(self._heap, reverse=True)


class Scores(NamedTuple):
    """Calibrated probabilities, float64, shape (texts, labels): as served, and with the writing as it is."""

    served: NDArray[np.float64]
    raw: NDArray[np.float64]


Scorer = Callable[[Sequence[str], Sequence[str | None]], Scores]


def view_scorer(classifier: Classifier) -> Scorer:
    """Score texts in both views; the model reads a text once where normalisation leaves it as it is."""
    plain = Encoder(classifier.encoder.tokenizer, classifier.encoder.spec, View.RAW)

    def score(texts: Sequence[str], contexts: Sequence[str | None]) -> Scores:
        served, raw = classifier.encode(texts, contexts), plain.encode(texts, contexts)
        differing = [
            row
            for row, (one, other) in enumerate(zip(served, raw, strict=True))
            if [window.ids.tolist() for window in one] != [window.ids.tolist() for window in other]
        ]
        parts = [*served, *(raw[row] for row in differing)]
        logits = classifier.engine.logits([window for windows in parts for window in windows])
        starts = np.cumsum([0, *(len(windows) for windows in parts[:-1])])
        found = classifier.probabilities(np.maximum.reduceat(logits, starts, axis=0))
        scores = Scores(found[: len(texts)], found[: len(texts)].copy())
        scores.raw[differing] = found[len(texts) :]
        return scores

    return score


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How many rows of each kind; what the first two cannot fill, the sample does.

    Attributes:
        uncertain: Rows by label.
        views: Rows that the views judge otherwise.
        total: All rows.
    """

    uncertain: Mapping[str, int]
    views: int
    total: int

    @classmethod
    def split(cls, total: int, labels: Sequence[str]) -> "Wanted":
        """Half for uncertainty, spread evenly over the labels, a fifth for the views, the rest for the sample."""
        half, count = total // 2, len(labels)
        uncertain = {label: half * (at + 1) // count - half * at // count for at, label in enumerate(labels)}
        return cls(uncertain=uncertain, views=total // 5, total=total)


class Kept(NamedTuple):
    """Candidates by kind, best first."""

    uncertain: dict[str, list[Candidate]]
    views: list[Candidate]
    sample: list[Candidate]


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(clipped / (1 - clipped)), dtype=np.float64)


def gather(
    chunks: Iterable[Sequence[PoolRow]],
    score: Scorer,
    wanted: Wanted,
    *,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    counts: Counter[str],
    on_rows: Callable[[int], None] = lambda count: None,
) -> Kept:
    """Judge a pool and keep candidates.

    Args:
        chunks: Rows of the pool.
        score: Judges texts.
        wanted: How many rows are wanted in the end.
        labels: Labels of the score's columns, in their order.
        thresholds: Threshold by label.
        counts: Gains the rows judged.
        on_rows: Told the number of rows after each chunk.
    """
    watched = list(wanted.uncertain)
    columns = [labels.index(label) for label in watched]
    limits = _log_odds(np.array([thresholds[label] for label in watched]))
    uncertain = [Best(OVERSAMPLE * count) for count in wanted.uncertain.values()]
    views, sample = Best(OVERSAMPLE * wanted.views), Best(wanted.total)
    for rows in chunks:
        scores = score([row.document.text for row in rows], [row.document.context for row in rows])
        served, raw = scores.served[:, columns], scores.raw[:, columns]
        distances, gaps = np.abs(_log_odds(served) - limits), np.abs(served - raw)
        for at, (place, key, _) in enumerate(rows):
            for column in np.flatnonzero(distances[at] <= _FARTHEST):
                rank, found = -float(distances[at, column]), float(served[at, column])
                uncertain[column].add(Candidate(rank, key, place, watched[column], found))
            widest = int(gaps[at].argmax())
            if (gap := float(gaps[at, widest])) >= _SMALLEST_GAP:
                views.add(Candidate(gap, key, place, watched[widest], float(served[at, widest])))
            sample.add(Candidate(-float(key), key, place))
        counts[JUDGED] += len(rows)
        on_rows(len(rows))
    ranked = {label: best.ranked() for label, best in zip(watched, uncertain, strict=True)}
    return Kept(ranked, views.ranked(), sample.ranked())
