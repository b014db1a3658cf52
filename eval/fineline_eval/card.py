"""The model card: every number from ``report.json``, every definition from the taxonomy."""

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from fineline.policy import load_policies
from fineline.taxonomy import load_taxonomy
from fineline_eval.metrics import Metric
from fineline_eval.published import published_figures
from fineline_eval.report import Report
from fineline_eval.summary import NAMES, headline_rows, markdown_table, number, over_blocking_rows, shown, speed_line

SMALL_CELL = 30
"""Cells with fewer rows are marked: their interval is wide and their value moves with a handful of rows."""
LANGUAGES = "zh en es fr de pt it nl pl ru tr ar hi ja ko vi id th".split()

_LANG_HEADER = ("language", "n", "lawful flagged", "recall", "macro-F1", "pairs right")
_LABEL_HEADER = ("label", "positives", "precision", "recall", "F1", "AP", "calibration error")
_SOURCE_HEADER = ("source", "licence", "rows", "dropped", "share an epoch", "attribution")
_PARITY_HEADER = ("language", "rows", "fp32, largest", "int8, mean", "int8, largest", "decisions n", "same flags, %")

_INTRO = """\
Fineline reads a text, with the prompt it answers if there is one, and gives an independent calibrated probability for
each of {labels} labels. It judges the act, not the topic: {principle}"""

_USES = """\
**Meant for** filtering what a generator is about to say or was asked, scanning training corpora, and sending doubtful
cases to people. **Refused uses:** surveillance or scoring of persons; bulk removal of political speech; deciding that
something is unlawful, which a score cannot do; any penalty on a person from one score. The three state-interest labels
only ever ask for review. **Limits:** it sees one text and at most one prompt: not the speaker, the reach or the
situation; the truth of a claim is outside its sight; languages other than those listed are read by transfer and were
not measured."""

_DATA = """\
The authored corpus is machine-assisted writing for this project, checked by the project's rules and gates; its
held-back fifth of frames shares its writers with the training part, so results on it are higher than on writers the
model has not seen.
Public sets know only some labels; the loss and the metrics skip what a row does not know. Training texts equal, after
normalisation, to a text of any evaluation suite were removed, and a gate proved that none was left."""


_PARITY_NOTE = """\
Differences from the trained model in logits, and share of held-back authored rows on which int8 and fp32 flag the same
labels. In a batch, int8 logits differ by at most {alone} from the same text alone."""


def _marked(metric: Metric) -> str:
    text = shown(metric)
    return f"{text} *" if metric.n < SMALL_CELL and text != "-" else text


def _metadata(report: Report) -> str:
    results = [
        EvalResult(
            task_type="text-classification",
            task_name="Content safety",
            dataset_type=suite.source,
            dataset_name=suite.title,
            metric_type=name,
            metric_name=NAMES[name],
            metric_value=suite.metrics[name].value,
        )
        for suite in report.suites
        for name in suite.headline
        if suite.metrics[name].value == suite.metrics[name].value
    ]
    data = ModelCardData(
        language=LANGUAGES,
        license="apache-2.0",
        library_name="fineline",
        base_model="intfloat/multilingual-e5-small",
        pipeline_tag="text-classification",
        tags=["content-safety", "multilingual", "onnx", "int8"],
        model_name=report.model.split("@")[0],
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _label_rows(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for result in report.authored.labels:
        mark = " *" if result.positives < SMALL_CELL else ""
        rows.append(
            (
                f"`{result.label}`",
                f"{result.positives}{mark}",
                shown(result.precision),
                shown(result.recall),
                shown(result.f1),
                number(result.average_precision),
                number(result.calibration_error),
            )
        )
    return rows


def _lang_rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            row.lang,
            f"{row.n:,}",
            _marked(row.lawful_flagged),
            _marked(row.recall),
            _marked(row.macro_f1),
            _marked(row.pairs_right),
        )
        for row in report.authored.langs
    ]


def _slice_sections(report: Report) -> list[str]:
    sections = []
    for suite in report.suites:
        if not suite.slices:
            continue
        rows = [
            (part.name, "must pass" if part.lawful else "must be flagged", f"{part.flagged.n:,}", _marked(part.flagged),
             number(part.floor.value) if part.floor else "-")
            for part in suite.slices
        ]  # fmt: skip
        sections.append(
            f"### {suite.title}, share flagged\n\n" + markdown_table(("slice", "", "n", "Fineline", "floor"), rows)
        )
    return sections


