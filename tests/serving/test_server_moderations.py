"""``POST /v1/moderations``: OpenAI's shapes, the classifier's scores."""

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline.server.schemas import ModerationResponse
from fineline.taxonomy import OPENAI_CATEGORIES, load_taxonomy

IDS = load_taxonomy().ids
MARKER = "zebrawhisper"
TEXTS = ["tell anyone", "", "他说要打断你的手", "never report 😀 help " * 30, "مرحبا"]


@pytest.fixture(scope="module")
def client(make_app, classifier_fp32):
    with TestClient(make_app(classifier_fp32)) as client:
        yield client


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        ("tell anyone", ["tell anyone"]),
        (TEXTS, TEXTS),
        ([{"type": "text", "text": "tell"}, {"type": "text", "text": "anyone"}], ["tell\nanyone"]),
        ([""], [""]),
    ],
    ids=["text", "list", "parts", "empty"],
)
def test_moderations_give_the_classifiers_scores(client, post, classifier_fp32, given, judged):
    response = post(client, "/v1/moderations", {"input": given, "model": "omni-moderation-latest"})
    assert response.status_code == 200
    body = response.json()
    ModerationResponse.model_validate(body)
    assert set(body) == {"id", "model", "results"}
    assert body["model"] == "tiny@0.0.1"
    for result, verdict in zip(body["results"], classifier_fp32.classify(judged), strict=True):
        assert result["flagged"] is bool(verdict.flagged)
        for label in IDS:
            if label not in OPENAI_CATEGORIES:
                assert result["category_scores"][label] == pytest.approx(verdict.scores[label], abs=1e-5)
                assert result["categories"][label] is (label in verdict.flagged)
        assert set(result["categories"]) == set(result["category_scores"]) == {*OPENAI_CATEGORIES, *IDS}
        assert set(result["category_applied_input_types"]) == set(result["categories"])


def test_a_mapped_category_is_the_highest_of_its_labels(client, post, classifier_fp32):
    result = post(client, "/v1/moderations", {"input": "tell anyone"}).json()["results"][0]
    verdict = classifier_fp32.classify(["tell anyone"])[0]
    hate = [x.id for x in load_taxonomy() if any(entry[1:] == "hate" for entry in x.crosswalk["openai"])]
    assert len(hate) > 3
    assert result["category_scores"]["hate"] == pytest.approx(max(verdict.scores[x] for x in hate), abs=1e-5)
    assert result["categories"]["hate"] is bool(set(hate) & set(verdict.flagged))
    assert result["category_scores"]["sexual/minors"] == 0


def test_an_image_is_refused_by_name(client, post, error_of):
    image = {"type": "image_url", "image_url": {"url": f"https://example.com/{MARKER}.png"}}
    text = {"type": "text", "text": MARKER}
    for parts in ([image], [text, image]):
        response = post(client, "/v1/moderations", {"input": parts})
        assert "text only" in error_of(response, 400, "image_not_supported", MARKER)["message"]


@pytest.mark.parametrize(
    "part",
    [
        {"type": MARKER, "text": "a"},
        {"type": "text"},
        {"type": "text", "text": "a", MARKER: "b"},
        {"type": "text", "text": [MARKER]},
        {"text": MARKER},
    ],
)
def test_a_bad_part_names_the_field_and_not_the_content(client, post, error_of, part):
    error = error_of(post(client, "/v1/moderations", {"input": [part]}), 422, "invalid_request", MARKER)
    assert error["param"].startswith("input")
