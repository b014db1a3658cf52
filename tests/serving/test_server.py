"""The HTTP endpoint: OpenAI's shapes and errors, the classifier's scores, no user's text in errors, logs, metrics."""

import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline.bundle import GOLDEN
from fineline.server import app as module
from fineline.server.app import create_app
from fineline.server.moderations import CATEGORIES
from fineline.server.schemas import MAX_INPUTS
from fineline.taxonomy import load_taxonomy

IDS = load_taxonomy().ids
MARKER = "zebrawhisper"
TEXTS = ["tell anyone", "", "他说要打断你的手", "never report 😀 help " * 30, "مرحبا"]


@pytest.fixture(scope="module")
def client(classifier) -> Iterator[TestClient]:
    with TestClient(create_app(classifier)) as client:
        yield client


def post(client, path, body, **options):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(path, content=raw, headers={"content-type": "application/json"}, **options)


def error_of(response, status, code=None):
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert MARKER not in response.text
    if code:
        assert error["code"] == code
    return error


# --- answers


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
def test_moderations_give_the_classifiers_scores(client, classifier, given, judged):
    response = post(client, "/v1/moderations", {"input": given, "model": "omni-moderation-latest"})
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"id", "model", "results"}
    assert body["model"] == "tiny@0.0.1"
    for result, verdict in zip(body["results"], classifier.classify(judged), strict=True):
        assert result["flagged"] is bool(verdict.flagged)
        for label in IDS:
            if label not in CATEGORIES:
                assert result["category_scores"][label] == pytest.approx(verdict.scores[label], abs=1e-6)
                assert result["categories"][label] is (label in verdict.flagged)
        assert set(result["categories"]) == set(result["category_scores"]) == {*CATEGORIES, *IDS}
        assert set(result["category_applied_input_types"]) == set(result["categories"])


def test_a_mapped_category_is_the_highest_of_its_labels(client, classifier):
    result = post(client, "/v1/moderations", {"input": "tell anyone"}).json()["results"][0]
    verdict = classifier.classify(["tell anyone"])[0]
    hate = [x.id for x in load_taxonomy() if any(entry[1:] == "hate" for entry in x.crosswalk["openai"])]
    assert len(hate) > 3
    assert result["category_scores"]["hate"] == pytest.approx(max(verdict.scores[x] for x in hate), abs=1e-6)
    assert result["categories"]["hate"] is bool(set(hate) & set(verdict.flagged))
    assert result["category_scores"]["sexual/minors"] == 0


def test_classify_gives_whole_verdicts(client, classifier):
    contexts = ["Why?", None, "", "为什么", None]
    body = {"input": TEXTS, "context": contexts, "policy": "minors"}
    results = post(client, "/v1/classify", body).json()["results"]
    expected = [verdict.as_dict() for verdict in classifier.classify(TEXTS, contexts, policy="minors")]
    assert results == expected
    assert results[3]["windows"][-1]["end"] == len(TEXTS[3])


def test_one_context_holds_for_all_texts(client, classifier):
    results = post(client, "/v1/classify", {"input": TEXTS[:2], "context": "Why?"}).json()["results"]
    assert results == [verdict.as_dict() for verdict in classifier.classify(TEXTS[:2], ["Why?"] * 2)]


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/classify"])
def test_a_lone_surrogate_in_json_is_judged_like_any_text(client, path):
    response = post(client, path, b'{"input": ["a", "zebra \\ud800 text"]}')
    assert response.status_code == 200
    assert len(response.json()["results"]) == 2
    replaced = post(client, path, {"input": ["a", "zebra \ufffd text"]}).json()["results"]
    assert response.json()["results"] == replaced


# --- refusals


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/classify"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{" + MARKER.encode(), 422, "invalid_request"),
        (b"", 422, "invalid_request"),
        (b"\xff\xfe\x00", None, None),
        (b"[" * 50_000, None, None),
        (b'{"input": "a", "n": ' + b"9" * 5000 + b"}", None, None),
        (f'"{MARKER}"'.encode(), 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"input": None}, 422, "invalid_request"),
        ({"input": 7}, 422, "invalid_request"),
        ({"input": {"text": MARKER}}, 422, "invalid_request"),
        ({"input": [MARKER, 7]}, 422, "invalid_request"),
        ({"input": "a", MARKER: 1}, 422, "invalid_request"),
        ({"input": "a", "model": [MARKER], "policy": [MARKER]}, 422, "invalid_request"),
        ({"input": []}, 400, "input_empty"),
        ({"input": [MARKER] * (MAX_INPUTS + 1)}, 400, "too_many_inputs"),
        ({"input": "a" * module.MAX_BODY}, 413, "body_too_large"),
    ],
)
def test_a_bad_body_is_refused_in_openais_form(client, path, body, status, code):
    response = post(client, path, body)
    assert 400 <= response.status_code < 500
    error_of(response, status or response.status_code, code)


