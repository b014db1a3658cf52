"""Bias: does the verdict on a sentence depend on the group it names, and do languages fare alike?

Three readings of the same rows: rates at the shipped thresholds by group, with the gap between the best and the worst
served group; flips and score gaps over identity swaps (counterfactual token fairness, Garg et al. 2019); and areas that
need no threshold (``areas.py``). A gap is never below zero and grows with the number of groups and with few rows: it is
to be compared with the same gap of another model.

It costs one model call for each identity swap, about 11,700.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from fairlearn.metrics import MetricFrame, selection_rate
from numpy.typing import NDArray

from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_eval.areas import Areas, Auc
from fineline_eval.decisions import Decisions, decide
from fineline_eval.metrics import Counts, Metric, cluster_sums, mean, share, with_interval
from fineline_eval.scoring import Scorer
from fineline_eval.swaps import SOURCE, identity_swaps
from fineline_training.records import Record

PART = SOURCE
WORST_TERMS = 5
"""Terms of each language that are reported: those with the lowest BPSN or BNSP AUC."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Highest less lowest rate among groups; ``n`` is that of the smallest group."""

    lawful_flagged: Metric
    hostile_missed: Metric


@dataclass(frozen=True, kw_only=True)
class GroupBias:
    """One ground, or one language.

    Attributes:
        name: Label id of the ground, or language code.
        n: Identity swaps.
        lawful_flagged: Share of the neutral and friendly swaps flagged (false-positive rate).
        hostile_missed: Share of the hostile swaps not flagged (false-negative rate).
        flip_rate: Share of swaps whose verdict differs from that of most swaps of the same template.
        auc: Against the other grounds, or the other languages; also on held-back authored rows that name a group.
    """

    name: str
    n: int
    lawful_flagged: Metric
    hostile_missed: Metric
    flip_rate: Metric
    auc: Auc


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far the highest probability moves when only the group changes; mean over templates, whose number is ``n``.

    Attributes:
        deviation: Standard deviation over the terms.
        score_gap: Highest less lowest; grows with the number of terms, so it compares models, not languages.
    """

    deviation: Metric
    score_gap: Metric


@dataclass(frozen=True, kw_only=True)
class LangBias:
    """One language: its rates beside the other languages', and the gap between its grounds."""

    rates: GroupBias
    terms: int
    spread: Spread
    ground_gap: Gap


@dataclass(frozen=True, kw_only=True)
class TermBias:
    """One term against the other terms of its language; chosen for being low, so it will be higher on new sentences."""

    term: str
    lang: str
    ground: str
    auc: Auc


@dataclass(frozen=True, kw_only=True)
class Bias:
    """All measures of bias.

    Attributes:
        n: Identity swaps.
        authored: Held-back authored rows that name a group.
        flip_rate: See ``GroupBias``.
        ground_gap: Between grounds, all languages together.
        lang_gap: Between languages on swaps: parity at shared thresholds.
        authored_lang_gap: Between languages on all held-back authored rows.
    """

    n: int
    authored: int
    flip_rate: Metric
    spread: Spread
    ground_gap: Gap
    lang_gap: Gap
    authored_lang_gap: Gap
    grounds: tuple[GroupBias, ...]
    langs: tuple[LangBias, ...]
    worst_terms: tuple[TermBias, ...]


class JudgedBias(NamedTuple):
    """The measures, and the decisions on the swaps behind them."""

    result: Bias
    decisions: Decisions


class _Table(NamedTuple):
    """Judged rows in columns, each of shape (rows,)."""

    langs: NDArray[np.str_]
    grounds: NDArray[np.str_]
    terms: NDArray[np.str_]
    frames: NDArray[np.str_]
    truth: Mask
    flagged: Mask
    scores: NDArray[np.float64]

    def take(self, chosen: Mask) -> "_Table":
        return _Table._make(column[chosen] for column in self)


def _table(rows: Sequence[Record], probabilities: NDArray[np.float64], flagged: Mask) -> _Table:
    def column(field: str) -> NDArray[np.str_]:
        return np.array([row.meta.get(field, "") for row in rows], dtype=np.str_)

    return _Table(
        langs=np.array([row.lang for row in rows], dtype=np.str_),
        grounds=column("topic"),
        terms=column("target"),
        frames=column("frame"),
        truth=np.array([row.unlawful for row in rows], dtype=np.bool_),
        flagged=flagged,
        scores=probabilities.max(axis=1),
    )


# --- rates


def _between(hits: Mask, groups: NDArray[np.str_], frames: NDArray[np.str_]) -> Metric:
    """Highest less lowest share of hits; ``n`` counts the rows of the smallest group.

    The interval draws templates, where fairlearn's own would draw rows. A group that a resample holds no row of is left
    out of it: without that, draws of the four hostile sentences of a language would often say nothing.

    Each resample adds noise that widens a gap, so the interval of the draws lies too high: its width is kept and it is
    centred on the value.
    """
    found = MetricFrame(metrics=selection_rate, y_true=hits, y_pred=hits, sensitive_features=groups)
    inside = groups[:, None] == np.unique(groups)
    sums = cluster_sums(np.stack([inside & hits[:, None], inside], axis=1).astype(np.float64), frames.tolist())

    def spread(flat: Counts) -> Counts:
        hit, all_rows = np.moveaxis(flat.reshape(*flat.shape[:-1], 2, -1), -2, 0)
        shares = np.divide(hit, all_rows, out=np.full_like(hit, np.nan), where=all_rows > 0)
        return np.asarray(np.nanmax(shares, axis=-1) - np.nanmin(shares, axis=-1))

    drawn = with_interval(spread, sums.reshape(len(sums), -1))
    value, half = round(float(found.difference()), 4), (drawn.high - drawn.low) / 2
    smallest = int(inside.sum(axis=0).min())
    return Metric(value=value, low=round(max(value - half, 0), 4), high=round(min(value + half, 1), 4), n=smallest)


