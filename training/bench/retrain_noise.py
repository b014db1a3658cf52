"""Labels turned round on purpose: how many of them ``fineline labels clean`` ranks first, and what they cost."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fineline import Classifier
from fineline.bundle import load_bundle
from fineline_eval.team import evaluate_team, read_team_rows
from fineline_training.labels.clean import find_doubts
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import SET_ASIDE
from fineline_training.recipe import Recipe
from fineline_training.retrain import Retrain
from retrain_sets import LABEL

FIRST = 0.2
"""Share of the ranking that is looked at."""
_LAST = "bundle"
"""The last station that is passed: what the label gains needs no suite."""


def fitted(store: Path, recipe: Recipe, folder: Path, mirror: Path | None) -> dict[str, Any]:
    """Average precision and F1 on the held-back rows after training on a store."""
    run = Retrain(recipe, folder, start=load_bundle(), store=LabelStore.open(store), mirror=mirror)
    run.names = run.names[: run.names.index(_LAST) + 1]
    run.all()
    classifier = Classifier.load(folder / "bundle")
    rows = read_team_rows(folder / "held.jsonl.gz", classifier.labels)
    [found] = evaluate_team(classifier, None, rows, [], np.zeros((0, len(classifier.labels)))).labels
    return {"ap": asdict(found.after.average_precision), "f1": asdict(found.after.f1)}


def find_turned(noisy: Path, turned: list[str], cleaned: Path) -> dict[str, Any]:
    """How many turned labels are ranked first; and a store in which the likely errors are set aside.

    Args:
        noisy: Store with some labels turned round.
        turned: Ids of these rows.
        cleaned: The store to write.
    """
    store = LabelStore.open(noisy)
    rows = store.rows()
    [doubts] = find_doubts([row for row in rows if row.split != "test"], [LABEL])
    first = {suspect.id for suspect in doubts.ranked[: round(FIRST * len(doubts.ranked))]}
    issues = {suspect.id for suspect in doubts.issues}
    shutil.rmtree(cleaned, ignore_errors=True)
    shutil.copytree(noisy, cleaned)
    aside = [replace(row, meta={**row.meta, SET_ASIDE: LABEL}) if row.id in issues else row for row in rows]
    LabelStore.open(cleaned).replace_rows(aside)
    return {
        "rows": len(doubts.ranked),
        "wrong": len(turned),
        "first_share": FIRST,
        "found_in_first": len(first & set(turned)) / len(turned),
        "issues": len(issues),
        "found_in_issues": len(issues & set(turned)) / len(turned),
        "issues_that_are": len(issues & set(turned)) / max(1, len(issues)),
    }
