"""Robustness: what hiding words does to flagged and, all the same, to lawful text at the shipped thresholds.

Each kind of evasion is applied to held-back flagged texts and to held-back lawful ones. An evasion that makes the
classifier miss is one fault; a classifier that takes odd spelling itself for a fault is the other. The kinds occur in
training too, on other texts: what is held back here are the texts, not the kinds.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fineline_eval.metrics import Metric, mean, share
from fineline_eval.scoring import Scorer
from fineline_training.evasion import Evasion, evade, evasions_of
from fineline_training.records import Record

GROUPS = ("zh", "en", "other")
"""Groups of languages that are reported apart."""
MOST_TEXTS = 150
"""Texts of each verdict that a kind is applied to in each group."""
_SEED = 7


@dataclass(frozen=True, kw_only=True)
class EvasionResult:
    """One kind of evasion in one group of languages. Texts in which the kind finds nothing to change are left out.

    Attributes:
        kind: What was done to the texts.
        group: Group of languages.
        recall: Share of the flagged texts caught as written.
        recall_evaded: Share of them caught after the change.
        kept: Of those caught as written, the share still caught.
        lawful_flagged: Share of the lawful texts flagged as written.
        lawful_flagged_evaded: Share of them flagged after the change.
        lawful_extra: The second less the first, paired by text.
        flagged_change: Mean change of the highest calibrated probability of a flagged text.
        lawful_change: The same for lawful texts.
    """

    kind: str
    group: str
    recall: Metric
    recall_evaded: Metric
    kept: Metric
    lawful_flagged: Metric
    lawful_flagged_evaded: Metric
    lawful_extra: Metric
    flagged_change: Metric
    lawful_change: Metric


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """All kinds, in the order of ``Evasion`` and, within a kind, of ``GROUPS``."""

    evasions: tuple[EvasionResult, ...]


def language_group(lang: str) -> str:
    """The group a language is reported in."""
    return lang if lang in GROUPS else GROUPS[-1]


def _drawing_order(rows: Sequence[Record]) -> list[int]:
    """Pairs in a fixed random order with their texts side by side, so that lawful twins of flagged texts come along."""
    pairs = sorted({row.pair for row in rows})
    random.Random(_SEED).shuffle(pairs)
    rank = {pair: place for place, pair in enumerate(pairs)}
    return sorted(range(len(rows)), key=lambda index: rank[rows[index].pair])


def _evaded(rows: Sequence[Record], order: Sequence[int], kind: Evasion, most: int) -> Iterator[tuple[int, Record]]:
    """Up to ``most`` changed texts of each group and verdict, with the index of the row they come from."""
    taken: dict[tuple[str, bool], int] = {}
    for index in order:
        row = rows[index]
        cell = (language_group(row.lang), row.unlawful)
        if kind not in evasions_of(row.lang) or taken.get(cell, 0) == most:
            continue
        text = evade(row.text, kind, random.Random(f"{kind}/{row.text}"))
        if text != row.text:
            taken[cell] = taken.get(cell, 0) + 1
            yield index, replace(row, text=text)


def evaluate_robustness(
    rows: Sequence[Record], probabilities: NDArray[np.float64], scorer: Scorer, *, most: int = MOST_TEXTS
) -> Robustness:
    """Apply every kind of evasion to held-back texts.

    One model call a changed text: at most 12 kinds in the groups where they make sense (21 cells), twice ``most`` texts
    each, so at most 6,300 short texts; texts as written are not scored again. A cell without a flagged or without a
    lawful text is left out.

    Args:
        rows: Authored development rows.
        probabilities: Calibrated, of the texts as written, shape (rows, labels).
        scorer: Scores the changed texts and decides at the policy's thresholds.
        most: Most texts of each verdict in a cell.

    Returns:
        Results with intervals over frames: expansions of one frame with several terms are not independent texts.
    """
    labels = scorer.labels
    plain_flags = scorer.flags(probabilities, labels)
    order = _drawing_order(rows)
    results = []
    for kind in Evasion:
        cases = list(_evaded(rows, order, kind, most))
        changed = [row for _, row in cases]
        origin = np.array([index for index, _ in cases], dtype=np.int64)
        scored = scorer.probabilities(f"evasion-{kind}", changed)
        after, before = scorer.flags(scored, labels), plain_flags[origin]
        change = scored.max(axis=1) - probabilities[origin].max(axis=1)
        truth = np.array([row.unlawful for row in changed], dtype=np.bool_)
        groups = np.array([language_group(row.lang) for row in changed])
        for group in GROUPS:
            bad, good = (groups == group) & truth, (groups == group) & ~truth
            if not bad.any() or not good.any():
                continue
            caught = bad & before
            bad_frames, good_frames, caught_frames = (
                [changed[i].meta.get("frame", "") for i in np.flatnonzero(mask)] for mask in (bad, good, caught)
            )
            results.append(
                EvasionResult(
                    kind=str(kind),
                    group=group,
                    recall=share(before[bad], bad_frames),
                    recall_evaded=share(after[bad], bad_frames),
                    kept=share(after[caught], caught_frames),
                    lawful_flagged=share(before[good], good_frames),
                    lawful_flagged_evaded=share(after[good], good_frames),
                    lawful_extra=mean(after[good].astype(np.float64) - before[good], good_frames),
                    flagged_change=mean(change[bad], bad_frames),
                    lawful_change=mean(change[good], good_frames),
                )
            )
    return Robustness(evasions=tuple(results))