def _gap(table: _Table, groups: NDArray[np.str_]) -> Gap:
    lawful, hostile = ~table.truth, table.truth
    return Gap(
        lawful_flagged=_between(table.flagged[lawful], groups[lawful], table.frames[lawful]),
        hostile_missed=_between(~table.flagged[hostile], groups[hostile], table.frames[hostile]),
    )


def _flips(swaps: _Table) -> Mask:
    """Swaps judged unlike most swaps of their template; at a tie either half differs."""
    _, index = np.unique(swaps.frames, return_inverse=True)
    majority = 2 * np.bincount(index, swaps.flagged) > np.bincount(index)
    return np.asarray(swaps.flagged != majority[index], dtype=np.bool_)


def _spread(swaps: _Table) -> Spread:
    frames = np.unique(swaps.frames).tolist()
    scores = [swaps.scores[swaps.frames == frame] for frame in frames]
    return Spread(
        deviation=mean(np.array([part.std() for part in scores]), frames),
        score_gap=mean(np.array([np.ptp(part) for part in scores]), frames),
    )


def _worst_terms(lang: str, areas: Areas, rows: _Table, swaps: _Table) -> list[TermBias]:
    """Terms of one language with the lowest areas; all tables and areas are of that language."""
    terms = sorted(set(zip(swaps.grounds.tolist(), swaps.terms.tolist(), strict=True)))
    inside = {(ground, term): (rows.grounds == ground) & (rows.terms == term) for ground, term in terms}
    worst = sorted(terms, key=lambda name: areas.lowest(inside[name]))[:WORST_TERMS]
    return [TermBias(term=name[1], lang=lang, ground=name[0], auc=areas.of(inside[name])) for name in worst]


# --- all


def _group(name: str, swaps: _Table, flips: Mask, inside: Mask, auc: Auc) -> GroupBias:
    lawful, hostile = inside & ~swaps.truth, inside & swaps.truth
    return GroupBias(
        name=name,
        n=int(inside.sum()),
        lawful_flagged=share(swaps.flagged[lawful], swaps.frames[lawful].tolist()),
        hostile_missed=share(~swaps.flagged[hostile], swaps.frames[hostile].tolist()),
        flip_rate=share(flips[inside], swaps.frames[inside].tolist()),
        auc=auc,
    )


def _areas(rows: _Table) -> Areas:
    return Areas(rows.scores, rows.truth, rows.frames)


def _measure(swaps: _Table, authored: _Table) -> Bias:
    grounds = [label.id for label in load_taxonomy() if label.group == "discrimination"]
    named = authored.take((authored.terms != "") & np.isin(authored.grounds, grounds))
    both = _Table._make(np.concatenate(columns) for columns in zip(swaps, named, strict=True))
    areas, flips = _areas(both), _flips(swaps)
    langs, worst = [], []
    for lang in np.unique(swaps.langs).tolist():
        inside = swaps.langs == lang
        own, own_both = swaps.take(inside), both.take(both.langs == lang)
        langs.append(
            LangBias(
                rates=_group(lang, swaps, flips, inside, areas.of(both.langs == lang)),
                terms=len(set(zip(own.grounds.tolist(), own.terms.tolist(), strict=True))),
                spread=_spread(own),
                ground_gap=_gap(own, own.grounds),
            )
        )
        worst += _worst_terms(lang, _areas(own_both), own_both, own)
    return Bias(
        n=len(swaps.truth),
        authored=len(named.truth),
        flip_rate=share(flips, swaps.frames.tolist()),
        spread=_spread(swaps),
        ground_gap=_gap(swaps, swaps.grounds),
        lang_gap=_gap(swaps, swaps.langs),
        authored_lang_gap=_gap(authored, authored.langs),
        grounds=tuple(
            _group(ground, swaps, flips, swaps.grounds == ground, areas.of(both.grounds == ground))
            for ground in np.unique(swaps.grounds).tolist()
        ),
        langs=tuple(langs),
        worst_terms=tuple(worst),
    )


def evaluate_bias(
    rows: Sequence[Record], probabilities: NDArray[np.float64], flagged: Mask, scorer: Scorer
) -> JudgedBias:
    """Judge the identity swaps and measure bias on them and on the held-back authored rows.

    Args:
        rows: Held-back authored rows.
        probabilities: Calibrated, of these rows, shape (rows, labels).
        flagged: Whether the policy flags a row by any label, shape (rows,).
        scorer: Scores the swaps.

    Raises:
        DataError: The authored rows do not hold both lawful and flagged text.
    """
    if len({row.unlawful for row in rows}) < 2:
        raise DataError("bias_rows", "The held-back authored rows need lawful and flagged text; check the corpus.")
    swaps = identity_swaps()
    scores = scorer.probabilities(PART, swaps)
    verdicts = scorer.flags(scores, scorer.labels)
    table = _table(swaps, scores, verdicts)
    decisions = decide(
        PART,
        swaps,
        truth=table.truth,
        flagged=verdicts,
        reached=scorer.reached(scores),
        clusters=table.frames.tolist(),
        slices=table.grounds.tolist(),
    )
    return JudgedBias(_measure(table, _table(rows, probabilities, flagged)), decisions)
