"""Floors: what the majority, a learned keyword list and character n-grams reach. What is not above them is no model.

All three learn from the same training rows and are judged on the suite's own. The keyword list is learned too: the
words that most set flagged rows apart; nobody wrote it, and it is kept nowhere.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.feature_selection import chi2
from sklearn.linear_model import SGDClassifier

from fineline.files import replacing
from fineline.text import normalise
from fineline_eval.suites import Suite
from fineline_training.records import Record

NGRAMS, KEYWORDS, MAJORITY = "ngrams", "keywords", "majority"
FLOORS = {
    NGRAMS: "character n-gram logistic regression",
    KEYWORDS: "learned keyword list",
    MAJORITY: "majority class",
}
_SEED = 7
_LIST_LENGTH, _MIN_ROWS, _MIN_LIFT = 500, 5, 3.0
"""Words of the list; rows a word must stand in; how many times more often it must stand in flagged rows."""
_WORD = re.compile(r"(?P<run>[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+)|[^\W\d_]+")

Flags = dict[str, NDArray[np.bool_]]


def floor_truth(suite: Suite, record: Record) -> bool | None:
    """What a training row knows of a suite's target: true, false, or ``None`` when it cannot tell."""
    if suite.truth(record):
        return True
    wanted = set(suite.labels)
    known = wanted & set(record.labels)
    # A set that reads only one ground as absent says little; most of the target must be known to be absent.
    return False if len(known) * 2 > len(wanted) else None


def _words(text: str) -> Iterator[str]:
    """Words; in scripts that set no spaces, every two and three characters in a row."""
    for match in _WORD.finditer(text.casefold()):
        word = match[0]
        if match["run"] is None:
            yield word
        else:
            yield from (word[i : i + size] for size in (2, 3) for i in range(len(word) - size + 1))


def _keyword_flags(train: Sequence[str], truth: NDArray[np.bool_], texts: Sequence[str]) -> NDArray[np.bool_]:
    """Flag a text that holds a word of the learned list."""
    vectorizer = CountVectorizer(analyzer=_words, binary=True, dtype=np.int32)
    features = vectorizer.fit_transform(train)
    inside, outside = (np.asarray(features[truth == side].sum(axis=0)).ravel() for side in (True, False))
    lift = inside / truth.sum() >= _MIN_LIFT * outside / (~truth).sum()
    scores = np.where(lift & (inside + outside >= _MIN_ROWS), chi2(features, truth)[0], 0.0)
    best = np.argsort(-scores, kind="stable")[:_LIST_LENGTH]
    listed = best[scores[best] > 0]
    return np.asarray(vectorizer.transform(texts)[:, listed].sum(axis=1)).ravel() > 0


def _ngram_flags(train: Sequence[str], truth: NDArray[np.bool_], texts: Sequence[str]) -> NDArray[np.bool_]:
    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4), n_features=2**20, alternate_sign=False)
    model = SGDClassifier(
        loss="log_loss", alpha=2e-6, class_weight="balanced", random_state=_SEED, max_iter=200, tol=2e-3
    )
    model.fit(vectorizer.transform(train), truth)
    return np.asarray(model.predict(vectorizer.transform(texts)), dtype=np.bool_)


def _kept(cache: Path | None, suite: Suite, train: Sequence[tuple[str, bool]], texts: Sequence[str]) -> Path | None:
    """File of these rows' flags; the code that makes them is part of its name."""
    if cache is None:
        return None
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for part in (*(f"{truth:d}{text}" for text, truth in train), "", *texts):
        digest.update(part.encode("utf-8", "replace") + b"\x1e")
    return cache / f"floor-{suite.id}-{digest.hexdigest()[:16]}.npy"


def floor_flags(
    suite: Suite, train: Sequence[Record], texts: Sequence[str], langs: Sequence[str], cache: Path | None = None
) -> tuple[Flags, int]:
    """Train the floors on rows of the suite's languages and judge its texts.

    Args:
        suite: Gives the target.
        train: Rows of the released mixture's sources.
        texts: Texts of the suite.
        langs: Languages of the suite.
        cache: Folder where flags are kept between runs, or ``None``.

    Returns:
        Flags of each floor, shape (texts,), and the number of training rows. There is no floor where the bundle's
        sources hold no rows of both classes in these languages, as those of another team's bundle may not.
    """
    wanted = set(langs)
    rows = [(row, floor_truth(suite, row)) for row in train if row.lang in wanted]
    known = [(row.text, truth) for row, truth in rows if truth is not None]
    if len({truth for _, truth in known}) < 2:
        return {}, len(known)
    kept = _kept(cache, suite, known, texts)
    if kept is not None and kept.is_file():
        return dict(zip(FLOORS, np.load(kept), strict=True)), len(known)
    learned = [normalise(text).text for text, _ in known]
    truth = np.array([truth for _, truth in known], dtype=np.bool_)
    judged = [normalise(text).text for text in texts]
    flags = {
        NGRAMS: _ngram_flags(learned, truth, judged),
        KEYWORDS: _keyword_flags(learned, truth, judged),
        MAJORITY: np.full(len(texts), bool(truth.mean() > 0.5)),
    }
    if kept is not None:
        with replacing(kept) as file:
            np.save(file, np.stack([flags[name] for name in FLOORS]))
    return flags, len(known)
