"""An evaluation from bundle to report: what is judged, what is missing, and what stops it."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from fineline import cli
from fineline.errors import ConfigError, DataError
from fineline.taxonomy import load_taxonomy
from fineline_eval import evaluate as module
from fineline_eval import judge as judging
from fineline_eval.banks import load_banks
from fineline_eval.bias import JudgedBias
from fineline_eval.decisions import decide, read_decisions
from fineline_eval.evaluate import evaluate
from fineline_eval.floor import KEYWORDS, MAJORITY, NGRAMS
from fineline_eval.judge import judge_suite
from fineline_eval.report import read_report, write_report
from fineline_eval.scoring import Scorer
from fineline_eval.speed import measure_speed
from fineline_eval.suites import Suite, load_suites

IDS = load_taxonomy().ids
NONE = np.zeros(0, dtype=np.bool_)
LAWFUL = dict.fromkeys(IDS, 0)
INSULT = LAWFUL | {"insult": 1}
SUITE = Suite(
    id="toy", title="Toy", source="cold", target="abuse", headline=("f1",), slices="fine", lawful=("anti_bias",)
)
ALL_SUITES = tuple(suite.id for suite in load_suites())


@pytest.fixture
def built(row, report, monkeypatch):
    """A few rows stand for the whole data set; notes which sources were asked for."""
    asked = []
    dev = [
        row(text, labels=labels, pair=pair, lang=lang, split="dev", meta={"act": act, "frame": pair})
        for text, labels, act, pair, lang in [
            ("tell anyone and I find you", INSULT, "insult", "a", "en"),
            ("he said: tell anyone and I find you", LAWFUL, "mention", "a", "en"),
            ("他说要打断你的手", LAWFUL, "mention", "b", "zh"),
            ("我要打断你的手", INSULT, "insult", "b", "zh"),
        ]
    ]
    other = [row("a public row", labels=INSULT, source="cold", split="dev"), row("authored train", labels=LAWFUL)]

    def build(sources, mirror, **_):
        asked.append((list(sources), mirror))
        return SimpleNamespace(records=(*dev, *other))

    def bias(rows, probabilities, flagged, scorer):
        decisions = decide(
            "identity", [], truth=NONE, flagged=NONE, reached=scorer.reached(probabilities[:0]), clusters=[], slices=[]
        )
        return JudgedBias(report.bias, decisions)

    monkeypatch.setattr(module, "build_dataset", build)
    monkeypatch.setattr(module, "load_banks", lambda: load_banks()[::200])
    monkeypatch.setattr(module, "evaluate_bias", bias)
    return asked


def run(bundle, mirror=None, **options):
    settings = {"policy": "cn_measures", "cache": None, "console": Console(file=io.StringIO()), "threads": 1} | options
    return evaluate(bundle, mirror, **settings).report


def test_without_a_mirror_the_authored_part_is_judged_and_all_suites_are_missing(built, tiny_bundle, classifier):
    report = run(tiny_bundle)
    assert built == [(["authored"], None)]
    assert report.missing == ALL_SUITES
    assert report.suites == ()
    authored = report.authored
    assert (authored.n, authored.pairs, [part.lang for part in authored.langs]) == (4, 2, ["en", "zh"])
    assert {label.label: label.positives for label in authored.labels if label.positives} == {"insult": 2}
    assert (report.model, report.policy) == ("tiny@0.0.1", "cn_measures")
    assert report.files == classifier.bundle.meta.files
    assert report.manifest == classifier.bundle.meta.manifest
    assert (report.speed.n, report.speed.threads) == (4, 1)
    assert report.speed.single_ms > 0 and report.speed.batch_ms > 0


def test_the_report_agrees_with_the_verdicts_of_the_policy(built, tiny_bundle, classifier_fp32, tiny):
    texts = ["he said: tell anyone and I find you", "他说要打断你的手"]
    shares = {}
    for policy in ("cn_measures", "minors"):
        found = run(tiny.bundle_fp32, policy=policy).authored.lawful_flagged
        verdicts = classifier_fp32.classify(texts, policy=policy)
        assert (found.value, found.n) == (np.mean([bool(verdict.flagged) for verdict in verdicts]), 2)
        shares[policy] = found.value
    assert shares["minors"] >= shares["cn_measures"]


def test_the_command_writes_the_report_and_names_what_is_missing(built, tiny_bundle, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("FINELINE_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    out = tmp_path / "deep" / "report.json"
    monkeypatch.setattr(sys, "argv", ["fineline", "eval", "--bundle", str(tiny_bundle), "--out", str(out)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    printed, told = capsys.readouterr()
    assert not caught.value.code
    report = read_report(out)
    assert report.missing == ALL_SUITES
    assert report.authored.n == 4
    assert "tiny@0.0.1" in printed
    assert ", ".join(ALL_SUITES) in told
    kept = sorted(path.name for path in (out.parent / "logits").iterdir())
    assert {name.split("-")[0] for name in kept} == {"authored", "banks", "evasion"}
    parts = read_decisions(out)
    assert len(parts["authored"].keys) == 4
    assert {"authored", "should_not_refuse", "should_refuse"} <= set(parts)


def test_the_written_report_is_the_one_returned(built, tiny_bundle, tmp_path):
    report = run(tiny_bundle)
    write_report(report, tmp_path / "report.json")
    assert repr(read_report(tmp_path / "report.json")) == repr(report)


def test_a_second_evaluation_gives_the_same_results(built, tiny_bundle, tmp_path):
    first, again = (run(tiny_bundle, cache=tmp_path) for _ in range(2))
    assert repr(first.authored) == repr(again.authored)


def test_a_mirror_without_the_suites_lists_them_as_missing(built, tiny_bundle, tmp_path):
    assert run(tiny_bundle, tmp_path).missing == ALL_SUITES
    # The bundle names no source, and the held-back frames are judged all the same.
    assert built == [(["authored"], tmp_path)]


def test_a_damaged_suite_stops_the_evaluation(built, tiny_bundle, tmp_path, monkeypatch):
    def read(suite, mirror):
        raise DataError("source_format", "another form")

    monkeypatch.setattr(module, "read_suite", read)
    with pytest.raises(DataError) as caught:
        run(tiny_bundle, tmp_path)
    assert caught.value.code == "source_format"


def test_a_suite_in_the_mirror_is_judged_and_the_others_are_missing(built, row, tiny_bundle, tmp_path, monkeypatch):
    def read(suite, mirror):
        if suite.id != "vihos":
            raise DataError("source_missing", "not there")
        return [row("một bình luận", lang="vi", labels=LAWFUL, source="vihos", split="test")]

    monkeypatch.setattr(module, "read_suite", read)

    def floors(suite, train, texts, langs, cache):
        return {NGRAMS: np.array([True])}, len(train)

    monkeypatch.setattr(judging, "floor_flags", floors)
    report = run(tiny_bundle, tmp_path)
    (suite,) = report.suites
    assert (suite.id, suite.n, suite.target) == ("vihos", 1, "abuse")
    assert (suite.lawful_flagged.n, suite.lawful_flagged_floors[NGRAMS].value) == (1, 1)
    assert suite.floor_rows == 0, "the bundle was trained on no source, so the floor learns from none"
    assert report.missing == tuple(name for name in ALL_SUITES if name != "vihos")


def test_an_unknown_policy_is_refused(built, tiny_bundle):
    with pytest.raises(ConfigError):
        run(tiny_bundle, policy="nope")
    assert built == []


# --- one suite


class Judge(Scorer):
    """Flags texts that hold an exclamation mark as insults."""

    def probabilities(self, name, rows):
        table = np.full((len(rows), len(IDS)), 0.0)
        table[:, IDS.index("insult")] = ["!" in row.text for row in rows]
        return table


@pytest.fixture
def judge(classifier):
    return Judge(classifier, None, Progress(disable=True))


def test_an_empty_suite_is_an_error_and_not_a_row_of_dashes(judge):
    with pytest.raises(DataError) as caught:
        judge_suite(SUITE, [], [], judge)
    assert caught.value.code == "suite_empty"
    assert "toy" in caught.value.message


def test_a_suite_is_judged_beside_its_floor_whole_and_by_slice(judge, row):
    def test_row(text, labels, fine):
        return row(text, labels=labels, source="cold", split="test", meta={"fine": fine} if fine else {})

    rows = [
        test_row("rude one!", INSULT, "attack"),
        test_row("rude two", INSULT, "attack"),
        test_row("polite one!", LAWFUL, "anti_bias"),
        test_row("polite two", LAWFUL, "anti_bias"),
        test_row("polite three", LAWFUL, "anti_bias"),
        test_row("polite four", LAWFUL, "other"),
        test_row("polite five", LAWFUL, ""),
    ]
    forms = ("{} cat", "a {} dog", "so {}", "{} and {}", "very {} bird")
    train = [
        row(form.format(word, word), labels=labels)
        for word, labels in (("rude", INSULT), ("polite", LAWFUL))
        for form in forms
    ]
    found, decided = judge_suite(SUITE, rows, train, judge)
    assert (decided.part, decided.truth.sum(), decided.flagged.sum()) == ("toy", 2, 2)
    assert decided.slices.tolist()[-2:] == ["other", ""]
    assert (found.n, found.metrics["recall"].value, found.metrics["lawful_flagged"].value) == (7, 0.5, 0.2)
    for floor in (NGRAMS, KEYWORDS):
        assert (found.floors[floor]["recall"].value, found.floors[floor]["lawful_flagged"].value) == (1, 0)
    assert found.floors[MAJORITY]["recall"].value == 0
    assert found.floor_rows == len(train)
    assert (found.lawful_flagged.value, found.lawful_flagged.n) == (0.3333, 3)
    assert found.lawful_flagged_floors[NGRAMS].value == 0
    slices = [
        (part.name, part.lawful, part.flagged.value, part.flagged.n, part.floors[NGRAMS].value) for part in found.slices
    ]
    assert slices == [
        ("anti_bias", True, 0.3333, 3, 0),
        ("attack", False, 0.5, 2, 1),
        ("other", True, 0, 1, 0),
    ]


def test_a_slice_with_both_verdicts_is_shown_as_two(judge, row):
    rows = [
        row(text, labels=labels, source="cold", split="test", meta={"fine": "mixed"})
        for text, labels in [("one!", INSULT), ("two!", INSULT), ("three", LAWFUL), ("four", LAWFUL), ("five", LAWFUL)]
    ]
    found, _ = judge_suite(SUITE, rows, rows, judge)
    slices = [(part.name, part.lawful, part.flagged.value, part.flagged.n) for part in found.slices]
    assert slices == [("mixed", True, 0, 3), ("mixed", False, 1, 2)], "the truth itself is flagged and passes in full"
    assert found.metrics["accuracy"].value == 1


def test_only_labels_of_the_target_flag_a_row_of_the_suite(judge, row):
    suite = Suite(id="toy", title="Toy", source="edos", target="sex", headline=("f1",))
    rows = [row("rude!", labels={"discrimination/sex": 1}), row("calm", labels={"discrimination/sex": 0})]
    found, _ = judge_suite(suite, rows, rows, judge)
    assert found.metrics["recall"].value == 0, "an insult is not what this suite asks about"
    assert found.slices == ()
    assert found.lawful_flagged is None


def test_speed_counts_at_most_two_hundred_texts(classifier, row):
    speed = measure_speed(classifier, [row("tell anyone")] * 230, 1)
    assert (speed.n, speed.threads) == (200, 1)
    assert speed.tokens == len(classifier.encoder.encode(["tell anyone"])[0][0].ids)
    assert speed.machine
