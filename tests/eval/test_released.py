"""The committed report is of the shipped bundle, which still decides as it says, and passes the gates."""

import numpy as np
import pytest

from fineline import Classifier
from fineline_eval.decisions import decide, origin, read_decisions
from fineline_eval.gates import check_gates, load_gates, loosened, read_floors, record_floors
from fineline_eval.measures import report_measures
from fineline_eval.report import read_report
from fineline_training.corpus.loader import CORPUS_DIR
from fineline_training.sources.readers.authored import read_authored
from fineline_training.sources.registry import AUTHORED

SAMPLE = 600
SAME = 0.985
"""Share of sampled rows decided as recorded: a score on its threshold may fall either way on another CPU."""


@pytest.fixture(scope="module")
def released(pytestconfig):
    folder = pytestconfig.rootpath / "model_cards" / "fineline-1"
    if not (folder / "report.json").is_file():
        pytest.skip("model_cards/fineline-1/report.json is not there: no model is released yet")
    return folder


def test_the_released_report_passes_the_gates(released):
    report = read_report(released)
    failures = check_gates(report_measures(report), load_gates(), read_floors(), policy=report.policy)
    assert [str(failure) for failure in failures] == []


def test_the_floors_are_no_laxer_than_the_released_report(released):
    report, gates = read_report(released), load_gates()
    own = record_floors(report_measures(report), gates, model=report.model, policy=report.policy)
    assert loosened(own, read_floors(), gates) == {}, "run 'fineline gates model_cards/fineline-1 --record'"


def test_the_released_report_is_of_the_shipped_bundle(released):
    report, bundle = read_report(released), Classifier.load(threads=1).bundle
    assert report.model == bundle.model_id
    assert report.files == dict(bundle.meta.files)
    assert report.digest == bundle.meta.digest, "thresholds among it"


def test_the_shipped_bundle_decides_held_back_rows_as_recorded(released):
    report = read_report(released)
    recorded = read_decisions(released, origin(report.model, report.policy, report.files, report.digest))[AUTHORED]
    rows = [row for row in read_authored(CORPUS_DIR) if row.split == "dev"]
    rows = rows[:: max(1, len(rows) // SAMPLE)]
    classifier = Classifier.load(policy=report.policy, threads=2)
    verdicts = classifier.classify([row.text for row in rows], [row.context for row in rows])
    flagged = np.array([bool(verdict.flagged) for verdict in verdicts])
    nothing = np.zeros((len(rows), len(classifier.labels)), dtype=np.bool_)
    truth = np.array([row.unlawful for row in rows])
    names = [""] * len(rows)
    now = decide(AUTHORED, rows, truth=truth, flagged=flagged, reached=nothing, clusters=names, slices=names)
    _, ours, theirs = np.intersect1d(now.keys, recorded.keys, return_indices=True)
    assert len(ours) > 0.9 * len(rows), "the report is of an older corpus: run 'make eval card'"
    assert (now.flagged[ours] == recorded.flagged[theirs]).mean() >= SAME
