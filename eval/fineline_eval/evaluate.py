"""Run every part of the evaluation on a bundle: one report, and the decisions behind it."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import fineline
from fineline import Classifier
from fineline.errors import DataError
from fineline_eval.authored import evaluate_authored
from fineline_eval.banks import BankKind, evaluate_banks, load_banks
from fineline_eval.bias import evaluate_bias
from fineline_eval.decisions import Decisions, decide
from fineline_eval.judge import judge_suite
from fineline_eval.long_texts import evaluate_long_texts
from fineline_eval.reliability import evaluate_reliability
from fineline_eval.report import REPORT_SCHEMA, Report
from fineline_eval.robustness import evaluate_robustness
from fineline_eval.scoring import Scorer
from fineline_eval.served import evaluate_served
from fineline_eval.speed import measure_speed
from fineline_eval.suites import Suite, load_suites, read_suite
from fineline_eval.team import Team, evaluate_team, read_team_rows
from fineline_training.build import build_dataset
from fineline_training.records import Record
from fineline_training.sources.registry import AUTHORED


class Evaluation(NamedTuple):
    """A report, and the decisions on each row that it rests on."""

    report: Report
    decisions: tuple[Decisions, ...]


def _suite_rows(suite: Suite, mirror: Path | None) -> list[Record] | None:
    """Rows of a suite; ``None`` where the mirror lacks it."""
    if mirror is None:
        return None
    try:
        return read_suite(suite, mirror)
    except DataError as error:
        if error.code != "source_missing":
            raise
        return None


def _row_decisions(
    part: str, rows: Sequence[Record], probabilities: NDArray[np.float64], scorer: Scorer, *, cluster: str, by: str
) -> Decisions:
    """Decisions on rows that any label of the taxonomy may flag; ``cluster`` and ``by`` are fields of their meta."""
    return decide(
        part,
        rows,
        truth=np.array([row.unlawful for row in rows], dtype=np.bool_),
        flagged=scorer.flags(probabilities, scorer.labels),
        reached=scorer.reached(probabilities),
        clusters=[row.meta.get(cluster, "") for row in rows],
        slices=[row.meta.get(by, "") for row in rows],
    )


def _bank_decisions(texts: Sequence[Record], scores: NDArray[np.float64], scorer: Scorer) -> Iterator[Decisions]:
    """Decisions on the texts of each kind of bank."""
    for kind in BankKind:
        chosen = [index for index, row in enumerate(texts) if row.meta["kind"] == kind]
        rows = [texts[index] for index in chosen]
        yield _row_decisions(str(kind), rows, scores[chosen], scorer, cluster="", by="topic")


def _team(path: Path, before: Path | None, rows: Sequence[Record], scorer: Scorer, threads: int) -> Team:
    """A team's held-back rows, judged by the bundle under test and by the one it came from."""
    now = scorer.classifier
    earlier = Classifier.load(before, policy=now.policy, threads=threads) if before is not None else None
    lawful = [place for place, row in enumerate(rows) if not row.unlawful]
    scores = scorer.all_probabilities(AUTHORED, rows)[lawful]
    return evaluate_team(now, earlier, read_team_rows(path, now.labels), [rows[place] for place in lawful], scores)


def evaluate(
    bundle: Path | None,
    mirror: Path | None,
    *,
    policy: str,
    cache: Path | None,
    console: Console,
    threads: int = 2,
    floors: bool = True,
    team: Path | None = None,
    before: Path | None = None,
) -> Evaluation:
    """Evaluate a bundle on every suite the mirror has, and on all parts made of authored text.

    Args:
        bundle: Folder of the bundle; the default model when ``None``.
        mirror: Local copy of the public sets; without it only the parts made of authored text are judged.
        policy: Policy whose thresholds decide.
        cache: Folder where logits are kept between runs.
        console: Where progress is shown.
        threads: Threads of the engine.
        floors: Train the floors on the bundle's sources, too; they say nothing of the bundle.
        team: File of a team's held-back rows, or ``None``.
        before: Bundle that the one under test came from, for the team's rows.
    """
    began = time.monotonic()
    classifier = Classifier.load(bundle, policy=policy, threads=threads)
    meta = classifier.bundle.meta
    data = meta.manifest.get("data", {})
    listed = [row["id"] for row in data.get("sources", [])] if isinstance(data, dict) else []
    sources = listed if mirror is not None and floors else []
    built = build_dataset([*sources, AUTHORED], mirror, required=False, progress=True)
    train = [row for row in built.records if row.split == "train" and row.source in sources]
    rows = [row for row in built.records if row.split == "dev" and row.source == AUTHORED]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results, decisions, missing = [], [], []
    with Progress(*columns, console=console) as progress:
        scorer = Scorer(classifier, cache, progress)
        overall = progress.add_task("parts", total=len(load_suites()) + 5)
        scores = scorer.probabilities(AUTHORED, rows)
        flagged = scorer.flags(scores, scorer.labels)
        decisions.append(_row_decisions(AUTHORED, rows, scores, scorer, cluster="frame", by="act"))
        held_back = evaluate_authored(rows, scores, flagged, scorer.thresholds)
        reliability = evaluate_reliability(rows, scores, flagged, scorer.thresholds)
        progress.advance(overall)
        texts = load_banks()
        bank_scores = scorer.probabilities("banks", texts)
        banks = evaluate_banks(texts, bank_scores, scorer)
        decisions += _bank_decisions(texts, bank_scores, scorer)
        progress.advance(overall)
        robustness = evaluate_robustness(rows, scores, scorer)
        progress.advance(overall)
        long_texts = evaluate_long_texts(rows, scores, scorer)
        progress.advance(overall)
        bias, swaps = evaluate_bias(rows, scores, flagged, scorer)
        decisions.append(swaps)
        progress.advance(overall)
        own = _team(team, before, rows, scorer, threads) if team is not None else None
        for suite in load_suites():
            suite_rows = _suite_rows(suite, mirror)
            if suite_rows is None:
                missing.append(suite.id)
            else:
                judged = judge_suite(suite, suite_rows, train, scorer)
                results.append(judged.result)
                decisions.append(judged.decisions)
            progress.advance(overall)
    report = Report(
        schema=REPORT_SCHEMA,
        model=classifier.bundle.model_id,
        policy=policy,
        labels=meta.labels,
        own_labels=meta.own_labels,
        team=own,
        files=dict(meta.files),
        digest=meta.digest,
        fineline=fineline.__version__,
        authored=held_back,
        banks=banks,
        bias=bias,
        robustness=robustness,
        long_texts=long_texts,
        reliability=reliability,
        served=evaluate_served(classifier, rows),
        suites=tuple(results),
        missing=tuple(missing),
        speed=measure_speed(classifier, rows, threads),
        manifest=meta.manifest,
        minutes=round((time.monotonic() - began) / 60, 2),
    )
    return Evaluation(report, tuple(decisions))
