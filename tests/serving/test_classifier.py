"""Verdicts: for any text of any length, in order, with offsets into the text as it was sent."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline import Action, BundleError, Classifier, ConfigError, InputError, load_taxonomy
from fineline.bundle import GOLDEN, META, _digest
from fineline.files import sha256_of
from fineline.policy import get_policy
from fineline.text import normalise

IDS = load_taxonomy().ids
WORDS = "tell anyone find you 他说 打断 手 ありがとう shukran شكرا нет да 😀 ! ? never report help стоп ห้าม".split()
LONG = "The nurse asked how she should report the threat. 他说要打断你的手。 " * 12


def check(verdict, text, policy="cn_measures"):
    assert list(verdict.scores) == list(verdict.thresholds) == list(IDS)
    assert all(0 < score < 1 for score in verdict.scores.values())
    assert set(verdict.flagged) == {x for x in IDS if verdict.scores[x] >= verdict.thresholds[x]}
    assert list(verdict.flagged) == sorted(verdict.flagged, key=lambda x: -verdict.scores[x])
    assert verdict.action is get_policy(policy).action(verdict.flagged)
    assert verdict.rules == {x: load_taxonomy()[x].rule for x in verdict.flagged}
    assert (verdict.model, verdict.policy) == ("tiny@0.0.1", policy)
    assert verdict.windows[0].start == 0
    assert verdict.windows[-1].end == len(text)
    for label in IDS:
        assert verdict.scores[label] == max(window.scores[label] for window in verdict.windows)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=200), max_size=5))
def test_any_texts_get_one_whole_verdict_each(classifier, texts):
    verdicts = classifier.classify(texts)
    assert len(verdicts) == len(texts)
    for verdict, text in zip(verdicts, texts, strict=True):
        check(verdict, text)


@pytest.mark.parametrize(
    "text", ["", " ", "\ud800", "\x00", "\u202e", "😀", "a" * 5000, LONG, "\u0300" * 300, "\n" * 300]
)
def test_a_text_of_any_shape_is_judged(classifier, text):
    check(classifier.classify([text])[0], text)


def test_a_long_text_is_judged_in_windows_that_cover_it(classifier):
    verdict = classifier.classify([LONG])[0]
    assert len(verdict.windows) > 5
    ends = [window.end for window in verdict.windows]
    assert all(later.start <= end for later, end in zip(verdict.windows[1:], ends[:-1], strict=True))
    assert ends == sorted(ends)


def test_a_megabyte_is_judged_whole(classifier):
    text = "The nurse asked how she should report it. " * 25_000
    verdict = classifier.classify([text])[0]
    assert verdict.windows[-1].end == len(text) > 1_000_000
    assert verdict.windows[0].scores != verdict.windows[-1].scores or len(verdict.windows) > 2000


def test_ten_thousand_texts_come_back_in_order(classifier_fp32):
    # Lengths vary, so rows are sorted and split into many batches on the way.
    texts = [f"{i} " + "word " * (i * 7 % 23) for i in range(10_000)]
    logits = classifier_fp32.logits(texts)
    sample = list(range(0, 10_000, 371))
    np.testing.assert_allclose(logits[sample], classifier_fp32.logits([texts[i] for i in sample]), atol=1e-3)
    assert len(np.unique(logits[:, 0].round(2))) > 20


def test_offsets_point_into_the_text_as_it_was_sent(classifier):
    plain = "Tell anyone and I will find you. " * 20
    hidden = "".join(f"{char}\u200b" for char in plain)
    one, other = classifier.classify([plain])[0], classifier.classify([hidden])[0]
    assert other.windows[-1].end == len(hidden)
    assert len(one.windows) == len(other.windows)
    for here, there in zip(one.windows, other.windows, strict=True):
        assert normalise(hidden[there.start : there.end]).text.strip() == plain[here.start : here.end].strip()


def test_an_evasion_gets_the_scores_of_what_it_hides(classifier_fp32):
    plain, hidden = classifier_fp32.classify(["I will kill you", "I will k\u200bіｌl you"])
    assert plain.scores == pytest.approx(hidden.scores, abs=1e-5)


def test_the_steps_of_a_classification_can_be_taken_one_by_one(classifier_fp32):
    texts, contexts = ["tell anyone", LONG, ""], [None, "Why?", "a very long question indeed " * 20]
    encoded = classifier_fp32.encode(texts, contexts)
    logits = [classifier_fp32.engine.logits(windows) for windows in encoded]
    found = [classifier_fp32.verdict(*pair, "minors") for pair in zip(encoded, logits, strict=True)]
    for one, other in zip(found, classifier_fp32.classify(texts, contexts, policy="minors"), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)
        assert [(w.start, w.end) for w in one.windows] == [(w.start, w.end) for w in other.windows]
        assert (one.flagged, one.policy, one.context_cut) == (other.flagged, other.policy, other.context_cut)
    assert classifier_fp32.verdict(encoded[0], logits[0]).policy == classifier_fp32.policy
    assert classifier_fp32.encode([]) == []
    with pytest.raises(InputError):
        classifier_fp32.encode("one text")
    with pytest.raises(ConfigError):
        classifier_fp32.verdict(encoded[0], logits[0], "none of these")


def test_a_context_changes_scores_but_is_not_judged_itself(classifier_fp32):
    alone, answered = classifier_fp32.classify(["Yes, at eight.", "Yes, at eight."], [None, "Shall we rob it?"])
    assert alone.scores != answered.scores
    assert (answered.windows[0].start, answered.windows[0].end) == (0, len("Yes, at eight."))


@pytest.mark.parametrize(
    ("context", "cut"), [(None, False), ("short", False), ("a very long question indeed " * 20, True)]
)
def test_a_context_that_was_cut_is_reported(classifier, context, cut):
    verdict = classifier.classify([LONG], [context])[0]
    assert verdict.context_cut is cut
    assert verdict.as_dict()["context_cut"] is cut


@pytest.mark.parametrize(
    ("texts", "contexts", "code"),
    [
        ("one text", None, "input_type"),
        ([b"bytes"], None, "input_type"),
        (["fine", 3], None, "input_type"),
        (["fine", None], None, "input_type"),
        (["a", "b"], ["c"], "input_length"),
        (["a"], [], "input_length"),
        (["a"], "c", "input_length"),
        (["a"], [3], "input_type"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(classifier, texts, contexts, code):
    with pytest.raises(InputError) as caught:
        classifier.classify(texts, contexts)
    assert caught.value.code == code
    with pytest.raises(InputError):
        classifier.logits(texts, contexts)


def test_no_texts_give_no_verdicts(classifier):
    assert classifier.classify([]) == []
    assert classifier.classify([], []) == []
    assert classifier.logits([]).shape == (0, len(IDS))


def test_the_policy_of_a_call_decides_its_thresholds(classifier):
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(150)]
    by_name = {name: classifier.classify(texts, policy=name) for name in ("minors", "cn_measures", "international")}
    for name, verdicts in by_name.items():
        for verdict, text in zip(verdicts, texts, strict=True):
            check(verdict, text, name)
    counts = [sum(len(v.flagged) for v in by_name[name]) for name in ("minors", "cn_measures", "international")]
    assert counts[0] > counts[1] > counts[2], "the tiny thresholds are 0.3, 0.5 and 0.7"
    assert {verdict.action for verdict in by_name["international"]} == set(Action), "texts must reach every action"


def test_the_policy_of_loading_is_the_default_of_calls(tiny_bundle):
    strict = Classifier.load(tiny_bundle, policy="minors", threads=1)
    assert strict.classify(["a"])[0].policy == "minors"
    assert strict.classify(["a"], policy="international")[0].policy == "international"


@pytest.mark.parametrize(
    "use", [lambda p, c: Classifier.load(p, policy="lax"), lambda p, c: c.classify(["a"], policy="lax")]
)
def test_an_unknown_policy_is_refused(tiny_bundle, classifier, use):
    with pytest.raises(ConfigError) as caught:
        use(tiny_bundle, classifier)
    assert caught.value.code == "policy_unknown"


def test_probabilities_rise_with_the_logit(classifier):
    steps = np.linspace(-30, 30, 500, dtype=np.float32)
    table = classifier.probabilities(np.repeat(steps[:, None], len(IDS), axis=1))
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table[(steps > -8) & (steps < 8)], axis=0) > 0).all()
    assert ((table >= 0) & (table <= 1)).all()


def test_a_verdict_becomes_json(classifier):
    verdict = classifier.classify(["Tell anyone and I will find you.\ud800"])[0]
    plain = json.loads(json.dumps(verdict.as_dict()))
    assert plain["scores"] == pytest.approx(verdict.scores, abs=1e-6)
    assert plain["windows"][0]["end"] == 33
    assert set(plain) == {
        "action", "flagged", "scores", "thresholds", "windows", "rules", "model", "policy", "context_cut",
    }  # fmt: skip
    assert plain["action"] in ("allow", "review", "block")


def test_the_golden_file_is_reproduced(classifier, classifier_fp32):
    assert 0 <= classifier.self_check() <= 0.05
    assert classifier_fp32.self_check() < 1e-3


@pytest.mark.parametrize("wrong", [1.0, float("nan")])
def test_a_golden_file_of_another_model_fails_the_self_check(tiny_bundle, tmp_path, wrong):
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    lines = (copy / GOLDEN).read_text(encoding="utf-8").split("\n")
    row = json.loads(lines[0])
    row["logits"][3] += wrong
    lines[0] = json.dumps(row)
    (copy / GOLDEN).write_text("\n".join(lines), encoding="utf-8", newline="\n")
    meta = json.loads((copy / META).read_text(encoding="utf-8"))
    meta["files"][GOLDEN] = sha256_of(copy / GOLDEN)
    meta["digest"] = _digest(meta)
    (copy / META).write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        Classifier.load(copy, threads=1).self_check()
    assert caught.value.code == "bundle_golden"


BLOCKED = """
import importlib.abc, json, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "fineline_training", "fineline_eval", "fastapi", "pyarrow"}:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
from fineline import Classifier
classifier = Classifier.load(sys.argv[1])
print(json.dumps({"worst": classifier.self_check(), "action": classifier.classify(["hello"])[0].action}))
"""


def test_the_runtime_needs_neither_torch_nor_transformers(tiny_bundle, source_env):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tiny_bundle)], env=source_env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["action"] in list(Action)


def test_threads_share_a_classifier(classifier_fp32):
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"text number {i} " * (i % 5 + 1) for i in range(40)]
    expected = [classifier_fp32.classify([text])[0].scores for text in texts]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: classifier_fp32.classify([text])[0].scores, texts))
    assert found == expected
