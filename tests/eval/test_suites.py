"""Suites: the file is checked, truth and lawful cases are what it says, no suite text was copied into the corpus."""

import os
from pathlib import Path

import pytest

from fineline.errors import ConfigError, DataError
from fineline.taxonomy import load_taxonomy
from fineline.text import match_key
from fineline_eval import suites as module
from fineline_eval.metrics import FUNCTIONS
from fineline_eval.published import published_figures
from fineline_eval.suites import Suite, load_suites, read_suite
from fineline_eval.summary import NAMES
from fineline_training.corpus import load_corpus
from fineline_training.sources.registry import find_source

ROOT = Path(__file__).parents[2]
MIRROR = Path(os.environ.get("FINELINE_MIRROR") or ROOT.parent / "shared" / "data")
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="no mirror of the upstream files")
IDS = [suite.id for suite in load_suites()]
GOOD = 'title = "T"\nsource = "cold"\ntarget = "hate"\nheadline = ["f1"]\n'


def make_suite(**fields) -> Suite:
    return Suite(**{"id": "toy", "title": "Toy", "source": "cold", "target": "hate", "headline": ("f1",)} | fields)


def load_from(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Suite, ...]:
    file = path / "suites.toml"
    file.write_text(text)
    monkeypatch.setattr(module, "SUITES_FILE", file)
    return load_suites.__wrapped__()


def by_id(suite_id: str) -> Suite:
    return next(suite for suite in load_suites() if suite.id == suite_id)


# --- the file


def test_suites_keep_the_order_of_the_file(tmp_path, monkeypatch):
    loaded = load_from(tmp_path, f"[b]\n{GOOD}\n[a]\n{GOOD}", monkeypatch)
    assert [suite.id for suite in loaded] == ["b", "a"]
    assert loaded[0] == make_suite(id="b", title="T")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"[a]\n{GOOD}nope = 1\n", "config_unknown_key"),
        ("[a]\n" + GOOD.replace('"hate"', '"nope"'), "suite_target"),
        ("[a]\n" + GOOD.replace('title = "T"\n', ""), "config_missing_key"),
        ("[a]\n" + GOOD.replace('"T"', "1"), "config_type"),
        ("[a\n", "config_syntax"),
    ],
)
def test_a_wrong_file_is_refused_with_a_code(tmp_path, monkeypatch, text, code):
    with pytest.raises(ConfigError) as caught:
        load_from(tmp_path, text, monkeypatch)
    assert caught.value.code == code
    assert "suites.toml" in caught.value.message


@pytest.mark.parametrize("suite", load_suites(), ids=IDS)
def test_every_suite_reads_a_split_that_is_only_for_evaluation(suite):
    source = find_source(suite.source)
    assert source.splits("eval")
    assert not source.splits("eval") & source.splits("train")


@pytest.mark.parametrize("suite", load_suites(), ids=IDS)
def test_every_suite_can_be_reported(suite):
    assert suite.headline
    assert set(suite.headline) <= set(FUNCTIONS) & set(NAMES)
    assert set(suite.labels) <= set(load_taxonomy().ids)
    assert set(find_source(suite.source).knows) & set(suite.labels), "the source says nothing about the target"
    assert suite.slices or set(suite.lawful) <= {"*"}, "lawful values need a field to slice by"


@pytest.mark.parametrize("suite", load_suites(), ids=IDS)
def test_published_figures_have_a_name_for_their_metric_and_are_shares(suite):
    assert all(figure.metric in NAMES and 0 < figure.value < 1 for figure in published_figures(suite.id))


@pytest.mark.parametrize("suite", load_suites(), ids=IDS)
def test_published_figures_stand_beside_our_own(suite):
    assert {figure.metric for figure in published_figures(suite.id)} <= set(suite.headline)


def test_published_figures_belong_to_a_suite():
    assert published_figures("hatecheck")
    listed = module.read_toml(Path(module.__file__).with_name("published.toml"))["figure"]
    assert {figure["suite"] for figure in listed} <= set(IDS)


