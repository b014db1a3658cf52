"""Hand-made rows and a hand-made report in which no two numbers are equal."""

from collections.abc import Callable
from typing import Any

import pytest

from fineline.taxonomy import load_taxonomy
from fineline_eval.metrics import Metric
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


def _report(start: int = 0) -> Report:
    new = _Numbers(start)

    def suite(name: str, title: str, headline: tuple[str, ...], **rest: Any) -> SuiteResult:
        return SuiteResult(
            id=name,
            title=title,
            source=name,
            n=new.count(),
            target="abuse",
            headline=headline,
            metrics=new.metrics(),
            floor=new.metrics(),
            floor_rows=new.count(),
            **rest,
        )

    return Report(
        schema=REPORT_SCHEMA,
        model="toy@one",
        policy="cn_measures",
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
        suites=(
            suite(
                "cold",
                "Cold suite",
                ("weighted_f1", "macro_f1"),
                slices=(
                    SliceResult(name="anti_bias", lawful=True, flagged=new.metric(), floor=new.metric()),
                    SliceResult(name="attack", lawful=False, flagged=new.metric(), floor=new.metric()),
                    SliceResult(name="no_floor", lawful=True, flagged=new.metric()),
                ),
                lawful_flagged=new.metric(),
                lawful_flagged_floor=new.metric(),
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
