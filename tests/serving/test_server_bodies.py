"""Bodies of every shape get an answer in OpenAI's form that quotes none of them, and none hurts the server."""

import json
import time

import pytest

pytest.importorskip("fastapi")
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient

from fineline.server.bodies import TooManyError, parse_json
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.settings import LimitSettings

MARKER = "zebrawhisper"
LIMITS = LimitSettings(max_inputs=100, max_body=2**20, max_characters=5000)


@pytest.fixture(scope="module")
def client(make_app):
    with TestClient(make_app(limits=LIMITS)) as client:
        yield client


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/classify"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{" + MARKER.encode(), 422, "invalid_request"),
        (b"", 422, "invalid_request"),
        (b"\xff\xfe\x00", 422, "invalid_request"),
        (b'{"input": "\xff\xfe"}', 422, "invalid_request"),
        (b"[" * 10_000, 422, "invalid_request"),
        (b'{"input": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", 422, "invalid_request"),
        (b'{"input": ' + b"[" * 500 + b"]" * 500 + b"}", 422, "invalid_request"),
        (b'{"input": "a", "n": ' + b"9" * 5000 + b"}", 422, "invalid_request"),
        (f'"{MARKER}"'.encode(), 422, "invalid_request"),
        ({}, 422, "invalid_request"),
        ({"input": None}, 422, "invalid_request"),
        ({"input": 7}, 422, "invalid_request"),
        ({"input": {"text": MARKER}}, 422, "invalid_request"),
        ({"input": [MARKER, 7]}, 422, "invalid_request"),
        ({"input": "a", MARKER: 1}, 422, "invalid_request"),
        ({"input": "a"} | {f"{MARKER}{n}": 1 for n in range(100)}, 422, "invalid_request"),
        ({"input": "a", "model": [MARKER], "policy": [MARKER]}, 422, "invalid_request"),
        ({"input": []}, 400, "input_empty"),
        ({"input": [MARKER] * 101}, 422, "too_many_inputs"),
        ({"input": MARKER * 1000}, 413, "input_too_long"),
        ({"input": "a" * LIMITS.max_body}, 413, "body_too_large"),
    ],
)
def test_a_bad_body_is_refused_in_openais_form(client, post, error_of, path, body, status, code):
    error_of(post(client, path, body), status, code, MARKER)


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/classify"])
@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded", MARKER])
def test_another_media_type_is_named(client, error_of, path, media):
    response = client.post(path, content=b'{"input": "a"}', headers={"content-type": media})
    assert "application/json" in error_of(response, 415, "media_type", MARKER)["message"]


def test_json_with_a_charset_is_json(client, post):
    assert (
        post(client, "/v1/classify", {"input": "a"}, content_type="application/json; charset=utf-8").status_code == 200
    )


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/classify"])
def test_a_lone_surrogate_in_json_is_judged_like_any_text(client, post, path):
    response = post(client, path, b'{"input": ["a", "zebra \\ud800 text"]}')
    assert response.status_code == 200
    replaced = post(client, path, {"input": ["a", "zebra \ufffd text"]}).json()["results"]
    assert response.json()["results"] == replaced


def test_a_body_at_the_limits_is_judged(make_app, post):
    limits = LimitSettings(max_body=100_000 + len(json.dumps({"input": ""})), max_characters=100_000)
    with TestClient(make_app(limits=limits)) as client:
        assert post(client, "/v1/moderations", {"input": " " * 100_000}).status_code == 200
        assert post(client, "/v1/moderations", {"input": " " * 100_001}).status_code == 413


