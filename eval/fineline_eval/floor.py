"""The floor: character n-gram logistic regression on the same training rows. What is not above it is no model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from fineline.errors import DataError
from fineline.text import normalise
from fineline_eval.suites import Suite
from fineline_training.records import Record

_SEED = 7


def floor_truth(suite: Suite, record: Record) -> bool | None:
    """What a training row knows of a suite's target: true, false, or ``None`` when it cannot tell."""
    if suite.truth(record):
        return True
    wanted = set(suite.labels)
    known = wanted & set(record.labels)
    # A set that reads only one ground as absent says little; most of the target must be known to be absent.
    return False if len(known) * 2 > len(wanted) else None


def floor_flags(
    suite: Suite, train: Sequence[Record], texts: Sequence[str], langs: Sequence[str]
) -> tuple[NDArray[np.bool_], int]:
    """Train the floor on rows of the suite's languages and judge its texts.

    Args:
        suite: Gives the target.
        train: Rows of the released mixture's sources.
        texts: Texts of the suite.
        langs: Languages of the suite.

    Returns:
        Flags at probability 0.5, shape (texts,), and the number of training rows.

    Raises:
        DataError: The training rows do not hold both classes.
    """
    wanted = set(langs)
    rows = [(row, floor_truth(suite, row)) for row in train if row.lang in wanted]
    known = [(row.text, truth) for row, truth in rows if truth is not None]
    if len({truth for _, truth in known}) < 2:
        raise DataError(
            "floor_rows",
            f"Suite '{suite.id}': the bundle's training sources hold no rows of both classes in {', '.join(langs)}; "
            "give a mirror that has them.",
        )
    vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 4), n_features=2**20, alternate_sign=False)
    features = vectorizer.transform(normalise(text).text for text, _ in known)
    model = SGDClassifier(
        loss="log_loss", alpha=2e-6, class_weight="balanced", random_state=_SEED, max_iter=200, tol=2e-3
    )
    model.fit(features, [truth for _, truth in known])
    flags = model.predict(vectorizer.transform(normalise(text).text for text in texts))
    return flags.astype(np.bool_), len(known)
