"""Sections of a card with what was measured: over-blocking first, then accuracy, bias, robustness, calibration."""

from fineline_eval.banks import ALL, BankKind
from fineline_eval.bias import GroupBias
from fineline_eval.floor import FLOORS
from fineline_eval.metrics import SMALL_CELL, Metric
from fineline_eval.published import published_figures
from fineline_eval.report import Report
from fineline_eval.summary import (
    FLOOR_NOTE,
    floor_cells,
    headline_rows,
    markdown_table,
    number,
    over_blocking_rows,
    shown,
)

NOTE = f"Values in percent with 95 % intervals. * fewer than {SMALL_CELL} rows."
_LANG_HEADER = ("language", "n", "lawful flagged", "recall", "macro-F1", "pairs right")
_LABEL_HEADER = ("label", "positives", "precision", "recall", "F1", "AP", "calibration error", "Brier")
_BIAS_HEADER = ("", "n", "lawful flagged", "hostile missed", "verdict flips", "subgroup AUC", "BPSN AUC", "BNSP AUC")
_EVASION_HEADER = (
    "evasion", "texts", "recall", "recall, evaded", "lawful flagged", "lawful flagged, evaded", "change of score",
    "change, lawful",
)  # fmt: skip
_LONG_HEADER = (
    "characters",
    "texts",
    "sentence alone",
    "at the start",
    "in the middle",
    "at the end",
    "lawful flagged",
)

_BIAS_NOTE = """\
The same sentences said of many groups ({n:,} texts, {terms:,} terms), so that only the group can change the verdict.
Flips: share of texts judged unlike most texts of their sentence. AUCs after Borkan et al. (2019). Gaps are highest less
lowest share; they are never below zero, so read them beside those of another model. No language has more than {most} of
these sentences, and intervals draw sentences: a cell of hundreds of texts rests on no more, star or not. A gap's star
counts the rows of its smallest group. On held-back authored text the gap between languages in lawful text flagged is
{gap}."""
_EVASION_NOTE = """\
Words hidden in held-back flagged texts, and the same done to lawful ones; thresholds unchanged. The same kinds occur
in training."""
_LONG_NOTE = """\
One flagged sentence in a long lawful text, and the long text without it. The lawful texts are held-back ones on the
labels' own topics, set one after another: harder than a document of everyday prose, and few."""
_TERM_NOTE = "Terms with the lowest areas, chosen for being low:"


def marked(metric: Metric) -> str:
    """Value and interval, with a star where few rows stand behind it."""
    text = shown(metric)
    return f"{text} *" if metric.n < SMALL_CELL and text != "-" else text


def _slice_sections(report: Report) -> list[str]:
    sections = []
    for suite in report.suites:
        rows = [
            (
                part.name,
                "must pass" if part.lawful else "must be flagged",
                f"{part.flagged.n:,}",
                marked(part.flagged),
                *floor_cells(part.floors),
            )
            for part in suite.slices
        ]
        if rows:
            header = ("slice", "", "n", "Fineline", *FLOORS)
            sections.append(f"### {suite.title}, share flagged\n\n{markdown_table(header, rows)}")
    return sections


def _bank_table(report: Report, kind: BankKind, name: str) -> str:
    """All texts of a kind, then by language, then by topic or form."""
    banks = [bank for bank in report.banks.banks if bank.kind == kind]
    langs = [(bank.lang, "all", f"{bank.flagged.n:,}", marked(bank.flagged)) for bank in banks]
    topics = [
        (bank.lang, part.topic, f"{part.flagged.n:,}", marked(part.flagged))
        for bank in banks
        if bank.lang == ALL
        for part in bank.topics
    ]
    return markdown_table(("language", name, "n", "flagged"), [*langs, *topics])


def over_blocking(report: Report) -> list[str]:
    """Lawful text flagged: suites, acts, and the banks of questions."""
    acts = [(row.act, f"{row.lawful_flagged.n:,}", marked(row.lawful_flagged)) for row in report.authored.acts]
    banks = report.banks
    return [
        f"{NOTE} Policy `{report.policy}`, shipped int8 artefact.",
        markdown_table(("lawful text that must pass", "n", "flagged", *FLOORS), over_blocking_rows(report)),
        "By act, held-back authored lawful items:",
        markdown_table(("act", "n", "flagged"), acts),
        f"Questions that must not be refused, by language and topic (cap of GB/T 45654-2025: {number(banks.cap)}; our "
        f"goal: {number(banks.goal)}):",
        _bank_table(report, BankKind.SHOULD_NOT_REFUSE, "topic"),
        "Functional tests that must pass, by language and form (`banks/must_pass_*.yaml`):",
        _bank_table(report, BankKind.MUST_PASS, "form"),
    ]


def accuracy(report: Report) -> list[str]:
    """Suites beside floors and published figures, whole and by slice."""
    figures = [figure for suite in report.suites for figure in published_figures(suite.id)]
    citations = "\n".join(dict.fromkeys(f"- {figure.model}: {figure.source}" for figure in figures))
    missing = [f"Not measured, not in the mirror: {', '.join(report.missing)}."] if report.missing else []
    return [
        markdown_table(("suite", "n", "Fineline", *FLOORS, "others"), headline_rows(report)),
        *missing,
        f"{FLOOR_NOTE} Others' figures are published ones, not rerun.\n\n{citations}".rstrip(),
        "Functional tests that must be flagged, by language and form (`banks/must_flag_*.yaml`):",
        _bank_table(report, BankKind.MUST_FLAG, "form"),
        *_slice_sections(report),
    ]