def test_an_image_is_refused_by_name(client):
    image = {"type": "image_url", "image_url": {"url": f"https://example.com/{MARKER}.png"}}
    text = {"type": "text", "text": MARKER}
    for parts in ([image], [text, image]):
        error = error_of(post(client, "/v1/moderations", {"input": parts}), 400, "image_not_supported")
        assert "text only" in error["message"]


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": MARKER, "text": "a"}, "input"),
        ({"type": "text"}, "input"),
        ({"type": "text", "text": "a", MARKER: "b"}, "input"),
        ({"type": "text", "text": [MARKER]}, "input"),
        ({"text": MARKER}, "input"),
    ],
)
def test_a_bad_part_names_the_field_and_not_the_content(client, part, place):
    error = error_of(post(client, "/v1/moderations", {"input": [part]}), 422, "invalid_request")
    assert error["param"].startswith(place)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"input": ["a", "b"], "context": ["c"]}, "input_length"),
        ({"input": "a", "policy": MARKER}, "policy_unknown"),
    ],
)
def test_the_classifiers_refusals_keep_their_code(client, body, code):
    error_of(post(client, "/v1/classify", body), 400, code)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/{MARKER}", 404),
        ("GET", "/v1/moderations", 405),
        ("DELETE", "/v1/classify", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_a_wrong_route_is_an_error_object_too(client, method, path, status):
    error_of(client.request(method, path), status, f"http_{status}")


def test_a_body_at_the_limit_is_judged(client):
    frame = len(json.dumps({"input": ""}))
    response = post(client, "/v1/moderations", {"input": " " * (module.MAX_BODY - frame)})
    assert response.status_code == 200


def test_the_most_inputs_allowed_are_judged(client):
    response = post(client, "/v1/moderations", {"input": ["a"] * MAX_INPUTS})
    assert len(response.json()["results"]) == MAX_INPUTS


def test_a_failure_is_answered_counted_and_logged_without_the_text(tiny_bundle, monkeypatch, caplog):
    from fineline import Classifier

    broken = Classifier.load(tiny_bundle, threads=1)
    with TestClient(create_app(broken)) as client:

        def fail(texts, *_, **__):
            raise ValueError(f"cannot judge {texts[0]}")

        monkeypatch.setattr(broken, "classify", fail)
        with caplog.at_level(logging.DEBUG):
            error_of(post(client, "/v1/moderations", {"input": MARKER}), 500, "internal")
        assert "ValueError at " in caplog.text
        assert MARKER not in caplog.text
        assert 'fineline_requests_total{route="/v1/moderations",status="500"} 1.0' in client.get("/metrics").text


# --- health, metrics, model


def test_health_readiness_and_model(client, classifier):
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").json() == {"status": "ready", "model": "tiny@0.0.1"}
    model = client.get("/v1/model").json()
    assert model["labels"] == list(IDS)
    assert model["thresholds"] == classifier.bundle.meta.thresholds
    assert GOLDEN in model["files"]


def test_it_is_not_ready_before_the_golden_file_was_reproduced(classifier):
    client = TestClient(create_app(classifier))  # no "with": the start-up has not run
    assert client.get("/healthz").status_code == 200
    error_of(client.get("/readyz"), 503, "not_ready")


def test_a_model_that_fails_its_golden_file_does_not_start(classifier, monkeypatch):
    from fineline import BundleError

    def fail() -> float:
        raise BundleError("bundle_golden", "other CPU")

    monkeypatch.setattr(classifier, "self_check", fail)
    with pytest.raises(BundleError), TestClient(create_app(classifier)):
        pass


def test_metrics_count_requests_texts_and_flags(classifier):
    with TestClient(create_app(classifier)) as client:
        post(client, "/v1/classify", {"input": TEXTS})
        post(client, "/v1/classify", {"input": 7})
        client.get(f"/{MARKER}/{MARKER}")
        text = client.get("/metrics").text
    verdicts = classifier.classify(TEXTS)
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
    assert counted['fineline_requests_total{route="/v1/classify",status="200"}'] == 1
    assert counted['fineline_requests_total{route="/v1/classify",status="422"}'] == 1
    assert counted['fineline_requests_total{route="other",status="404"}'] == 1
    assert sum(value for key, value in counted.items() if key.startswith("fineline_texts_total")) == len(TEXTS)
    for label in {x for verdict in verdicts for x in verdict.flagged}:
        assert counted[f'fineline_flags_total{{label="{label}"}}'] == sum(label in v.flagged for v in verdicts)
    assert MARKER not in text


# --- a real server, the official client


@dataclass(frozen=True, kw_only=True)
class Real:
    url: str
    log: Path


@pytest.fixture(scope="module")
def real(tiny_bundle, source_env, tmp_path_factory) -> Iterator[Real]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    words = ["serve", "--bundle", str(tiny_bundle), "--port", str(port)]
    code = "from fineline.cli import main; main()"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-c", code, *words], env=source_env, stdout=stream, stderr=stream)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None, log.read_text()
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        else:
            pytest.fail("the server did not become ready")
        yield Real(url=url, log=log)
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15)


