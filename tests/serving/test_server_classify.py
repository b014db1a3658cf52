"""``POST /v1/classify``: whole verdicts."""

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline.server.schemas import ClassifyResponse

MARKER = "zebrawhisper"
TEXTS = ["tell anyone", "", "他说要打断你的手", "never report 😀 help " * 30, "مرحبا"]


@pytest.fixture(scope="module")
def client(make_app, classifier_fp32):
    with TestClient(make_app(classifier_fp32)) as client:
        yield client


def same(found, verdicts):
    for result, verdict in zip(found, verdicts, strict=True):
        expected = verdict.as_dict()
        scores, windows = expected.pop("scores"), expected.pop("windows")
        assert {name: result[name] for name in expected} == expected
        assert set(result) == {*expected, "scores", "windows"}
        assert result["scores"] == pytest.approx(scores, abs=1e-5)
        for here, there in zip(result["windows"], windows, strict=True):
            assert (here["start"], here["end"]) == (there["start"], there["end"])
            assert here["scores"] == pytest.approx(there["scores"], abs=1e-5)


def test_classify_gives_whole_verdicts(client, post, classifier_fp32):
    contexts = ["Why?", None, "", "为什么", None]
    body = post(client, "/v1/classify", {"input": TEXTS, "context": contexts, "policy": "minors"}).json()
    ClassifyResponse.model_validate(body)
    same(body["results"], classifier_fp32.classify(TEXTS, contexts, policy="minors"))
    assert body["results"][3]["windows"][-1]["end"] == len(TEXTS[3])


def test_one_context_holds_for_all_texts(client, post, classifier_fp32):
    results = post(client, "/v1/classify", {"input": TEXTS[:2], "context": "Why?"}).json()["results"]
    same(results, classifier_fp32.classify(TEXTS[:2], ["Why?"] * 2))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": ["a", "b"], "context": ["c"]}, "input_length"),
        ({"input": "a", "policy": MARKER}, "policy_unknown"),
        ({"input": []}, "input_empty"),
    ],
)
def test_the_classifiers_refusals_keep_their_code(client, post, error_of, body, code):
    error_of(post(client, "/v1/classify", body), 400, code, MARKER)


def test_a_request_may_ask_for_a_shorter_deadline(client, post, error_of):
    # A thousand long texts take longer than a millisecond.
    response = post(client, "/v1/classify", {"input": ["tell anyone " * 50] * 500}, x_deadline_ms="1")
    error_of(response, 504, "deadline")
    assert post(client, "/v1/classify", {"input": "a"}, x_deadline_ms="20000").status_code == 200


@pytest.mark.parametrize("given", ["0", "-5", "1.5", "soon", "", "9" * 10, "²"])
def test_a_bad_deadline_is_refused(client, post, error_of, given):
    error_of(post(client, "/v1/classify", {"input": "a"}, x_deadline_ms=given.encode()), 400, "deadline_header")
