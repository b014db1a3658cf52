"""The demo's texts are judged as the README shows."""

import re
from pathlib import Path

import pytest

from fineline import Classifier
from fineline.bundle import default_bundle_path
from fineline.errors import BundleError

ROOT = Path(__file__).parents[1]


def _shipped() -> Classifier:
    try:
        return Classifier.load(default_bundle_path())
    except BundleError as error:
        pytest.skip(error.code)


@pytest.mark.model
def test_demo_prints_what_the_readme_shows():
    texts = (ROOT / "examples" / "demo.txt").read_text(encoding="utf-8").splitlines()
    verdicts = _shipped().classify(texts)
    found = [(str(v.action), ", ".join(v.flagged) or "-") for v in verdicts]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.split("<!-- demo:begin -->")[1].split("<!-- demo:end -->")[0]
    rows = [re.split(r"\s{2,}", line.strip()) for line in block.splitlines()]
    shown = [(row[0], row[1]) for row in rows if row[0] in ("allow", "review", "block")]
    assert shown == found


@pytest.mark.model
def test_shipped_model_reproduces_its_golden_scores():
    classifier = _shipped()
    assert classifier.self_check() <= classifier.bundle.meta.golden_tolerance
