"""The card's metadata for Hugging Face: languages, licence, and results by suite and language (``model-index``)."""

from collections.abc import Iterator

from huggingface_hub import EvalResult, ModelCardData

from fineline_eval.banks import ALL
from fineline_eval.card.provenance import entry
from fineline_eval.metrics import Metric
from fineline_eval.report import Report
from fineline_eval.summary import NAMES

LANGUAGES = "zh en es fr de pt it nl pl ru tr ar hi ja ko vi id th".split()
_AUTHORED = "Held-back authored frames (development data)"


def _results(report: Report) -> Iterator[tuple[str, str, str, str, Metric]]:
    """Rows of (source, title, language, metric, value)."""
    for suite in report.suites:
        for name in suite.headline:
            yield suite.source, suite.title, ",".join(suite.langs), name, suite.metrics[name]
    for lang in report.authored.langs:
        yield "authored", _AUTHORED, lang.lang, "macro_f1", lang.macro_f1
        yield "authored", _AUTHORED, lang.lang, "lawful_flagged", lang.lawful_flagged
    for bank in report.banks.banks:
        if bank.lang != ALL:
            title = f"Bank: {bank.kind.replace('_', ' ')}"
            yield bank.kind, title, bank.lang, "flagged", bank.flagged


def metadata(report: Report) -> str:
    """The YAML block at the head of a card; results that are not defined are left out."""
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Content safety",
            dataset_type=source,
            dataset_name=title,
            dataset_config=lang,
            metric_type=name,
            metric_name=NAMES[name],
            metric_value=metric.value,
        )
        for source, title, lang, name, metric in _results(report)
        if metric.value == metric.value
    ]
    data = ModelCardData(
        language=LANGUAGES,
        license="apache-2.0",
        library_name="fineline",
        base_model=entry(report, "backbone", "model"),
        pipeline_tag="text-classification",
        tags=["content-safety", "multilingual", "onnx", "int8"],
        model_name=report.model.split("@")[0],
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"