@pytest.fixture(scope="module")
def openai_client(real):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize(
    ("given", "judged"),
    [
        ("tell anyone", ["tell anyone"]),
        (TEXTS, TEXTS),
        ([{"type": "text", "text": "tell"}, {"type": "text", "text": "anyone"}], ["tell\nanyone"]),
    ],
)
def test_the_official_client_reads_the_answer(openai_client, classifier, given, judged):
    answer = openai_client.moderations.create(input=given, model="omni-moderation-latest")
    assert answer.id.startswith("modr-")
    for result, verdict in zip(answer.results, classifier.classify(judged), strict=True):
        assert result.flagged is bool(verdict.flagged)
        assert isinstance(result.categories.self_harm_instructions, bool)
        assert isinstance(result.category_scores.harassment_threatening, float)
        assert result.category_scores.to_dict()["subversion"] == pytest.approx(verdict.scores["subversion"], abs=1e-6)


def test_the_official_client_reads_the_errors(openai_client):
    import openai

    image = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    with pytest.raises(openai.BadRequestError, match="text only") as caught:
        openai_client.moderations.create(input=image)
    assert caught.value.code == "image_not_supported"
    with pytest.raises(openai.UnprocessableEntityError) as unknown:
        openai_client.moderations.create(input="a", extra_body={MARKER: 1})
    assert MARKER not in str(unknown.value)


def test_parallel_requests_each_get_their_own_answer(real, classifier):
    texts = [" ".join(["tell anyone help never 他说"[i % 7 :], "word " * (i % 11), str(i)]) for i in range(50)]
    with httpx.Client(base_url=real.url, timeout=60) as client, ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda text: client.post("/v1/classify", json={"input": text}).json(), texts))
    expected = [classifier.classify([text])[0].as_dict() for text in texts]
    assert len({answer["id"] for answer in found}) == 50
    for answer, verdict in zip(found, expected, strict=True):
        assert answer["results"][0]["windows"][-1]["end"] == verdict["windows"][-1]["end"]
        assert answer["results"][0]["scores"] == pytest.approx(verdict["scores"], abs=1e-5)


def test_a_body_over_the_limit_is_refused_without_being_read_to_its_end(real):
    def endless() -> Iterator[bytes]:
        for _ in range(2000):
            yield b"x" * 2**16

    try:
        response = httpx.post(f"{real.url}/v1/moderations", content=endless(), timeout=30)
    except httpx.TransportError:
        response = None  # the server hung up while the client was still sending
    if response is not None:
        error_of(response, 413, "body_too_large")
    assert httpx.get(f"{real.url}/healthz").text == "ok"


def test_nothing_a_user_sent_reaches_log_or_metrics(real):
    bodies = [
        json.dumps({"input": MARKER}),
        json.dumps({"input": [MARKER, 5]}),
        json.dumps({"input": MARKER, MARKER: MARKER}),
        json.dumps({"input": MARKER, "context": MARKER, "policy": MARKER}),
        "{" + MARKER,
        '{"input": "' + MARKER + ' \\ud800"}',
    ]
    with httpx.Client(base_url=real.url) as client:
        for path in ("/v1/moderations", "/v1/classify"):
            for body in bodies:
                response = client.post(path, content=body, headers={"x-note": MARKER, "user-agent": MARKER})
                assert MARKER not in response.text
        client.get(f"/{MARKER}?q={MARKER}")
        metrics = client.get("/metrics").text
    assert "fineline_requests_total" in metrics
    assert MARKER not in metrics
    assert MARKER not in real.log.read_text()
