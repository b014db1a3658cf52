"""What a scan reports: counts that can be recomputed, honest intervals, the classifier's errors carried through."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline import Classifier, ConfigError, InputError
from fineline.bundle import load_bundle
from fineline.scan import groups
from fineline.scan.decide import decide, read_decided
from fineline.scan.figures import Bar, bars, percent
from fineline.scan.intervals import clopper_pearson, wilson
from fineline.scan.prevalence import ErrorRates, Rate, corrected, read_error_rates
from fineline.scan.report import make_report, write_report
from fineline.scan.store import Store

RATES = ErrorRates(
    name="authored",
    title="Held-back authored texts",
    n=2000,
    sensitivity=Rate(value=0.8, low=0.76, high=0.84),
    specificity=Rate(value=0.95, low=0.94, high=0.96),
)


def metric(value, low, high, n):
    return {"value": value, "low": low, "high": high, "n": n}


def card(bundle, **changes):
    lang = {"n": 300, "recall": metric(0.8, 0.75, 0.85, 300), "lawful_flagged": metric(0.05, 0.02, 0.08, 200)}
    metrics = {"recall": metric(0.5, 0.4, 0.6, 450), "lawful_flagged": metric(0.04, 0.02, 0.06, 450)}
    return {
        "model": bundle.model_id,
        "policy": "cn_measures",
        "files": bundle.meta.files,
        "authored": {
            "n": 600,
            "langs": [{"lang": "en", **lang}, {"lang": "zh", **lang, "recall": metric(0.6, 0.5, 0.7, 300)}],
            "lawful_flagged": metric(0.05, 0.04, 0.06, 400),
        },
        "suites": [
            {"id": "xstest", "title": "XSTest", "n": 450, "target": "all", "metrics": metrics},
            {"id": "hate", "title": "Hate only", "n": 450, "target": "hate", "metrics": metrics},
            {"id": "undefined", "title": "No lawful rows", "n": 9, "target": "all",
             "metrics": metrics | {"recall": metric(None, None, None, 9)}},
        ],
    } | changes  # fmt: skip


@pytest.fixture
def decided(make_scan, rows):
    scan = make_scan(rows)
    decide(scan.output, bundle=scan.bundle.path)
    return scan


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"), [(0, 10, 0, 0.27753), (5, 10, 0.23659, 0.76341), (10, 10, 0.72247, 1)]
)
def test_wilson_intervals_match_published_values(hits, n, low, high):
    found = wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    assert found.value == hits / n


@given(st.data())
def test_exact_intervals_solve_the_binomial_tails(data):
    n = data.draw(st.integers(1, 60))
    hits = data.draw(st.integers(0, n))
    found = clopper_pearson(hits, n)

    def tail(p, counts):
        return sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in counts)

    assert tail(found.low, range(hits, n + 1)) == pytest.approx(0.025 if hits else 1)
    assert tail(found.high, range(hits + 1)) == pytest.approx(0.025 if hits < n else 1)
    assert found.low <= found.value <= found.high


def test_the_corrected_share_inverts_the_errors():
    flagged = 0.02 * 0.8 + 0.98 * 0.05
    found = corrected(round(flagged * 1_000_000), 1_000_000, RATES)
    assert found.value == pytest.approx(0.02, abs=1e-6)
    assert found.low < 0.02 < found.high
    assert not found.below_false_alarms
    assert found == corrected(round(flagged * 1_000_000), 1_000_000, RATES)


def test_the_interval_matches_the_delta_method_where_that_holds():
    hits, n = 30_000, 100_000
    found = corrected(hits, n, RATES)
    better = 0.8 + 0.95 - 1
    parts = (math.sqrt(0.3 * 0.7 / n), found.value * 0.04 / 1.959964, (1 - found.value) * 0.01 / 1.959964)
    half = 1.959964 * math.hypot(*parts) / better
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.08)


def test_the_interval_covers_the_truth_about_as_often_as_it_says(rng):
    truth, trials, covered = 0.1, 300, 0
    for _ in range(trials):
        sensitivity, specificity = rng.binomial(400, 0.8) / 400, rng.binomial(1000, 0.95) / 1000
        hits = rng.binomial(3000, truth * 0.8 + (1 - truth) * 0.05)
        measured = [
            Rate(value=value, low=value - 1.96 * error, high=value + 1.96 * error)
            for value, n in ((sensitivity, 400), (specificity, 1000))
            for error in (math.sqrt(value * (1 - value) / n),)
        ]
        rates = ErrorRates(name="x", title="x", n=1400, sensitivity=measured[0], specificity=measured[1])
        found = corrected(int(hits), 3000, rates)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / trials <= 0.99


def test_fewer_flags_than_false_alarms_are_said_to_be_no_measurement():
    found = corrected(100, 10_000, RATES)
    assert found.value == found.low == 0
    assert found.below_false_alarms


def test_error_rates_are_read_for_sets_that_ask_about_all_labels(tiny_loaded, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(card(tiny_loaded)))
    authored, xstest = read_error_rates(
        path, model=tiny_loaded.model_id, files=tiny_loaded.meta.files, policy="cn_measures"
    )
    assert (authored.name, xstest.name) == ("authored", "xstest")
    assert authored.sensitivity.value == pytest.approx(0.7)
    assert authored.sensitivity.low == pytest.approx(0.7 - math.hypot(0.05, 0.1) / 2)
    assert (authored.specificity.value, authored.specificity.low) == pytest.approx((0.95, 0.94))
    assert (xstest.sensitivity.value, xstest.specificity.high) == pytest.approx((0.5, 0.98))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"files": {"model.onnx": "0"}}, "card_report_bundle"),
        ({"model": "other@1"}, "card_report_bundle"),
        ({"policy": "minors"}, "card_report_policy"),
        ({"authored": None}, "card_report"),
    ],
)
def test_a_card_of_something_else_is_refused(decided, tmp_path, changes, code):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(card(decided.bundle, **changes)))
    with pytest.raises(ConfigError) as caught:
        make_report(decided.output, card=path)
    assert caught.value.code == code


def test_a_card_does_not_correct_changed_thresholds(decided, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(card(decided.bundle)))
    decide(decided.output, bundle=decided.bundle.path, thresholds={"violence": 0.123}, name="mine")
    with pytest.raises(ConfigError, match="did not measure"):
        make_report(decided.output, decisions="mine", card=path)
    assert make_report(decided.output, decisions="mine").rule.changed == ("violence",)


def test_error_rates_correct_what_the_shipped_labels_flag_alone(make_scan, rows, own_bundle, tmp_path):
    bundle = load_bundle(own_bundle)
    scan = make_scan(rows, bundle=bundle)
    decided = decide(scan.output, bundle=bundle.path)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(card(bundle)))
    report = write_report(scan.output, card=path)
    parts = [decisions["flagged"].to_pylist() for _, decisions in read_decided(Store(scan.output), report.rule)]
    decisions = [flagged for part in parts for flagged in part]
    alone = sum(flagged == ["miracle_cure"] for flagged in decisions)
    assert alone and report.flagged.hits == decided.documents - decisions.count([])
    expected = [corrected(report.flagged.hits - alone, report.documents, rates) for rates in report.errors]
    assert list(report.estimates) == expected
    assert "No set of the card knows miracle_cure" in (scan.folder / "report.html").read_text(encoding="utf-8")


def test_the_counts_are_those_of_the_verdicts(decided):
    report = make_report(decided.output)
    good = [row for row in decided.rows if isinstance(row.get("text"), str)]
    verdicts = Classifier.load(decided.bundle.path, threads=1).classify([row["text"] for row in good])
    assert report.documents == len(good)
    assert sum(report.rejected.values()) == len(decided.rows) - len(good)
    assert report.duplicates == len(good) - len({row["text"] for row in good})
    assert report.characters == sum(len(row["text"]) for row in good)
    assert report.actions == {a: sum(v.action == a for v in verdicts) for a in ("allow", "review", "block")}
    assert report.flagged.hits == sum(bool(v.flagged) for v in verdicts)
    by_label = Counter(label for v in verdicts for label in v.flagged)
    assert {entry.label: entry.flagged.hits for entry in report.labels} == {
        x: by_label[x] for x in report.rule.thresholds
    }
    for groups_, key in ((report.languages, "lang"), (report.sources, "source")):
        expected = {
            name: Counter(
                label for row, v in zip(good, verdicts, strict=True) if row.get(key) == name for label in v.flagged
            )
            for name in {row.get(key) for row in good}
        }
        assert {group.name: group.labels for group in groups_} == expected
        assert sum(group.flagged.n for group in groups_) == len(good)
    assert [group.flagged.n for group in report.sources] == sorted((g.flagged.n for g in report.sources), reverse=True)


def test_sources_are_held_against_the_limit(decided):
    for group in make_report(decided.output).sources:
        low, high = group.flagged.low, group.flagged.high
        assert group.limit == ("over" if low > 0.05 else "within" if high <= 0.05 else "unclear")


def test_the_report_is_written_without_text_and_escaped(decided, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(card(decided.bundle)))
    report = write_report(decided.output, card=path)
    page = (decided.folder / "report.html").read_text()
    held = json.loads((decided.folder / "report.json").read_text())
    assert held["documents"] == report.documents
    assert held["estimates"][0]["value"] == report.estimates[0].value
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    for row in decided.rows:
        text = row.get("text")
        if isinstance(text, str) and len(text) > 12:
            assert text not in page
            assert json.dumps(text)[1:-1] not in (decided.folder / "report.json").read_text()
    assert page.count("<svg") == 4
    assert f"{report.documents:,}" in page
    first = (page, held)
    write_report(decided.output, card=path)
    assert first == (
        (decided.folder / "report.html").read_text(),
        json.loads((decided.folder / "report.json").read_text()),
    )


def test_the_set_that_corrects_the_sources_can_be_chosen(decided, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(card(decided.bundle)))
    assert make_report(decided.output, card=path).measured_on == "authored"
    chosen = make_report(decided.output, card=path, measured_on="xstest")
    assert {group.estimate.on for group in chosen.sources} == {"xstest"}
    with pytest.raises(ConfigError, match="authored, xstest"):
        make_report(decided.output, card=path, measured_on="hate")


def test_sources_without_end_are_counted_together(decided, monkeypatch):
    monkeypatch.setattr(groups, "MAX_GROUPS", 2)
    report = make_report(decided.output)
    assert len(report.sources) == 3
    assert groups.OTHERS in {group.name for group in report.sources}
    assert sum(group.flagged.n for group in report.sources) == report.documents


def test_a_report_needs_decisions_and_documents(make_scan):
    scan = make_scan([{"no": "text"}])
    with pytest.raises(InputError) as caught:
        make_report(scan.output)
    assert caught.value.code == "decisions_missing"
    decide(scan.output, bundle=scan.bundle.path)
    with pytest.raises(InputError) as caught:
        make_report(scan.output)
    assert caught.value.code == "report_empty"


@pytest.mark.parametrize(
    ("share", "told"), [(0, "0.00 %"), (0.5, "50.00 %"), (0.0123, "1.23 %"), (0.00012, "0.012 %"), (2e-7, "0.000020 %")]
)
def test_rare_shares_do_not_read_as_none(share, told):
    assert percent(share) == told


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.none() | st.floats(0, 1))
def test_a_figure_stays_inside_its_frame(shares, limit):
    low, value, high = sorted(shares)
    drawn = bars("shares", [Bar(name="a" * 90, value=value, low=low, high=high)], limit=limit)
    width = float(re.search(r'viewBox="0 0 (\d+)', drawn).group(1))
    places = [float(x) for x in re.findall(r' x[12]?="([-\d.]+)"', drawn)]
    assert all(np.isfinite(places))
    assert 0 <= min(places) <= max(places) <= width
    assert not re.search(r'width="-', drawn)
