"""The model card: every number from ``report.json``, every definition from the taxonomy.

Sections follow Mitchell et al. (2019), "Model Cards for Model Reporting", with over-blocking first among the results.
"""

from fineline.errors import ConfigError
from fineline_eval.card import failures, provenance, results, risks
from fineline_eval.card.figures import Figure, draw_figures
from fineline_eval.card.metadata import LANGUAGES, metadata
from fineline_eval.card.team import team_section
from fineline_eval.report import Report, reading_manifest

__all__ = ["FIGURES", "LANGUAGES", "Figure", "draw_figures", "render_card"]

FIGURES = "figures"
"""Folder of the figures, beside the card."""

_DETAILS = """\
Fineline reads a text, with the prompt it answers if there is one, and gives an independent calibrated probability for
each of {labels} labels. It judges the act, not the topic: {principle} Model `{model}`, evaluated with fineline
{fineline}, policy `{policy}`. Licence: Apache-2.0."""
_INTENDED = """\
**Meant for** filtering what a generator is about to say or was asked, scanning training corpora, and sending doubtful
cases to people, by teams who measure it on their own text first.

**Refused uses:** surveillance or scoring of persons; bulk removal of political speech; deciding that something is
unlawful, which a score cannot do; any penalty on a person from one score. The three state-interest labels only ever ask
for review."""
_FACTORS = """\
Results are given by language, by label, by the act a text performs (report, criticism, satire, testimony and others),
by the group it names, by evasion and by length. **Limits:** it sees one text and at most one prompt: not the speaker,
the reach or the situation; the truth of a claim is outside its sight; languages other than those listed are read by
transfer and were not measured."""
_METRICS = """\
A text is flagged when a label reaches the policy's threshold. Lawful flagged: share of lawful text flagged. Recall:
share of text that must be flagged and is. Pairs right: share of minimal pairs, same subject and words with another act,
of which every text is judged right. Intervals are percentile bootstraps over frames, templates or functions of a set,
where it has such units, else over rows; those of the banks and of HTTP parity are exact."""
_ETHICS = """\
Filters of this kind have been used to silence criticism. Labels are narrowed to acts, lawful political speech is gated
(a release that flags more of it does not ship), state-interest labels never block by a score, and every verdict carries
the plain rule behind it, so that a person can be told why and can object."""


def _section(title: str, parts: list[str]) -> str:
    return "\n\n".join([f"## {title}", *parts])


def _shown(figure: Figure) -> str:
    return f"![{figure.alt}]({FIGURES}/{figure.name})"


def render_card(report: Report) -> str:
    """Render a model card; its figures are drawn by ``draw_figures`` and lie in ``FIGURES`` beside it.

    Args:
        report: Result of an evaluation; its manifest gives data, recipe and parity.

    Returns:
        Markdown with Hugging Face metadata.

    Raises:
        ConfigError: The report is of a bundle with labels of another taxonomy, or its manifest is incomplete.
    """
    taxonomy = report.taxonomy
    if unknown := sorted(set(report.labels) - set(taxonomy.ids)):
        raise ConfigError(
            "report_labels", f"The report has the label '{unknown[0]}', which the taxonomy does not have."
        )
    with reading_manifest():
        data, training = provenance.data_sheet(report), provenance.training(report)
    team = team_section(report)
    images = {figure.name: _shown(figure) for figure in draw_figures(report)}
    details = _DETAILS.format(
        labels=len(report.labels),
        principle=taxonomy.principle.split(": ", 1)[1],
        model=report.model,
        fineline=report.fineline,
        policy=report.policy,
    )
    sections = [
        _section("Model details", [details]),
        _section("Intended use", [_INTENDED]),
        _section("Factors and limits", [_FACTORS]),
        _section("Metrics", [_METRICS]),
        _section("Over-blocking", [*results.over_blocking(report), images["false_positives.svg"]]),
        _section("Accuracy", results.accuracy(report)),
        _section("By language", [*results.by_language(report), images["languages.svg"]]),
        _section("By label", results.by_label(report)),
        *([_section("Rows of the team", team)] if team else []),
        _section("Bias", results.bias(report)),
        _section("Robustness", results.robustness(report)),
        _section("Calibration", [*results.calibration(report), images["reliability.svg"], images["risk_coverage.svg"]]),
        _section("Failure modes", failures.failure_modes(report)),
        _section("Ethical considerations", [_ETHICS]),
        _section("Labels", provenance.definitions(report)),
        _section("Data", data),
        _section("Training and artefact", training),
        _section("GB/T 45654-2025", risks.risks()),
        _section("Annex: security assessment", risks.annex(report)),
    ]
    return "\n\n".join([metadata(report), f"# {report.model}", *sections]) + "\n"
