"""The 31 risks of GB/T 45654-2025: what of them is a label; and an annex in the shape of a security assessment."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline.taxonomy import load_taxonomy
from fineline_eval.banks import ALL, BankKind, BankResult
from fineline_eval.card.results import marked
from fineline_eval.report import Report
from fineline_eval.summary import markdown_table, number

_FILE = Path(__file__).with_name("risks.toml")
_CLAUSE = "gbt45654-A "

_ANNEX = """\
GB/T 45654-2025 has the provider of a generator test it with banks of questions and sample its output. This annex gives
the classifier's part in that shape: it is no assessment of a generator and no statement that a service complies.
Recall: held-back authored texts (development data) flagged with that label. Bank questions: flagged with any label,
which is what a filter before a generator would refuse. The standard asks for 500 questions of each kind; here
{passing} must not be refused and {refused} should be. The standard's numbers were read in secondary sources."""


@dataclass(frozen=True, kw_only=True)
class Risk:
    """One risk of Appendix A.

    Attributes:
        id: Its place there.
        name: Short English name.
        zh: Chinese name.
        partial: Whether its labels cover it in part only.
        note: What is covered, or why it is out of scope.
    """

    id: str
    name: str
    zh: str
    partial: bool = False
    note: str = ""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels whose clauses name the risk."""
        return tuple(label.id for label in load_taxonomy() if f"{_CLAUSE}{self.id}" in label.clauses)

    @property
    def coverage(self) -> str:
        """``label``, ``partly`` or ``out of scope``."""
        if not self.labels:
            return "out of scope"
        return "partly" if self.partial else "label"


@dataclass(frozen=True, kw_only=True)
class _Risks:
    risk: tuple[Risk, ...]


@cache
def load_risks() -> tuple[Risk, ...]:
    """All risks, in the standard's order."""
    return build(_Risks, read_toml(_FILE), _FILE.name).risk


def risks() -> list[str]:
    """Which risks are labels, partly mapped, or out of scope."""
    rows = [
        (risk.id, risk.name, risk.zh, risk.coverage, ", ".join(f"`{label}`" for label in risk.labels), risk.note)
        for risk in load_risks()
    ]
    counts = {kind: sum(risk.coverage == kind for risk in load_risks()) for kind in ("label", "partly", "out of scope")}
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return [
        f"Of the {len(rows)} risks of GB/T 45654-2025, Appendix A: {told}. 'Label' means that a label was made for the "
        "risk's acts, not that every text the standard has in mind is found.",
        markdown_table(("risk", "name", "名称", "coverage", "labels", "note"), rows),
    ]


def _bank(report: Report, kind: BankKind) -> BankResult | None:
    return next((bank for bank in report.banks.banks if bank.kind == kind and bank.lang == ALL), None)


def annex(report: Report) -> list[str]:
    """Sample sizes and pass rates by risk, and both banks against the standard's bounds."""
    results = {label.label: label for label in report.authored.labels}
    refuse, pass_bank = (_bank(report, kind) for kind in (BankKind.SHOULD_REFUSE, BankKind.SHOULD_NOT_REFUSE))
    asked = {part.topic: part.flagged for part in refuse.topics} if refuse else {}
    rows = []
    for risk in load_risks():
        for label in risk.labels:
            found, questions = results.get(label), asked.get(label)
            rows.append(
                (
                    risk.id,
                    f"`{label}`",
                    f"{found.positives:,}" if found else "-",
                    marked(found.recall) if found else "-",
                    f"{questions.n:,}" if questions else "-",
                    marked(questions) if questions else "-",
                )
            )
    banks = [
        ("must not be refused", f"{pass_bank.flagged.n:,}", marked(pass_bank.flagged),
         f"at most {number(report.banks.cap)}") if pass_bank else ("must not be refused", "-", "-", "-"),
        ("should be refused", f"{refuse.flagged.n:,}", marked(refuse.flagged),
         f"at least {number(report.banks.floor)}") if refuse else ("should be refused", "-", "-", "-"),
    ]  # fmt: skip
    return [
        _ANNEX.format(
            passing=f"{pass_bank.flagged.n:,}" if pass_bank else "none",
            refused=f"{refuse.flagged.n:,}" if refuse else "none",
        ),
        markdown_table(("risk", "label", "held-back texts", "recall", "bank questions", "flagged"), rows),
        "The banks of questions against the standard's bounds for a generator:",
        markdown_table(("bank", "questions", "flagged", "bound"), banks),
    ]
