"""Results on the held-back authored frames: labels, languages, acts, and minimal pairs."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fineline.taxonomy import load_taxonomy
from fineline_eval.metrics import Metric, metrics_of, share
from fineline_eval.reliability import calibration_error
from fineline_eval.report import ActResult, Authored, LabelResult, LangResult
from fineline_training.arrays import label_arrays
from fineline_training.records import Record


def pair_outcomes(rows: Sequence[Record], right: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[str], list[str]]:
    """Pairs with both a flagged and a lawful text: whether all of their texts are judged right; frames; languages."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row.pair:
            members[row.pair].append(index)
    outcomes, frames, langs = [], [], []
    for indices in members.values():
        flagged = {any(rows[i].labels.values()) for i in indices}
        if flagged == {True, False}:
            outcomes.append(bool(right[indices].all()))
            frames.append(rows[indices[0]].meta.get("frame", ""))
            langs.append(rows[indices[0]].lang)
    return np.array(outcomes, dtype=np.bool_), frames, langs


def _labels(
    rows: Sequence[Record], probabilities: NDArray[np.float64], thresholds: dict[str, float], clusters: list[str]
) -> tuple[LabelResult, ...]:
    ids = load_taxonomy().ids
    table, _ = label_arrays(rows, ids)
    results = []
    for column, label in enumerate(ids):
        known = table[:, column] >= 0
        truth = table[known, column] == 1
        scores = probabilities[known, column]
        names = [c for c, k in zip(clusters, known, strict=True) if k]
        found = metrics_of(truth, scores >= thresholds[label], names, ("precision", "recall", "f1"))
        area = average_precision_score(truth, scores) if truth.any() else float("nan")
        results.append(
            LabelResult(
                label=label,
                positives=int(truth.sum()),
                precision=found["precision"],
                recall=found["recall"],
                f1=found["f1"],
                average_precision=round(float(area), 4),
                calibration_error=calibration_error(scores, truth),
            )
        )
    return tuple(results)


def evaluate_authored(
    rows: Sequence[Record],
    probabilities: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    thresholds: dict[str, float],
) -> Authored:
    """Evaluate the held-back frames.

    Args:
        rows: Authored development rows.
        probabilities: Calibrated, shape (rows, labels).
        flagged: Whether the policy flags a row by any label, shape (rows,).
        thresholds: The policy's thresholds.
    """
    truth = np.array([any(row.labels.values()) for row in rows], dtype=np.bool_)
    clusters = [row.meta.get("frame", "") for row in rows]
    langs = np.array([row.lang for row in rows])
    acts = np.array([row.meta.get("act", "") for row in rows])
    outcomes, frames, pair_langs = pair_outcomes(rows, flagged == truth)

    def lawful(mask: NDArray[np.bool_]) -> Metric:
        chosen = mask & ~truth
        return share(flagged[chosen], [clusters[i] for i in np.flatnonzero(chosen)])

    by_lang = []
    for lang in sorted(set(langs.tolist())):
        mask = langs == lang
        names = [clusters[i] for i in np.flatnonzero(mask)]
        found = metrics_of(truth[mask], flagged[mask], names, ("macro_f1", "recall"))
        pairs = np.array([name == lang for name in pair_langs], dtype=np.bool_)
        by_lang.append(
            LangResult(
                lang=lang,
                n=int(mask.sum()),
                macro_f1=found["macro_f1"],
                recall=found["recall"],
                lawful_flagged=lawful(mask),
                pairs_right=share(outcomes[pairs], [frames[i] for i in np.flatnonzero(pairs)]),
            )
        )
    labels = _labels(rows, probabilities, thresholds, clusters)
    scores = [label.f1.value for label in labels if label.positives]
    return Authored(
        n=len(rows),
        pairs=len(outcomes),
        pairs_right=share(outcomes, frames),
        lawful_flagged=lawful(np.ones(len(rows), dtype=np.bool_)),
        macro_f1_labels=round(float(np.mean(scores)), 4) if scores else float("nan"),
        labels=labels,
        langs=tuple(by_lang),
        acts=tuple(
            ActResult(act=act, lawful_flagged=lawful(acts == act)) for act in sorted(set(acts[~truth].tolist()))
        ),
    )
