"""Scores and their cache: equal to fresh ones, bound to what they depend on, and free of text."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from rich.progress import Progress

from fineline import Classifier
from fineline.encoding import WindowSpec
from fineline.taxonomy import load_taxonomy
from fineline_eval import scoring
from fineline_eval.scoring import Scorer
from fineline_training.records import Record

MARKER = "zebrawhisper"
TEXTS = ["tell anyone", f"{MARKER} tell", "他说要打断你的手", "", "never report 😀 help " * 30]


def scorer(classifier, cache=None) -> Scorer:
    return Scorer(classifier, cache, Progress(disable=True))


@pytest.fixture
def rows(row) -> list[Record]:
    return [row(text, context=f"{MARKER}?" if index % 2 else None) for index, text in enumerate(TEXTS)]


@pytest.fixture
def watched(classifier_fp32):
    """A classifier that notes how many rows it was asked for each time."""
    seen: list[int] = []
    copied = copy.copy(classifier_fp32)

    def logits(texts, contexts=None):
        seen.append(len(texts))
        return classifier_fp32.logits(texts, contexts)

    copied.logits = logits
    return copied, seen


def test_probabilities_are_the_classifiers_own(classifier_fp32, rows):
    found = scorer(classifier_fp32).probabilities("toy", rows)
    verdicts = classifier_fp32.classify([row.text for row in rows], [row.context for row in rows])
    expected = np.array([[verdict.scores[label] for label in classifier_fp32.labels] for verdict in verdicts])
    assert found == pytest.approx(expected, abs=1e-6)


def test_labels_are_picked_by_id_from_a_bundle_with_more_and_in_another_order(own_bundle, rows):
    classifier = Classifier.load(own_bundle, threads=1)
    found, expected = scorer(classifier), classifier.classify([row.text for row in rows], [row.context for row in rows])
    wanted = np.array([[verdict.scores[label] for label in found.labels] for verdict in expected])
    assert found.probabilities("toy", rows) == pytest.approx(wanted, abs=1e-6)
    assert list(found.thresholds) == list(load_taxonomy().ids)
    turned = copy.copy(classifier)
    turned.labels = classifier.labels[::-1]
    turned.probabilities = lambda logits: classifier.probabilities(logits)[:, ::-1]
    assert scorer(turned).probabilities("toy", rows) == pytest.approx(wanted, abs=1e-6)


def test_cached_scores_equal_fresh_ones_and_cost_nothing(watched, rows, tmp_path):
    classifier, seen = watched
    fresh = scorer(classifier, tmp_path).probabilities("toy", rows)
    assert seen == [len(rows)]
    again = scorer(classifier, tmp_path).probabilities("toy", rows)
    assert np.array_equal(fresh, again)
    assert seen == [len(rows)]
    assert np.array_equal(fresh, scorer(classifier).probabilities("toy", rows))


@pytest.mark.parametrize("change", ["text", "context", "order", "fewer", "more"])
def test_other_rows_are_scored_anew(watched, rows, row, tmp_path, change):
    classifier, seen = watched
    scorer(classifier, tmp_path).probabilities("toy", rows)
    other = {
        "text": [replace(rows[0], text="Tell anyone"), *rows[1:]],
        "context": [replace(rows[0], context="why"), *rows[1:]],
        "order": rows[::-1],
        "fewer": rows[:-1],
        "more": [*rows, row("one more")],
    }[change]
    found = scorer(classifier, tmp_path).probabilities("toy", other)
    assert seen == [len(rows), len(other)]
    assert np.array_equal(found, scorer(classifier).probabilities("toy", other))


def changed(classifier, **fields):
    copied = copy.copy(classifier)
    copied.bundle = replace(classifier.bundle, meta=replace(classifier.bundle.meta, **fields))
    return copied


@pytest.mark.parametrize("what", ["model.onnx", "tokenizer.json", "window", "view", "normaliser"])
def test_another_bundle_is_scored_anew(watched, rows, tmp_path, what):
    classifier, seen = watched
    scorer(classifier, tmp_path).probabilities("toy", rows)
    meta = classifier.bundle.meta
    fields = {"files": dict(meta.files) | {what: "0" * 64}} if "." in what else {what: "other"}
    if what == "window":
        fields = {"window": WindowSpec(size=meta.window.size // 2, overlap=4, context=8)}
    scorer(changed(classifier, **fields), tmp_path).probabilities("toy", rows)
    assert seen == [len(rows)] * 2


def test_another_calibration_needs_no_new_scores(watched, rows, tmp_path):
    classifier, seen = watched
    scorer(classifier, tmp_path).probabilities("toy", rows)
    scorer(changed(classifier, thresholds={}, calibration={}), tmp_path).probabilities("toy", rows)
    assert seen == [len(rows)]


def test_rows_are_scored_in_chunks_and_stay_in_order(watched, rows, monkeypatch):
    classifier, seen = watched
    whole = scorer(classifier).probabilities("toy", rows)
    monkeypatch.setattr(scoring, "_CHUNK", 2)
    assert scorer(classifier).probabilities("toy", rows) == pytest.approx(whole, abs=1e-5)
    assert seen == [5, 2, 2, 1]


def test_no_rows_give_an_empty_table(classifier_fp32, tmp_path):
    for _ in range(2):
        assert scorer(classifier_fp32, tmp_path).probabilities("toy", []).shape == (0, len(load_taxonomy().ids))


def test_the_cache_holds_numbers_and_no_text(classifier_fp32, rows, tmp_path):
    scorer(classifier_fp32, tmp_path).probabilities("toy", rows)
    (file,) = tmp_path.rglob("*")
    assert file.name.startswith("toy-")
    assert MARKER not in file.name
    assert MARKER.encode() not in file.read_bytes()
    kept = np.load(file, allow_pickle=False)
    assert (kept.dtype, kept.shape) == (np.float32, (len(rows), len(load_taxonomy().ids)))


def test_a_scoring_that_was_stopped_leaves_no_file(classifier_fp32, rows, tmp_path, monkeypatch):
    def stop(file, array):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring.np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        scorer(classifier_fp32, tmp_path).probabilities("toy", rows)
    assert list(tmp_path.iterdir()) == []


def test_a_row_is_flagged_where_a_label_asked_for_reaches_its_threshold(classifier_fp32):
    ids = classifier_fp32.labels
    one, other = ids.index("insult"), ids.index("privacy")
    table = dict.fromkeys(ids, 0.9) | {"insult": 0.5, "privacy": 0.25}
    judged = changed(
        classifier_fp32, thresholds={classifier_fp32.policy: table, "international": dict.fromkeys(ids, 0)}
    )
    probabilities = np.zeros((4, len(ids)))
    probabilities[1, one], probabilities[2, one] = 0.5, np.nextafter(0.5, 0)
    probabilities[3, other] = 0.25
    flags = scorer(judged).flags
    assert flags(probabilities, ids).tolist() == [False, True, False, True]
    assert flags(probabilities, ("insult",)).tolist() == [False, True, False, False]
    assert flags(probabilities, ("privacy", "violence")).tolist() == [False, False, False, True]


def test_flags_are_those_of_the_verdicts(classifier_fp32, rows):
    judging = scorer(classifier_fp32)
    flags = judging.flags(judging.probabilities("toy", rows), classifier_fp32.labels)
    verdicts = classifier_fp32.classify([row.text for row in rows], [row.context for row in rows])
    assert flags.tolist() == [bool(verdict.flagged) for verdict in verdicts]
