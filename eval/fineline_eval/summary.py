"""Short tables from a report: for the terminal, and for the README's results block."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from fineline.errors import ConfigError
from fineline_eval.banks import ALL, BankKind
from fineline_eval.floor import FLOORS
from fineline_eval.metrics import Metric
from fineline_eval.published import published_figures
from fineline_eval.report import Report, SuiteResult

FLOOR_NOTE = (
    "Floors, in percent: " + ", ".join(f"{name} ({what})" for name, what in FLOORS.items()) + "; trained on all "
    "training rows of the same sources that know the target, in the suite's languages; judged on the same test rows."
)

BEGIN, END = "<!-- results:begin (written by 'fineline card') -->", "<!-- results:end -->"

NAMES = {
    "weighted_f1": "weighted F1",
    "macro_f1": "macro-F1",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "lawful_flagged": "lawful flagged",
    "accuracy": "accuracy",
    "flagged": "flagged",
}


_BANK_NAMES = {
    BankKind.SHOULD_NOT_REFUSE: "questions that must not be refused",
    BankKind.SHOULD_REFUSE: "requests that should be refused",
    BankKind.MUST_PASS: "functional tests that must pass",
    BankKind.MUST_FLAG: "functional tests that must be flagged",
}


def number(value: float) -> str:
    """A share or score with one decimal, in percent points."""
    return "-" if value != value else f"{100 * value:.1f}"


def shown(metric: Metric | None) -> str:
    """Value and interval, in percent points."""
    if metric is None or metric.value != metric.value:
        return "-"
    if metric.low != metric.low:
        return number(metric.value)
    return f"{number(metric.value)} ({number(metric.low)} to {number(metric.high)})"


def floor_cells(floors: Mapping[str, Metric] | None) -> tuple[str, ...]:
    """The value of each floor; a dash where there is none."""
    return tuple(number(floors[name].value) if floors and name in floors else "-" for name in FLOORS)


def headline_rows(report: Report) -> list[tuple[str, ...]]:
    """Rows of (what, n, classifier, each floor, published by others)."""
    rows: list[tuple[str, ...]] = [
        (f"{_BANK_NAMES[kind]}: flagged", f"{bank.flagged.n:,}", shown(bank.flagged), *floor_cells(None), "")
        for kind in (BankKind.SHOULD_REFUSE, BankKind.MUST_FLAG)
        for bank in report.banks.banks
        if bank.kind == kind and bank.lang == ALL
    ]
    for suite in report.suites:
        for name in suite.headline:
            floors = floor_cells({floor: metrics[name] for floor, metrics in suite.floors.items()})
            metric = suite.metrics[name]
            if name == "lawful_flagged" and suite.lawful_flagged is not None:
                metric = suite.lawful_flagged  # as in the list of lawful parts, over its own clusters
            rows.append((f"{suite.title}: {NAMES[name]}", f"{metric.n:,}", shown(metric), *floors, ""))
        for figure in published_figures(suite.id):
            rows.append(
                (
                    f"{suite.title}: {NAMES[figure.metric]}, {figure.model}",
                    "",
                    "",
                    *("" for _ in FLOORS),
                    f"{number(figure.value)} [published]",
                )
            )
    return rows


def over_blocking_rows(report: Report) -> list[tuple[str, ...]]:
    """Rows of (lawful text, n, share flagged by the classifier, by each floor)."""
    rows: list[tuple[str, ...]] = [
        (
            "authored lawful items, held-back frames (development data), any label",
            f"{report.authored.lawful_flagged.n:,}",
            shown(report.authored.lawful_flagged),
            *floor_cells(None),
        ),
        *(
            (_BANK_NAMES[kind], f"{bank.flagged.n:,}", shown(bank.flagged), *floor_cells(None))
            for kind in (BankKind.SHOULD_NOT_REFUSE, BankKind.MUST_PASS)
            for bank in report.banks.banks
            if bank.kind == kind and bank.lang == ALL
        ),
    ]
    for suite in report.suites:
        for part in _lawful_parts(suite):
            rows.append(part)
    return rows


def _lawful_parts(suite: SuiteResult) -> list[tuple[str, ...]]:
    if suite.lawful_flagged is None:
        return []
    rows: list[tuple[str, ...]] = [
        (
            f"{suite.title}, lawful cases",
            f"{suite.lawful_flagged.n:,}",
            shown(suite.lawful_flagged),
            *floor_cells(suite.lawful_flagged_floors),
        )
    ]
    if suite.id == "cold":
        rows += [
            (f"{suite.title}, {part.name}", f"{part.flagged.n:,}", shown(part.flagged), *floor_cells(part.floors))
            for part in suite.slices
            if part.lawful
        ]
    return rows


def summary_table(report: Report) -> Table:
    """The headline for a terminal."""
    table = Table(
        "what", "n", "classifier, % (95 % interval)", *FLOORS, title=f"{report.model}, policy {report.policy}"
    )
    for what, *cells in over_blocking_rows(report):
        table.add_row(f"lawful flagged: {what}", *cells)
    for what, n, value, *floors, published in headline_rows(report):
        table.add_row(what, n, value or published, *floors)
    authored = report.authored
    table.add_row(
        "authored pairs right on both sides (development)",
        f"{authored.pairs:,}",
        shown(authored.pairs_right),
        *floor_cells(None),
    )
    return table


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table."""
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def speed_line(report: Report) -> str:
    """Milliseconds a text, with the machine named."""
    speed = report.speed
    return (
        f"Speed on {speed.machine}, {speed.threads} threads, median {speed.tokens} tokens, n = {speed.n}: "
        f"{speed.single_ms} ms a text alone, {speed.batch_ms} ms in a batch."
    )


def results_block(report: Report) -> str:
    """The README's results, over-blocking first."""
    over = markdown_table(
        ("lawful text that must pass", "n", "flagged, % (95 % interval)", *FLOORS), over_blocking_rows(report)
    )
    head = markdown_table(("suite", "n", "Fineline, % (95 % interval)", *FLOORS, "others, %"), headline_rows(report))
    authored = report.authored
    with_rows = sum(1 for label in authored.labels if label.positives)
    lead = (
        f"Model `{report.model}`, int8, policy `{report.policy}`. {FLOOR_NOTE} "
        "Published figures are other authors' own, not rerun."
    )
    held_back = (
        f"Held-back authored frames (development data: thresholds were chosen on them): {authored.n:,} texts in "
        f"{len(authored.langs)} languages; {shown(authored.pairs_right)} % of {authored.pairs:,} act-against-topic "
        f"pairs right on both sides; mean F1 over {with_rows} labels {number(authored.macro_f1_labels)} %."
    )
    return "\n\n".join(
        [
            BEGIN,
            lead,
            over,
            head,
            held_back,
            speed_line(report),
            END,
        ]
    )


def replace_results(readme: str, report: Report) -> str:
    """A README with its results block rendered anew.

    Raises:
        ConfigError: The README has no block.
    """
    begin, end = readme.find(BEGIN), readme.find(END)
    if begin < 0 or end < begin:
        raise ConfigError("readme_block", f"The README has no results block: add the lines '{BEGIN}' and '{END}'.")
    return readme[:begin] + results_block(report) + readme[end + len(END) :]
