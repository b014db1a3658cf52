"""Hand-made rows and a hand-made report in which no two numbers are equal."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fineline.taxonomy import load_taxonomy
from fineline_eval.areas import Auc
from fineline_eval.banks import BankKind, BankResult, Banks, TopicResult
from fineline_eval.bias import Bias, Gap, GroupBias, LangBias, Spread, TermBias
from fineline_eval.floor import FLOORS
from fineline_eval.gates import load_gates, record_floors
from fineline_eval.long_texts import LengthResult, LongTexts
from fineline_eval.measures import report_measures
from fineline_eval.metrics import Metric
from fineline_eval.reliability import CoveragePoint, Reliability, ReliabilityBin, ReliabilityReport
from fineline_eval.report import (
    REPORT_SCHEMA,
    ActResult,
    Authored,
    LabelResult,
    LangResult,
    Report,
    SliceResult,
    Speed,
    SuiteResult,
)
from fineline_eval.robustness import EvasionResult, Robustness
from fineline_eval.served import HttpParity, Served
from fineline_training.records import Record

METRICS = ("weighted_f1", "macro_f1", "f1", "precision", "recall", "lawful_flagged")


class _Numbers:
    """Numbers that are all different, also after rounding to one decimal of a percent."""

    def __init__(self, start: int) -> None:
        self.last = start

    def count(self) -> int:
        self.last += 1
        return 1000 + self.last

    def share(self) -> float:
        self.last += 1
        return self.last / 1000

    def metric(self) -> Metric:
        return Metric(value=self.share(), low=self.share(), high=self.share(), n=self.count())

    def floors(self) -> dict[str, Metric]:
        return {name: self.metric() for name in FLOORS}

    def metrics(self) -> dict[str, Metric]:
        return {name: self.metric() for name in METRICS}


def _manifest(new: _Numbers) -> dict[str, Any]:
    def gap(lang: str) -> dict[str, Any]:
        return {"lang": lang, "rows": new.count(), "mean": new.share(), "worst": new.share()}

    ids = ("authored", "cold")
    return {
        "recipe": {"name": "toy", "data": {"sources": {name: {"weight": new.share()} for name in ids}}},
        "backbone": {"model": "tiny", "licence": "none"},
        "data": {
            "sources": [
                {
                    "id": name,
                    "licence": "MIT",
                    "attribution": f"{name} | its authors",
                    "kept": new.count(),
                    "dropped": {"too short": new.count(), "equal": new.count()},
                }
                for name in ids
            ]
        },
        "stations": {"fit": {"minutes": new.share(), "peak_memory_gib": new.share()}},
        "environment": {"python": "three"},
        "parity": {
            "fp32": [gap("en"), gap("zh")],
            "int8": [gap("en"), gap("zh")],
            "int8_alone_worst": new.share(),
            "decisions": [{"lang": "en", "rows": new.count(), "same": new.share()}],
        },
        "note": None,
    }


def _banks(new: _Numbers) -> Banks:
    def bank(kind: BankKind, lang: str) -> BankResult:
        topics = tuple(TopicResult(topic=topic, flagged=new.metric()) for topic in kind.topics[:2])
        return BankResult(kind=str(kind), lang=lang, flagged=new.metric(), topics=topics)

    banks = tuple(bank(kind, lang) for kind in BankKind for lang in ("all", "en"))
    return Banks(cap=new.share(), goal=new.share(), floor=new.share(), banks=banks)


def _bias(new: _Numbers) -> Bias:
    def gap() -> Gap:
        return Gap(lawful_flagged=new.metric(), hostile_missed=new.metric())

    def auc() -> Auc:
        return Auc(subgroup=new.metric(), bpsn=new.metric(), bnsp=new.metric())

    def group(name: str) -> GroupBias:
        rates = {field: new.metric() for field in ("lawful_flagged", "hostile_missed", "flip_rate")}
        return GroupBias(name=name, n=new.count(), auc=auc(), **rates)

    def spread() -> Spread:
        return Spread(deviation=new.metric(), score_gap=new.metric())

    return Bias(
        n=new.count(),
        authored=new.count(),
        flip_rate=new.metric(),
        spread=spread(),
        ground_gap=gap(),
        lang_gap=gap(),
        authored_lang_gap=gap(),
        grounds=tuple(group(label) for label in load_taxonomy().group("discrimination")[:2]),
        langs=tuple(
            LangBias(rates=group(lang), terms=new.count(), spread=spread(), ground_gap=gap()) for lang in ("en", "zh")
        ),
        worst_terms=(TermBias(term="nurses", lang="en", ground="discrimination/occupation", auc=auc()),),
    )


def _robustness(new: _Numbers) -> Robustness:
    names = [field.name for field in fields(EvasionResult) if field.type is Metric]
    return Robustness(
        evasions=tuple(
            EvasionResult(kind=kind, group="en", **{name: new.metric() for name in names})
            for kind in ("spaces", "emoji")
        )
    )


def _long_texts(new: _Numbers) -> LongTexts:
    names = [field.name for field in fields(LengthResult) if field.type is Metric]
    return LongTexts(
        lengths=tuple(
            LengthResult(group="all", characters=new.count(), **{name: new.metric() for name in names})
            for _ in range(2)
        )
    )


def _reliability(new: _Numbers) -> ReliabilityReport:
    def part(name: str) -> Reliability:
        bins = tuple(
            ReliabilityBin(start=start, predicted=start + 0.05, observed=new.share(), n=new.count())
            for start in (0.0, 0.5)
        )
        return Reliability(
            name=name,
            n=new.count(),
            positives=new.count(),
            calibration_error=new.share(),
            brier=new.metric(),
            bins=bins,
        )

    return ReliabilityReport(
        calibration_error=new.share(),
        overall=part("all"),
        labels=tuple(part(label) for label in load_taxonomy().ids[:3]),
        langs=tuple(part(lang) for lang in ("en", "zh")),
        curve=tuple(CoveragePoint(coverage=coverage, risk=new.metric()) for coverage in (0.5, 1.0)),
        curve_area=new.share(),
    )


def _report(start: int = 0) -> Report:
    new = _Numbers(start)

    def suite(name: str, title: str, headline: tuple[str, ...], **rest: Any) -> SuiteResult:
        return SuiteResult(
            id=name,
            title=title,
            source=name,
            langs=("zh",),
            n=new.count(),
            target="abuse",
            headline=headline,
            metrics=new.metrics(),
            floors={floor: new.metrics() for floor in FLOORS},
            floor_rows=new.count(),
            **rest,
        )

    return Report(
        schema=REPORT_SCHEMA,
        model="toy@one",
        policy="cn_measures",
        labels=load_taxonomy().ids,
        files={"model.onnx": "ab" * 32},
        fineline="0.0.0",
        authored=Authored(
            n=new.count(),
            pairs=new.count(),
            pairs_right=new.metric(),
            lawful_flagged=new.metric(),
            macro_f1_labels=new.share(),
            labels=tuple(
                LabelResult(
                    label=label,
                    positives=new.count(),
                    precision=new.metric(),
                    recall=new.metric(),
                    f1=new.metric(),
                    average_precision=new.share(),
                    calibration_error=new.share(),
                )
                for label in load_taxonomy().ids[:3]
            ),
            langs=tuple(
                LangResult(
                    lang=lang,
                    n=new.count(),
                    macro_f1=new.metric(),
                    recall=new.metric(),
                    lawful_flagged=new.metric(),
                    pairs_right=new.metric(),
                )
                for lang in ("en", "zh")
            ),
            acts=tuple(ActResult(act=act, lawful_flagged=new.metric()) for act in ("mention", "report")),
        ),
        banks=_banks(new),
        bias=_bias(new),
        robustness=_robustness(new),
        long_texts=_long_texts(new),
        reliability=_reliability(new),
        served=Served(
            golden_gap=new.share(),
            golden_tolerance=new.share(),
            http=tuple(HttpParity(lang=lang, same=new.metric()) for lang in ("en", "zh")),
        ),
        suites=(
            suite(
                "cold",
                "Cold suite",
                ("weighted_f1", "macro_f1"),
                slices=(
                    SliceResult(name="anti_bias", lawful=True, flagged=new.metric(), floors=new.floors()),
                    SliceResult(name="attack", lawful=False, flagged=new.metric(), floors=new.floors()),
                ),
                lawful_flagged=new.metric(),
                lawful_flagged_floors=new.floors(),
            ),
            suite("edos", "Sexism suite", ("f1",)),
            suite("vihos", "Clean suite", ("lawful_flagged",), lawful_flagged=new.metric()),
        ),
        missing=("xstest",),
        speed=Speed(
            machine="a machine",
            threads=new.count(),
            single_ms=new.share(),
            batch_ms=new.share(),
            tokens=new.count(),
            n=new.count(),
        ),
        manifest=_manifest(new),
        minutes=new.share(),
    )


def _row(text: str = "text", **fields: Any) -> Record:
    return Record(**{"text": text, "lang": "en", "labels": {}, "source": "authored"} | fields)


@pytest.fixture
def make_report() -> Callable[..., Report]:
    """Reports with other starts share no number."""
    return _report


@pytest.fixture
def report() -> Report:
    return _report()


@pytest.fixture(scope="session")
def row() -> Callable[..., Record]:
    """An English authored row that knows nothing, with the fields given."""
    return _row


class _RuleScorer:
    """Stands for a scorer: a rule gives the probabilities of a row by label, and 0.5 is every threshold."""

    labels = load_taxonomy().ids

    def __init__(self, rule: Callable[[Record], dict[str, float]]) -> None:
        self.rule = rule
        self.seen: dict[str, list[Record]] = {}

    def probabilities(self, name: str, rows: Sequence[Record]) -> NDArray[np.float64]:
        self.seen[name] = list(rows)
        return np.array([[self.rule(row).get(label, 0.0) for label in self.labels] for row in rows]).reshape(
            len(rows), len(self.labels)
        )

    def flags(self, probabilities: NDArray[np.float64], labels: Sequence[str]) -> NDArray[np.bool_]:
        return (probabilities[:, [self.labels.index(label) for label in labels]] >= 0.5).any(axis=1)


@pytest.fixture(scope="session")
def rule_scorer() -> type[_RuleScorer]:
    """A scorer made of a rule; it remembers the rows of each call by name."""
    return _RuleScorer


@pytest.fixture
def floors(report):
    """Floors recorded from the report."""
    return record_floors(report_measures(report), load_gates(), model=report.model, policy=report.policy)