# --- truth


def test_targets_name_the_labels_that_count():
    assert make_suite(target="all").labels == load_taxonomy().ids
    assert set(make_suite(target="hate").labels) == {"ethnic_hatred", *load_taxonomy().group("discrimination")}
    assert set(make_suite(target="abuse").labels) == {"insult", *make_suite(target="hate").labels}
    assert make_suite(target="sex").labels == ("discrimination/sex",)


@pytest.mark.parametrize(
    ("target", "labels", "any_of", "expected"),
    [
        ("sex", {"discrimination/sex": 1}, "", True),
        ("sex", {"discrimination/sex": 0}, "", False),
        ("sex", {"discrimination/age": 1, "discrimination/sex": 0}, "", False),
        ("hate", {"discrimination/age": 1}, "", True),
        ("hate", {"insult": 1}, "", False),
        ("abuse", {"insult": 1}, "", True),
        ("all", {"privacy": 1}, "", True),
        ("all", {}, "", False),
        ("hate", {}, "insult,ethnic_hatred", True),
        ("sex", {}, "insult,ethnic_hatred", False),
        ("sex", {"discrimination/sex": 0}, "insult", False),
    ],
)
def test_truth_is_a_label_of_the_target_or_one_of_several(row, target, labels, any_of, expected):
    record = row(labels=labels, meta={"any_of": any_of} if any_of else {})
    assert make_suite(target=target).truth(record) is expected


@pytest.mark.parametrize(
    ("lawful", "fine", "flagged", "expected"),
    [
        (("safe",), "safe", 0, True),
        (("safe",), "safe", 1, False),
        (("safe",), "other", 0, False),
        (("safe",), None, 0, False),
        (("*",), "other", 0, True),
        (("*",), None, 0, True),
        (("*",), "other", 1, False),
        ((), "safe", 0, False),
        ((), None, 0, False),
    ],
)
def test_a_lawful_case_is_a_negative_row_of_a_lawful_slice(row, lawful, fine, flagged, expected):
    record = row(labels={"ethnic_hatred": flagged}, meta={"fine": fine} if fine else {})
    assert make_suite(slices="fine", lawful=lawful).is_lawful_case(record) is expected


def test_a_suite_that_is_not_in_the_mirror_is_named_as_missing(tmp_path):
    with pytest.raises(DataError) as caught:
        read_suite(by_id("xstest"), tmp_path)
    assert caught.value.code == "source_missing"


def test_a_suite_with_an_altered_file_is_not_judged(tmp_path):
    suite = by_id("xstest")
    for file in find_source(suite.source).files:
        path = tmp_path / suite.source / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("altered")
    with pytest.raises(DataError) as caught:
        read_suite(suite, tmp_path)
    assert caught.value.code == "provenance_hash"


# --- the real files


@pytest.fixture(scope="module")
def corpus_keys() -> set[str]:
    return {match_key(item.text) for item in load_corpus()}


@pytest.mark.mirror
@pytest.mark.slow
@needs_mirror
@pytest.mark.parametrize("suite", load_suites(), ids=IDS)
def test_real_suite_has_the_rows_it_is_there_for_and_none_is_in_the_corpus(suite, corpus_keys):
    rows = read_suite(suite, MIRROR)
    splits = find_source(suite.source).splits("eval")
    assert rows
    assert {row.split for row in rows} <= splits
    truths = {suite.truth(row) for row in rows}
    only_lawful = suite.headline == ("lawful_flagged",)
    assert truths == ({False} if only_lawful else {True, False})
    assert any(suite.is_lawful_case(row) for row in rows) is bool(suite.lawful)
    if suite.slices:
        values = {row.meta.get(suite.slices, "") for row in rows}
        assert len(values - {""}) > 1
        assert set(suite.lawful) - {"*"} <= values
    assert corpus_keys
    copied = [index for index, row in enumerate(rows) if match_key(row.text) in corpus_keys]
    assert copied == []
