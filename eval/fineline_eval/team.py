"""A team's held-back rows: what a bundle that was trained on the others makes of them, and the one it came from.

No suite knows a team's own labels, and none has its texts. So the new label is judged here, beside labels of the team's
rows that the earlier bundle had already. The rows share their source with those that were trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fineline import Classifier
from fineline.errors import DataError
from fineline_eval.metrics import Metric, metrics_of, resampled, share
from fineline_training.arrays import label_arrays
from fineline_training.records import Record, read_rows

_METRICS = ("precision", "recall", "f1", "lawful_flagged")


@dataclass(frozen=True, kw_only=True)
class LabelScores:
    """One bundle on one label, at its own thresholds; ``lawful_flagged`` is of rows known not to have the label."""

    average_precision: Metric
    precision: Metric
    recall: Metric
    f1: Metric
    lawful_flagged: Metric


@dataclass(frozen=True, kw_only=True)
class TeamLabel:
    """One label that the team's rows know.

    Attributes:
        label: Its id.
        n: Rows that know it.
        positives: Those that have it.
        after: The bundle under test.
        before: The bundle it came from; ``None`` where that did not have the label.
        gain: Change in average precision on the same rows; ``None`` likewise.
    """

    label: str
    n: int
    positives: int
    after: LabelScores
    before: LabelScores | None = None
    gain: Metric | None = None


@dataclass(frozen=True, kw_only=True)
class Team:
    """A team's held-back rows.

    Attributes:
        n: Their number.
        langs: Rows by language.
        before: The bundle that the one under test came from, ``""`` where none was named.
        labels: Labels of which rows of both verdicts are known.
        elsewhere: Added label to the share of lawful authored rows that it flags: it may be right there, but a share
            that surprises says that the label's own rows lack everyday text.
    """

    n: int
    langs: dict[str, int]
    before: str
    labels: tuple[TeamLabel, ...]
    elsewhere: dict[str, Metric]


def _scores(
    classifier: Classifier, rows: Sequence[Record], ids: Sequence[str]
) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Probabilities and threshold of each of the labels that a bundle has."""
    found = classifier.probabilities(classifier.logits([row.text for row in rows], [row.context for row in rows]))
    limits = classifier.bundle.meta.thresholds[classifier.policy]
    place = {label: column for column, label in enumerate(classifier.labels)}
    return {label: (found[:, place[label]], limits[label]) for label in ids if label in place}


Resample = Callable[[NDArray[np.int64]], float]
"""A metric of a resample, which is given as the number of times each row is drawn."""


def _precision(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> Resample:
    """Average precision; NaN without a row that has the label."""

    def of(weights: NDArray[np.int64]) -> float:
        return float(average_precision_score(truth, scores, sample_weight=weights)) if weights[truth].any() else np.nan

    return of


def _change(old: Resample, new: Resample) -> Resample:
    """New less old on the same rows."""
    return lambda weights: new(weights) - old(weights)


def _judged(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], limit: float, clusters: Sequence[str]
) -> LabelScores:
    found = metrics_of(truth, scores >= limit, clusters, _METRICS)
    return LabelScores(average_precision=resampled(_precision(truth, scores), clusters), **found)


def evaluate_team(
    classifier: Classifier,
    before: Classifier | None,
    rows: Sequence[Record],
    lawful: Sequence[Record],
    lawful_scores: NDArray[np.float64],
) -> Team:
    """Judge a team's held-back rows.

    Args:
        classifier: The bundle under test.
        before: The bundle it came from, or ``None``.
        rows: The rows.
        lawful: Lawful rows of the authored corpus.
        lawful_scores: Probabilities that the bundle under test gives them, columns in the order of its labels.
    """
    ids = classifier.labels
    table, _ = label_arrays(rows, ids)
    now = _scores(classifier, rows, ids)
    then = _scores(before, rows, ids) if before is not None else {}
    clusters = [row.pair for row in rows]
    labels = []
    for column, label in enumerate(ids):
        known = table[:, column] >= 0
        truth = table[known, column] == 1
        if not truth.any() or truth.all():
            continue
        names = [name for name, here in zip(clusters, known, strict=True) if here]
        scores, limit = now[label]
        earlier = then.get(label)
        gain = None
        if earlier is not None:
            gain = resampled(_change(_precision(truth, earlier[0][known]), _precision(truth, scores[known])), names)
        labels.append(
            TeamLabel(
                label=label,
                n=int(known.sum()),
                positives=int(truth.sum()),
                after=_judged(truth, scores[known], limit, names),
                before=_judged(truth, earlier[0][known], earlier[1], names) if earlier is not None else None,
                gain=gain,
            )
        )
    added = [column for column, label in enumerate(ids) if before is not None and label not in before.labels]
    frames = [row.meta.get("frame", "") for row in lawful]
    return Team(
        n=len(rows),
        langs={lang: sum(row.lang == lang for row in rows) for lang in sorted({row.lang for row in rows})},
        before=before.bundle.model_id if before is not None else "",
        labels=tuple(labels),
        elsewhere={ids[column]: share(lawful_scores[:, column] >= now[ids[column]][1], frames) for column in added},
    )


def read_team_rows(path: Path, ids: Sequence[str]) -> list[Record]:
    """Read held-back rows.

    Raises:
        DataError: The file is missing, has a row that cannot be read, or has none.
    """
    found = read_rows(path, ids=ids)
    if found.refused or not found.records:
        reason = f"line {found.refused[0].line}: {found.refused[0].reason}" if found.refused else "it has no row"
        raise DataError("team_rows", f"{path.name}: {reason}; give rows that 'fineline train --from' held back.")
    return list(found.records)