def _definitions() -> str:
    rows = [
        (f"`{label.id}`", label.name_en, label.name_zh, label.definition, "; ".join(label.clauses))
        for label in load_taxonomy()
    ]
    return markdown_table(("id", "name", "名称", "definition", "clauses"), rows)


def _source_rows(manifest: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    shares = manifest["recipe"]["data"]["sources"]
    for source in manifest["data"]["sources"]:
        dropped = sum(source["dropped"].values())
        rows.append(
            (
                source["id"],
                source["licence"],
                f"{source['kept']:,}",
                f"{dropped:,}",
                f"{shares[source['id']]['weight']}",
                source["attribution"],
            )
        )
    return rows


def _parity_rows(manifest: dict[str, Any]) -> list[tuple[str, ...]]:
    parity = manifest["parity"]
    fp32 = {gap["lang"]: gap for gap in parity["fp32"]}
    decisions = {row["lang"]: row for row in parity["decisions"]}
    rows: list[tuple[str, ...]] = []
    for gap in parity["int8"]:
        lang = gap["lang"]
        same = decisions.get(lang)
        rows.append(
            (
                lang,
                str(gap["rows"]),
                f"{fp32[lang]['worst']:.5f}",
                f"{gap['mean']:.4f}",
                f"{gap['worst']:.4f}",
                f"{same['rows']:,}" if same else "-",
                number(same["same"]) if same else "-",
            )
        )
    return rows


def _training(manifest: dict[str, Any]) -> str:
    stations = ", ".join(
        f"{name} {row['minutes']} min (peak {row['peak_memory_gib']} GiB)" for name, row in manifest["stations"].items()
    )
    environment = ", ".join(f"{name} {version}" for name, version in manifest["environment"].items())
    backbone = "; ".join(f"{key}: {value}" for key, value in manifest["backbone"].items())
    recipe = manifest["recipe"]["name"]
    return f"Recipe `{recipe}`. Stations: {stations}.\n\nBackbone: {backbone}.\n\nEnvironment: {environment}."


def _citations() -> str:
    figures = [figure for suite in ("cold", "hatecheck") for figure in published_figures(suite)]
    return "\n".join(f"- {figure.model}: {figure.source}" for figure in figures)


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *parts])


def render_card(report: Report) -> str:
    """Render a model card.

    Args:
        report: Result of an evaluation; its manifest gives data, recipe and parity.

    Returns:
        Markdown with Hugging Face metadata, over-blocking first.
    """
    taxonomy = load_taxonomy()
    manifest: dict[str, Any] = dict(report.manifest)
    note = f"Values in percent with 95 % bootstrap intervals, pairs drawn together. * fewer than {SMALL_CELL} rows."
    policies = [(name, policy.title, policy.description) for name, policy in sorted(load_policies().items())]
    acts = [(row.act, f"{row.lawful_flagged.n:,}", _marked(row.lawful_flagged)) for row in report.authored.acts]
    return "\n\n".join(
        [
            _metadata(report),
            f"# {report.model}",
            _INTRO.format(labels=len(taxonomy), principle=taxonomy.principle.split(": ", 1)[1]),
            _section("Uses and limits", _USES),
            _section(
                "Over-blocking",
                f"{note} Policy `{report.policy}`, shipped int8 artefact.",
                markdown_table(("lawful text that must pass", "n", "flagged", "floor"), over_blocking_rows(report)),
                "By act, held-back authored lawful items:",
                markdown_table(("act", "n", "flagged"), acts),
            ),
            _section(
                "Accuracy",
                markdown_table(("suite", "n", "Fineline", "floor", "others"), headline_rows(report)),
                "Floor: character n-gram logistic regression on all training rows of the same sources that know the "
                "suite's target, in its languages. Others' figures are published "
                "ones, not rerun:\n\n" + _citations(),
                *_slice_sections(report),
            ),
            _section(
                "By language",
                "Held-back authored frames; development data, thresholds were chosen on them.",
                markdown_table(_LANG_HEADER, _lang_rows(report)),
            ),
            _section(
                "By label",
                markdown_table(_LABEL_HEADER, _label_rows(report)),
            ),
            _section(
                "Labels", _definitions(), "Policies:", markdown_table(("policy", "title", "what it does"), policies)
            ),
            _section(
                "Data",
                _DATA,
                markdown_table(_SOURCE_HEADER, _source_rows(manifest)),
            ),
            _section(
                "Training and artefact",
                _training(manifest),
                _PARITY_NOTE.format(alone=manifest["parity"]["int8_alone_worst"]),
                markdown_table(_PARITY_HEADER, _parity_rows(manifest)),
                speed_line(report),
            ),
        ]
    ) + "\n"  # fmt: skip
