"""The parts together: keys, appeals, the console, pages of other origins, and a failure in the middle of a request."""

import json
import logging

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline import Classifier, ConfigError
from fineline.server.app import create_app
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.keys import AuthSettings, Scope, new_key, write_keys
from fineline.server.models import ModelSlot
from fineline.server.settings import CorsSettings, LimitSettings, ListenSettings, ServerSettings

MARKER = "zebrawhisper"
JUDGING = ("/v1/moderations", "/v1/classify", "/v2/models/tiny/infer")
TENSOR = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["tell anyone"]}


def body_for(path):
    return {"inputs": [TENSOR]} if path.startswith("/v2") else {"input": "tell anyone"}


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/classify"])
def test_a_failure_is_answered_counted_and_logged_without_the_text(
    tiny_bundle, make_app, post, error_of, monkeypatch, caplog, path
):
    broken = Classifier.load(tiny_bundle, threads=1)
    with TestClient(make_app(broken)) as client:

        def fail(texts, contexts=None):
            raise ValueError(f"cannot judge {texts[0]}")

        monkeypatch.setattr(broken, "encode", fail)
        with caplog.at_level(logging.DEBUG):
            error_of(post(client, path, {"input": MARKER}), 500, "internal", MARKER)
        assert "ValueError at " in caplog.text
        assert MARKER not in caplog.text
        monkeypatch.undo()
        assert post(client, path, {"input": MARKER}).status_code == 200
        text = client.get("/metrics").text
    assert f'fineline_requests_total{{route="{path}",status="500"}} 1.0' in text
    assert "fineline_queue_tokens 0.0" in text


def test_verdict_ids_can_be_appealed(make_app, post, tmp_path):
    settings = FeedbackSettings(url=f"sqlite:///{tmp_path}/feedback.db")
    with TestClient(make_app(feedback=settings)) as client:
        for path in JUDGING[:2]:
            (result,) = post(client, path, {"input": "tell anyone"}).json()["results"]
            appeal = {"verdict_id": result["verdict_id"], "expected_labels": [], "reason": "missing_context"}
            assert post(client, "/v1/feedback", appeal).status_code == 201
        wrong = appeal | {"text": "another text", "consent": True}
        assert 400 <= post(client, "/v1/feedback", wrong).status_code < 500


def test_without_appeals_there_are_no_ids_and_no_routes(make_app, post):
    with TestClient(make_app()) as client:
        for path in JUDGING[:2]:
            assert "verdict_id" not in post(client, path, {"input": "a"}).json()["results"][0]
        assert client.post("/v1/feedback").status_code == 404


@pytest.fixture
def keyed(make_app, tmp_path):
    """An app with a key of each scope."""
    made = {scope: new_key(str(scope), [scope], characters_per_minute=40) for scope in Scope}
    write_keys(tmp_path / "keys.toml", [entry for _, entry in made.values()])
    with TestClient(make_app(auth=AuthSettings(keys=str(tmp_path / "keys.toml")))) as client:
        yield client, {scope: {"authorization": f"Bearer {key}"} for scope, (key, _) in made.items()}


@pytest.mark.parametrize("path", JUDGING)
def test_every_route_that_judges_asks_for_its_key_and_charges_it(keyed, post, path):
    client, keys = keyed
    assert post(client, path, body_for(path)).status_code == 401
    assert post(client, path, body_for(path), **keys[Scope.ADMIN]).status_code == 403
    for _ in range(3):  # of 11 characters each
        assert post(client, path, body_for(path), **keys[Scope.JUDGE]).status_code == 200
    refused = post(client, path, body_for(path), **keys[Scope.JUDGE])
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", JUDGING)
def test_what_is_refused_is_not_charged(make_app, post, tmp_path, path):
    key, entry = new_key("one", [Scope.JUDGE], characters_per_minute=40)
    write_keys(tmp_path / "keys.toml", [entry])
    limits = LimitSettings(max_characters=20)
    with TestClient(make_app(auth=AuthSettings(keys=str(tmp_path / "keys.toml")), limits=limits)) as client:
        header = {"authorization": f"Bearer {key}"}
        long = json.loads(json.dumps(body_for(path)).replace("anyone", "x" * 30))
        for _ in range(3):
            assert post(client, path, long, **header).status_code == 413
        assert post(client, path, body_for(path), **header).status_code == 200


def test_admin_routes_ask_for_theirs(keyed):
    client, keys = keyed
    for method, path in (("POST", "/admin/reload"), ("GET", "/admin/model")):
        assert client.request(method, path).status_code == 401
        assert client.request(method, path, headers=keys[Scope.JUDGE]).status_code == 403
        assert client.request(method, path, headers=keys[Scope.ADMIN]).status_code == 200


def test_health_and_metrics_need_none(keyed):
    client, _ = keyed
    for path in ("/healthz", "/readyz", "/metrics", "/v1/model", "/v2/health/ready", "/"):
        assert client.get(path).status_code == 200


def test_a_host_that_others_reach_needs_keys_or_a_word(tmp_path):
    listen = ListenSettings(host="0.0.0.0")
    off = FeedbackSettings(enabled=False)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0"):
        create_app(ServerSettings(listen=listen, feedback=off), ModelSlot())
    create_app(ServerSettings(listen=listen, feedback=off, auth=AuthSettings(insecure_no_auth=True)), ModelSlot())


def test_only_named_origins_may_call(make_app):
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with TestClient(make_app(cors=CorsSettings(origins=("https://example.org",)))) as client:
        named = client.options("/v1/classify", headers=asks | {"origin": "https://example.org"})
        other = client.options("/v1/classify", headers=asks | {"origin": "https://example.com"})
    assert named.headers["access-control-allow-origin"] == "https://example.org"
    assert "access-control-allow-origin" not in other.headers


def test_a_page_of_a_named_origin_can_read_a_refusal(make_app):
    settings = {"cors": CorsSettings(origins=("https://example.org",)), "limits": LimitSettings(max_body=10)}
    with TestClient(make_app(**settings)) as client:
        refused = client.post("/v1/classify", json={"input": "a text"}, headers={"origin": "https://example.org"})
    assert refused.status_code == 413
    assert refused.headers["access-control-allow-origin"] == "https://example.org"


def test_no_origin_is_named_by_default(make_app):
    with TestClient(make_app()) as client:
        none = client.get("/v1/model", headers={"origin": "https://example.org"})
    assert not [name for name in none.headers if name.startswith("access-control")]


def test_nothing_is_loaded_from_elsewhere(make_app):
    with TestClient(make_app()) as client:
        assert client.get("/docs").status_code == client.get("/redoc").status_code == 404
        assert client.get("/openapi.json").json()["info"]["title"] == "Fineline"
