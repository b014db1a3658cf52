"""What a run of ``fineline train --from`` found, as the benchmark's JSON holds it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from fineline import Classifier
from fineline_eval.metrics import metrics_of, resampled
from fineline_eval.report import read_report
from fineline_eval.team import read_team_rows
from retrain_sets import LABEL

_SHOWN = 12
"""Gated slices with the largest change that are listed."""


def label_result(folder: Path) -> dict[str, Any]:
    """The new label on the held-back rows, from the run's report."""
    team = read_report(folder / "eval").team
    assert team is not None
    [found] = [entry for entry in team.labels if entry.label == LABEL]
    return {
        "n": found.n,
        "positives": found.positives,
        **{name: asdict(value) for name, value in vars(found.after).items()},
        "elsewhere": asdict(team.elsewhere[LABEL]),
    }


def before(held: Path) -> dict[str, Any]:
    """The best that the shipped bundle can say of the label: its highest score of any label, and whether it flags."""
    classifier = Classifier.load()
    rows = read_team_rows(held, [LABEL])
    truth = np.array([row.labels[LABEL] == 1 for row in rows])
    texts, contexts = [row.text for row in rows], [row.context for row in rows]
    scores = classifier.probabilities(classifier.logits(texts, contexts)).max(axis=1)
    flagged = np.array([bool(verdict.flagged) for verdict in classifier.classify(texts, contexts)])
    alone = [""] * len(rows)

    def precision(weights: Any) -> float:
        return float(average_precision_score(truth, scores, sample_weight=weights))

    found = metrics_of(truth, flagged, alone, ("f1", "precision", "recall", "lawful_flagged"))
    return {
        "n": len(rows),
        "positives": int(truth.sum()),
        "average_precision": asdict(resampled(precision, alone)),
        **{name: asdict(value) for name, value in found.items()},
    }


def changes(path: Path) -> dict[str, Any]:
    """Gated slices before and after: counts by outcome, failures, and those that moved most."""
    found = json.loads(path.read_text(encoding="utf-8"))
    gated = [entry for entry in found["differences"] if entry["gate"]]
    moved = sorted(gated, key=lambda entry: -abs(entry["change"]))
    return {
        "gated": len(gated),
        **{
            outcome: sum(entry["outcome"] == outcome for entry in gated) for outcome in ("worse", "better", "undecided")
        },
        "failures": found["failures"],
        "left_out": found["left_out"],
        "moved": moved[:_SHOWN],
    }