def test_the_most_inputs_allowed_are_judged(client, post):
    assert len(post(client, "/v1/moderations", {"input": ["a"] * 100}).json()["results"]) == 100


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/{MARKER}", 404),
        ("GET", "/v1/moderations", 405),
        ("DELETE", "/v1/classify", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_a_wrong_route_is_an_error_object_too(client, error_of, method, path, status):
    error_of(client.request(method, path), status, f"http_{status}", MARKER)


def test_the_methods_of_all_routes_of_a_path_are_named(make_app, tmp_path):
    settings = FeedbackSettings(url=f"sqlite:///{tmp_path}/x.db")
    with TestClient(make_app(feedback=settings)) as client:
        found = client.put(f"/v1/feedback/{'0' * 32}").headers["allow"]
        assert set(found.split(", ")) == {"GET", "DELETE"}
        assert client.put("/v1/classify").headers["allow"] == "POST"


# --- many entries


@pytest.mark.parametrize(
    "body",
    [
        b'{"input":[' + b'"a",' * 999_999 + b'"a"]}',
        b'{"input":[' + b"1," * 999_999 + b"1]}",
        b'{"input":"a","context":[' + b"1," * 999_999 + b"1]}",
        b'{"inputs":[{"data":[' + b'"a",' * 999_999 + b'"a"]}]}',
        b"{" + b",".join(b'"%d":1' % n for n in range(300_000)) + b"}",
        b"[" + b",".join([b"[" + b"[]," * 99 + b"[]]"] * 3000) + b"]",
    ],
    ids=["texts", "numbers", "contexts", "tensor", "keys", "lists"],
)
def test_a_million_entries_cost_no_more_than_parsing_them(body):
    began = time.process_time()
    with pytest.raises(TooManyError):
        parse_json(body, 2048)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 2_000_000 + b"1]",
        b"[" + b'{"a":[1]},' * 500_000 + b"1]",
        b"[" + '"中",'.encode() * 1_000_000 + b"1]",
        b"[" + b"1," * 3_000_000 + b"1]",
        b"[" * 5_000_000,
        b'"' * 5_000_000,
    ],
    ids=["lists", "objects", "strings", "numbers", "depth", "quotes"],
)
def test_millions_of_small_values_are_refused_before_they_are_made(body, monkeypatch):
    monkeypatch.setattr("fineline.server.bodies.json.loads", None)
    began = time.process_time()
    with pytest.raises(TooManyError):
        parse_json(body, 2048)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "text", ["[]{},:" * 200_000, '"' * 300_000, "\\" * 500_000, '\\"' * 300_000, '"[' * 300_000], ids=repr
)
def test_a_text_full_of_signs_is_a_text(text):
    assert parse_json(json.dumps({"input": text}).encode(), 10)["input"] == text


@pytest.mark.parametrize("body", [b'"' + b'\\"' * 3_000_000, b'"' + b"\\" * 6_000_001, b'["' + b"[" * 6_000_000])
def test_a_string_without_an_end_costs_no_more_than_its_length(body):
    began = time.process_time()
    with pytest.raises(RequestValidationError):
        parse_json(body, 10)
    assert time.process_time() - began < 2


def test_the_schemas_need_fewer_parts_than_are_allowed():
    """The largest request of each kind: multi-modal parts, contexts, tensors."""
    most = 2048
    for body in (
        {"input": [{"type": "text", "text": "a"}] * most, "model": "m"},
        {"input": ["a"] * most, "context": ["b"] * most, "policy": "minors"},
        {"inputs": [{"name": n, "shape": [most], "datatype": "BYTES", "data": [["a"]] * most} for n in ("a", "b")]},
    ):
        assert parse_json(json.dumps(body).encode(), most) == body


@pytest.mark.parametrize("body", [b"[" * 10_000, b"\xed\xa0\x80", b"{'a': 1}", b"nul", b"1" * 10_000, b'{"a":"\x00"}'])
def test_what_is_not_json_is_refused(body):
    with pytest.raises(RequestValidationError):
        parse_json(body, 10)


def test_a_list_at_the_limit_passes():
    assert parse_json(b'{"input": ["a", "b"]}', 2) == {"input": ["a", "b"]}