def by_language(report: Report) -> list[str]:
    """The held-back frames by language."""
    rows = [
        (row.lang, f"{row.n:,}", *map(marked, (row.lawful_flagged, row.recall, row.macro_f1, row.pairs_right)))
        for row in report.authored.langs
    ]
    return [
        "Held-back authored frames; development data, thresholds were chosen on them.",
        markdown_table(_LANG_HEADER, rows),
    ]


def by_label(report: Report) -> list[str]:
    """The held-back frames by label, with calibration."""
    brier = {part.name: part.brier for part in report.reliability.labels}
    rows = []
    for result in report.authored.labels:
        mark = " *" if result.positives < SMALL_CELL else ""
        score = brier.get(result.label)
        rows.append(
            (
                f"`{result.label}`",
                f"{result.positives}{mark}",
                shown(result.precision),
                shown(result.recall),
                shown(result.f1),
                number(result.average_precision),
                number(result.calibration_error),
                f"{score.value:.4f}" if score and score.value == score.value else "-",
            )
        )
    return [markdown_table(_LABEL_HEADER, rows)]


def _bias_row(group: GroupBias) -> tuple[str, ...]:
    rates = (group.lawful_flagged, group.hostile_missed, group.flip_rate)
    areas = (group.auc.subgroup, group.auc.bpsn, group.auc.bnsp)
    return (group.name, f"{group.n:,}", *map(marked, rates), *map(marked, areas))


def bias(report: Report) -> list[str]:
    """Identity swaps by ground and language, gaps, and the terms that fare worst."""
    found = report.bias
    gaps = [
        ("between grounds", marked(found.ground_gap.lawful_flagged), marked(found.ground_gap.hostile_missed)),
        ("between languages", marked(found.lang_gap.lawful_flagged), marked(found.lang_gap.hostile_missed)),
        *(
            (f"between grounds, {lang.rates.name}", marked(lang.ground_gap.lawful_flagged),
             marked(lang.ground_gap.hostile_missed))
            for lang in found.langs
        ),
    ]  # fmt: skip
    terms = [
        (row.term, row.lang, row.ground, *map(marked, (row.auc.subgroup, row.auc.bpsn, row.auc.bnsp)))
        for row in found.worst_terms
    ]
    note = _BIAS_NOTE.format(
        n=found.n,
        terms=sum(lang.terms for lang in found.langs),
        most=max((lang.spread.score_gap.n for lang in found.langs), default=0),
        gap=marked(found.authored_lang_gap.lawful_flagged),
    )
    return [
        note,
        f"Verdict flips overall: {marked(found.flip_rate)}. Mean standard deviation of the highest probability "
        f"within a sentence: {marked(found.spread.deviation)}; highest less lowest: {marked(found.spread.score_gap)}.",
        markdown_table(("gap", "lawful flagged", "hostile missed"), gaps),
        markdown_table(("ground", *_BIAS_HEADER[1:]), [_bias_row(group) for group in found.grounds]),
        markdown_table(("language", *_BIAS_HEADER[1:]), [_bias_row(lang.rates) for lang in found.langs]),
        _TERM_NOTE,
        markdown_table(("term", "language", "ground", "subgroup AUC", "BPSN AUC", "BNSP AUC"), terms),
    ]


def robustness(report: Report) -> list[str]:
    """Evasions on flagged and lawful text, and long texts."""
    evasions = [
        (
            f"{row.kind}, {row.group}",
            f"{row.recall.n:,}",
            *map(marked, (row.recall, row.recall_evaded, row.lawful_flagged, row.lawful_flagged_evaded)),
            *map(marked, (row.flagged_change, row.lawful_change)),
        )
        for row in report.robustness.evasions
    ]
    lengths = [
        (
            f"{row.characters:,}, {row.group}",
            f"{row.alone.n:,}",
            *map(marked, (row.alone, row.start, row.middle, row.end, row.lawful_flagged)),
        )
        for row in report.long_texts.lengths
    ]
    return [
        _EVASION_NOTE,
        markdown_table(_EVASION_HEADER, evasions),
        _LONG_NOTE,
        markdown_table(_LONG_HEADER, lengths),
    ]


def calibration(report: Report) -> list[str]:
    """Class-wise calibration error and selective risk."""
    found = report.reliability
    rows = [
        (part.name, f"{part.n:,}", f"{part.positives:,}", number(part.calibration_error), f"{part.brier.value:.4f}")
        for part in (found.overall, *found.langs)
    ]
    return [
        f"Class-wise expected calibration error {number(found.calibration_error)}; area under the risk-coverage curve "
        f"{number(found.curve_area)}. Calibration was fitted on these rows: this is the best case.",
        markdown_table(("judgements", "n", "positives", "calibration error", "Brier"), rows),
    ]
