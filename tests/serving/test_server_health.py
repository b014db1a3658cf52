"""Health, readiness, metrics, the model's metadata; and admin routes."""

import json
import shutil

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline import BundleError, Classifier
from fineline.bundle import CARD, GOLDEN, META, MODEL, write_bundle
from fineline.server.app import create_app
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.models import ModelSlot
from fineline.server.settings import EngineSettings, ServerSettings
from fineline.taxonomy import load_taxonomy

IDS = load_taxonomy().ids
MARKER = "zebrawhisper"
TEXTS = ["tell anyone", "", "他说要打断你的手", "never report 😀 help " * 30, "مرحبا"]
LOCAL = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def client(make_app):
    with TestClient(make_app()) as client:
        yield client


def test_health_readiness_and_model(client, classifier):
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").json() == {"status": "ready", "model": "tiny@0.0.1"}
    model = client.get("/v1/model").json()
    meta = classifier.bundle.meta
    assert model["labels"] == list(IDS)
    assert model["thresholds"] == meta.thresholds
    assert model["digest"] == meta.digest
    assert model["manifest"] == meta.manifest
    assert model["window"] == {"size": 64, "overlap": 12, "context": 16}
    assert 0 <= model["golden_gap"] <= model["golden_tolerance"] == meta.golden_tolerance
    assert GOLDEN in model["files"]


def test_the_card_is_the_bundles(client, classifier):
    card = client.get("/v1/model/card")
    assert card.text == (classifier.bundle.path / CARD).read_text(encoding="utf-8")
    assert card.headers["content-type"].startswith("text/markdown")


def test_a_bundle_without_a_card_is_not_found(make_app, tiny_bundle, tmp_path, error_of):
    shutil.copytree(tiny_bundle, tmp_path / "bare")
    (tmp_path / "bare" / CARD).unlink()
    with TestClient(make_app(Classifier.load(tmp_path / "bare", threads=1))) as client:
        error_of(client.get("/v1/model/card"), 404, "card_missing")


def test_it_is_not_ready_before_it_is_in_service(make_app, post, error_of):
    client = TestClient(make_app())  # no "with": the start-up has not run
    assert client.get("/healthz").status_code == 200
    for response in (client.get("/readyz"), client.get("/v1/model"), post(client, "/v1/classify", {"input": "a"})):
        error_of(response, 503, "not_ready")
        assert response.headers["retry-after"] == "1"


def test_it_is_not_ready_once_it_stops(make_app, error_of):
    app = make_app()
    with TestClient(app) as client:
        app.state.service.drain.stopping = True
        error_of(client.get("/readyz"), 503, "stopping")
        assert client.get("/v2/health/ready").status_code == 503
        assert client.get("/healthz").status_code == 200
        assert client.get("/v2/health/live").status_code == 200
        error_of(client.get("/v1/model"), 503, "stopping")


def test_a_model_that_fails_its_golden_file_does_not_start(tiny_bundle, make_app, monkeypatch):
    own = Classifier.load(tiny_bundle, threads=1)

    def fail():
        raise BundleError("bundle_golden", "other CPU")

    monkeypatch.setattr(own, "self_check", fail)
    with pytest.raises(BundleError):
        make_app(own)


def test_metrics_count_requests_texts_and_flags(make_app, post, classifier_fp32):
    with TestClient(make_app(classifier_fp32)) as client:
        post(client, "/v1/classify", {"input": TEXTS})
        post(client, "/v1/classify", {"input": 7})
        client.get(f"/{MARKER}/{MARKER}")
        text = client.get("/metrics").text
    verdicts = classifier_fp32.classify(TEXTS)
    counted = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}
    assert counted['fineline_requests_total{route="/v1/classify",status="200"}'] == 1
    assert counted['fineline_requests_total{route="/v1/classify",status="422"}'] == 1
    assert counted['fineline_requests_total{route="other",status="404"}'] == 1
    assert sum(value for key, value in counted.items() if key.startswith("fineline_texts_total")) == len(TEXTS)
    for label in {x for verdict in verdicts for x in verdict.flagged}:
        assert counted[f'fineline_flags_total{{label="{label}"}}'] == sum(label in v.flagged for v in verdicts)
    assert counted["fineline_queue_tokens"] == 0
    assert counted["fineline_batch_tokens_count"] >= 1
    assert any(key.startswith('fineline_model_info{digest="') for key in counted)
    assert MARKER not in text


# --- admin


@pytest.fixture
def admin(tiny_bundle, tmp_path):
    """A server on a copy of the bundle beside which others can be put."""
    shutil.copytree(tiny_bundle, tmp_path / "one")
    engine = EngineSettings(bundle=str(tmp_path / "one"), sessions=1)
    settings = ServerSettings(feedback=FeedbackSettings(enabled=False), engine=engine)
    with TestClient(create_app(settings, ModelSlot(settings)), base_url=LOCAL) as client:
        yield client


def test_admins_reload_and_see_what_is_loaded(admin, post, tmp_path):
    meta = json.loads((tmp_path / "one" / META).read_text(encoding="utf-8"))
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    files = {name: tmp_path / "one" / name for name in meta["files"]}
    write_bundle(tmp_path / "two", files, "card", entries | {"version": "0.0.2"})
    done = post(admin, "/admin/reload", {"bundle": "two"})
    assert done.status_code == 200
    assert (done.json()["previous"], done.json()["model"]) == ("tiny@0.0.1", "tiny@0.0.2")
    seen = admin.get("/admin/model").json()
    assert (seen["model"], seen["path"], seen["workers"]) == ("tiny@0.0.2", str(tmp_path / "two"), 1)
    assert seen["requests"] == seen["queue_tokens"] == 0
    assert admin.post("/admin/reload").json()["model"] == "tiny@0.0.1"
    assert 'fineline_reloads_total{result="done"} 2.0' in admin.get("/metrics").text


def test_a_reload_that_fails_says_why_and_changes_nothing(admin, post, error_of, tmp_path):
    (tmp_path / "one" / MODEL).write_bytes(b"cut")
    message = error_of(admin.post("/admin/reload"), 422, "bundle_hash_mismatch")["message"]
    assert MODEL in message and message.endswith("tiny@0.0.1 stays in use.")
    error_of(post(admin, "/admin/reload", {"bundle": "../one"}), 422, "bundle_missing")
    error_of(post(admin, "/admin/reload", {"bundle": MARKER}), 422, "bundle_missing", MARKER)
    assert post(admin, "/v1/classify", {"input": "a"}).json()["results"][0]["model"] == "tiny@0.0.1"


def test_admin_routes_are_shut_to_others(client, error_of):
    # The client of this app calls itself another host than this machine.
    error_of(client.post("/admin/reload"), 403, "admin_needs_key")
    error_of(client.get("/admin/model"), 403, "admin_needs_key")
