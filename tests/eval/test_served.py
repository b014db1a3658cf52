"""The artefact as served: golden scores, and the endpoint's verdicts against the classifier's."""

import json
import math

import pytest

from fineline import Classifier
from fineline.bundle import GOLDEN, META, write_bundle
from fineline.classifier import Verdict
from fineline_eval.served import evaluate_served


@pytest.fixture
def rows(row):
    return [row(f"text {n}", lang=lang, context="Why?" if n % 2 else None) for lang in ("en", "zh") for n in range(12)]


def test_the_endpoint_agrees_and_few_texts_a_language_are_sent(classifier, rows):
    served = evaluate_served(classifier, rows)
    assert served.golden_gap <= served.golden_tolerance
    assert [(part.lang, part.same.value, part.same.n) for part in served.http] == [("en", 1.0, 10), ("zh", 1.0, 10)]


def test_an_endpoint_that_answers_otherwise_is_seen(classifier, rows, monkeypatch):
    def swapped(verdict):
        return {"flagged": ["privacy", *verdict.flagged]}

    monkeypatch.setattr(Verdict, "as_dict", swapped)
    assert all(part.same.value == 0.0 for part in evaluate_served(classifier, rows).http)


def test_other_golden_scores_leave_nothing_to_compare(tiny_bundle, rows, tmp_path):
    meta = json.loads((tiny_bundle / META).read_text(encoding="utf-8"))
    # Not splitlines(): a text may hold other line separators.
    golden = [json.loads(line) for line in (tiny_bundle / GOLDEN).read_text(encoding="utf-8").split("\n") if line]
    shifted = [line | {"logits": [value + 9 for value in line["logits"]]} for line in golden]
    (tmp_path / GOLDEN).write_text("\n".join(map(json.dumps, shifted)) + "\n", encoding="utf-8")
    files = {name: tiny_bundle / name for name in meta["files"]} | {GOLDEN: tmp_path / GOLDEN}
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    write_bundle(tmp_path / "other", files, "card", entries)
    served = evaluate_served(Classifier.load(tmp_path / "other", threads=1), rows)
    assert math.isnan(served.golden_gap) and served.http == ()
