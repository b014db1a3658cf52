"""A report as named numbers: what gates and comparisons speak of.

A name is ``<part>/<slice>/<metric>``: ``cold/slice=anti_bias/lawful_flagged``, ``authored/label=privacy/recall``.
"""

from collections.abc import Iterator

import numpy as np

from fineline_eval.banks import ALL, BankKind, Banks
from fineline_eval.bias import Bias
from fineline_eval.metrics import Metric, share
from fineline_eval.reliability import ReliabilityReport
from fineline_eval.report import Authored, Report, SuiteResult, reading_manifest

Named = Iterator[tuple[str, Metric]]


def plain(value: float, n: int) -> Metric:
    """A number without an interval."""
    return Metric(value=value, low=float("nan"), high=float("nan"), n=n)


def _authored(authored: Authored) -> Named:
    yield "authored/all/lawful_flagged", authored.lawful_flagged
    yield "authored/all/pairs_right", authored.pairs_right
    for act in authored.acts:
        yield f"authored/slice={act.act}/lawful_flagged", act.lawful_flagged
    for lang in authored.langs:
        yield f"authored/lang={lang.lang}/lawful_flagged", lang.lawful_flagged
        yield f"authored/lang={lang.lang}/recall", lang.recall
        yield f"authored/lang={lang.lang}/pairs_right", lang.pairs_right
    for label in authored.labels:
        yield f"authored/label={label.label}/recall", label.recall


def _suite(suite: SuiteResult) -> Named:
    # Of rows of one verdict macro-F1 is half of what it is of two, and undefined where all are right.
    both = suite.metrics["recall"].n and suite.metrics["lawful_flagged"].n
    for name in ("macro_f1", "recall", "lawful_flagged") if both else ("recall", "lawful_flagged"):
        yield f"{suite.id}/all/{name}", suite.metrics[name]
    for part in suite.slices:
        yield f"{suite.id}/slice={part.name}/{'lawful_flagged' if part.lawful else 'recall'}", part.flagged


def _banks(banks: Banks) -> Named:
    for bank in banks.banks:
        metric = "lawful_flagged" if BankKind(bank.kind).lawful else "recall"
        yield f"{bank.kind}/{'all' if bank.lang == ALL else f'lang={bank.lang}'}/{metric}", bank.flagged


def _bias(bias: Bias) -> Named:
    yield "identity/all/flip_rate", bias.flip_rate
    yield "identity/all/score_gap", bias.spread.score_gap
    for name, gap in (("grounds", bias.ground_gap), ("langs", bias.lang_gap)):
        yield f"identity/{name}/lawful_gap", gap.lawful_flagged
        yield f"identity/{name}/missed_gap", gap.hostile_missed
    yield "authored/langs/lawful_gap", bias.authored_lang_gap.lawful_flagged
    for kind, groups in (("slice", bias.grounds), ("lang", tuple(lang.rates for lang in bias.langs))):
        for group in groups:
            yield f"identity/{kind}={group.name}/lawful_flagged", group.lawful_flagged
            yield f"identity/{kind}={group.name}/flip_rate", group.flip_rate
            yield f"identity/{kind}={group.name}/bpsn_auc", group.auc.bpsn
            yield f"identity/{kind}={group.name}/bnsp_auc", group.auc.bnsp


def _robustness(report: Report) -> Named:
    for row in report.robustness.evasions:
        yield f"evasion/slice={row.kind},{row.group}/recall", row.recall_evaded
        yield f"evasion/slice={row.kind},{row.group}/lawful_flagged", row.lawful_flagged_evaded
    for length in report.long_texts.lengths:
        for place, metric in (("start", length.start), ("middle", length.middle), ("end", length.end)):
            yield f"long/slice={length.characters},{length.group},{place}/recall", metric
        yield f"long/slice={length.characters},{length.group}/lawful_flagged", length.lawful_flagged


def _reliability(reliability: ReliabilityReport) -> Named:
    yield "calibration/all/calibration_error", plain(reliability.calibration_error, reliability.overall.n)
    yield "calibration/all/brier", reliability.overall.brier


def _served(report: Report) -> Named:
    yield "parity/all/golden_gap", plain(report.served.golden_gap, 0)
    for row in report.served.http:
        yield f"parity/lang={row.lang}/http_same", row.same


def _parity(report: Report) -> Named:
    parity = report.manifest.get("parity")
    if isinstance(parity, dict):
        for gap in parity["int8"]:
            yield f"parity/lang={gap['lang']}/logit_gap", plain(gap["mean"], gap["rows"])
        for row in parity.get("decisions", ()):
            same = np.arange(row["rows"]) < round(row["same"] * row["rows"])
            yield f"parity/lang={row['lang']}/same_flags", share(same, [str(place) for place in range(len(same))])


def report_measures(report: Report) -> dict[str, Metric]:
    """All measures of a report, by name."""
    named = dict(_authored(report.authored))
    for suite in report.suites:
        named |= dict(_suite(suite))
    parts = (_banks(report.banks), _bias(report.bias), _robustness(report), _reliability(report.reliability))
    for part in (*parts, _served(report)):
        named |= dict(part)
    with reading_manifest():
        return named | dict(_parity(report))
