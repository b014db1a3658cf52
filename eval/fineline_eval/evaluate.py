"""Run all suites on a bundle and write the report."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import fineline
from fineline import Classifier
from fineline.errors import DataError
from fineline_eval.authored import evaluate_authored
from fineline_eval.floor import floor_flags
from fineline_eval.metrics import metrics_of, share
from fineline_eval.report import REPORT_SCHEMA, Report, SliceResult, Speed, SuiteResult
from fineline_eval.scoring import Scorer
from fineline_eval.suites import Suite, load_suites, read_suite
from fineline_training.build import build_dataset
from fineline_training.records import Record
from fineline_training.sources.registry import AUTHORED

_METRICS = ("weighted_f1", "macro_f1", "f1", "precision", "recall", "lawful_flagged")
_SPEED_ROWS = 200


def _slices(
    suite: Suite, rows: Sequence[Record], flagged: NDArray[np.bool_], floor: NDArray[np.bool_]
) -> tuple[SliceResult, ...]:
    if not suite.slices:
        return ()
    names = np.array([row.meta.get(suite.slices, "") for row in rows])
    results = []
    for name in sorted(set(names.tolist()) - {""}):
        chosen = np.flatnonzero(names == name).tolist()
        clusters = [rows[i].pair for i in chosen]
        results.append(
            SliceResult(
                name=name,
                lawful=not any(suite.truth(rows[i]) for i in chosen),
                flagged=share(flagged[chosen], clusters),
                floor=share(floor[chosen], clusters),
            )
        )
    return tuple(results)


def evaluate_suite(suite: Suite, rows: Sequence[Record], train: Sequence[Record], scorer: Scorer) -> SuiteResult:
    """Judge one suite with the classifier and with the floor.

    Raises:
        DataError: The suite has no row.
    """
    if not rows:
        raise DataError("suite_empty", f"Suite '{suite.id}' has no row; check its files with 'fineline data status'.")
    truth = np.array([suite.truth(row) for row in rows], dtype=np.bool_)
    flagged = scorer.flags(scorer.probabilities(suite.id, rows), suite.labels)
    floor, floor_rows = floor_flags(suite, train, [row.text for row in rows], sorted({row.lang for row in rows}))
    clusters = [row.pair for row in rows]
    lawful = [index for index, row in enumerate(rows) if suite.is_lawful_case(row)]
    names = [clusters[i] for i in lawful]
    return SuiteResult(
        id=suite.id,
        title=suite.title,
        source=suite.source,
        n=len(rows),
        target=suite.target,
        headline=suite.headline,
        metrics=metrics_of(truth, flagged, clusters, _METRICS),
        floor=metrics_of(truth, floor, clusters, _METRICS),
        floor_rows=floor_rows,
        slices=_slices(suite, rows, flagged, floor),
        lawful_flagged=share(flagged[lawful], names) if len(lawful) else None,
        lawful_flagged_floor=share(floor[lawful], names) if len(lawful) else None,
    )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def measure_speed(classifier: Classifier, rows: Sequence[Record], threads: int) -> Speed:
    """Time classification of short texts, one at a time and in one batch."""
    texts = [row.text for row in rows[:_SPEED_ROWS]]
    tokens = [len(windows[0].ids) for windows in classifier.encoder.encode(texts)]
    classifier.classify(texts[:20])
    began = time.perf_counter()
    for text in texts:
        classifier.classify([text])
    single = time.perf_counter() - began
    began = time.perf_counter()
    classifier.classify(texts)
    batch = time.perf_counter() - began
    return Speed(
        machine=_cpu_name(),
        threads=threads,
        single_ms=round(1000 * single / len(texts), 2),
        batch_ms=round(1000 * batch / len(texts), 2),
        tokens=int(np.median(tokens)),
        n=len(texts),
    )


def evaluate(
    bundle: Path | None, mirror: Path | None, *, policy: str, cache: Path | None, console: Console, threads: int = 2
) -> Report:
    """Evaluate a bundle on every suite the mirror has and on the held-back authored frames.

    Args:
        bundle: Folder of the bundle; the default model when ``None``.
        mirror: Local copy of the public sets; without it only the authored frames are judged.
        policy: Policy whose thresholds decide.
        cache: Folder where logits are kept between runs.
        console: Where progress is shown.
        threads: Threads of the engine.
    """
    began = time.monotonic()
    classifier = Classifier.load(bundle, policy=policy, threads=threads)
    meta = classifier.bundle.meta
    data = meta.manifest.get("data", {})
    listed = [row["id"] for row in data.get("sources", [])] if isinstance(data, dict) else []
    sources = listed if mirror is not None else []
    built = build_dataset([*sources, AUTHORED], mirror, required=False, progress=True)
    train = [row for row in built.records if row.split == "train" and row.source in sources]
    authored = [row for row in built.records if row.split == "dev" and row.source == AUTHORED]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results, missing = [], []
    with Progress(*columns, console=console) as progress:
        scorer = Scorer(classifier, cache, progress)
        overall = progress.add_task("suites", total=len(load_suites()) + 1)
        probabilities = scorer.probabilities("authored", authored)
        flags = scorer.flags(probabilities, classifier.labels)
        held_back = evaluate_authored(authored, probabilities, flags, meta.thresholds[policy])
        progress.advance(overall)
        for suite in load_suites():
            try:
                rows = read_suite(suite, mirror) if mirror is not None else None
            except DataError as error:
                if error.code != "source_missing":
                    raise
                rows = None
            if rows is None:
                missing.append(suite.id)
            else:
                results.append(evaluate_suite(suite, rows, train, scorer))
            progress.advance(overall)
    return Report(
        schema=REPORT_SCHEMA,
        model=classifier.bundle.model_id,
        policy=policy,
        files=dict(meta.files),
        fineline=fineline.__version__,
        authored=held_back,
        suites=tuple(results),
        missing=tuple(missing),
        speed=measure_speed(classifier, authored, threads),
        manifest=meta.manifest,
        minutes=round((time.monotonic() - began) / 60, 2),
    )
