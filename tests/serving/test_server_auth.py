"""Who may call: keys, scopes and limits, reload, and what is open without keys."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pytest

pytest.importorskip("fastapi")
from fastapi import Depends, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.requests import HTTPConnection
from starlette.testclient import WebSocketDenialResponse

from fineline.errors import ConfigError
from fineline.server.auth import Bucket, Caller, Guard, is_loopback, require
from fineline.server.keys import AuthSettings, Scope, new_key, write_keys
from fineline.server.problems import UnauthorizedError
from fineline.server.refusals import add_refusals

LOCAL = "http://127.0.0.1:8000"


class Clock:
    """Seconds that pass when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def app_of(guard):
    app = FastAPI()
    app.state.guard = guard
    add_refusals(app, frozenset())

    @app.post("/judge")
    async def judge(characters: int, caller: Annotated[Caller, Depends(require(Scope.JUDGE))]):
        caller.charge(characters)
        return caller.name

    @app.post("/admin", dependencies=[Depends(require(Scope.ADMIN))])
    async def admin():
        return "done"

    @app.websocket("/stream")
    async def stream(socket: WebSocket, caller: Annotated[Caller, Depends(require(Scope.JUDGE))]):
        await socket.accept()
        await socket.send_text(f"{caller.name} {socket.state.caller}")
        await socket.close()

    return app


def call(client, key=None, path="/judge", characters=1, **headers):
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    return client.post(f"{path}?characters={characters}", headers=headers)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.toml"


@pytest.fixture
def keyed(file, clock):
    """A client of an app with keys, and the secrets by name."""
    made = {
        "team": new_key("team", ["judge"]),
        "slow": new_key("slow", ["judge"], requests_per_minute=6, characters_per_minute=600),
        "ops": new_key("ops", ["admin"]),
        "old": new_key("old", ["judge"], expires=datetime.now(UTC) - timedelta(seconds=1)),
        "new": new_key("new", ["judge"], expires=datetime.now(UTC) + timedelta(hours=1)),
    }
    write_keys(file, [entry for _, entry in made.values()])
    guard = Guard(file, clock=clock)
    with TestClient(app_of(guard), base_url=LOCAL) as client:
        yield client, {name: secret for name, (secret, _) in made.items()}, guard


def error_of(response, status, code):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    return error["message"]


def test_a_key_opens_what_its_scopes_name_and_nothing_else(keyed):
    client, secrets, _ = keyed
    assert call(client, secrets["team"]).json() == "team"
    assert call(client, secrets["new"]).json() == "new"
    assert call(client, secrets["ops"], "/admin").status_code == 200
    assert "'admin'" in error_of(call(client, secrets["team"], "/admin"), 403, "missing_scope")
    assert "'judge'" in error_of(call(client, secrets["ops"]), 403, "missing_scope")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic Zm9vOmJhcg==", "KEY"])
def test_a_request_without_a_key_is_refused(keyed, header):
    client, secrets, _ = keyed
    headers = {"authorization": (header.replace("KEY", secrets["team"]))} if header is not None else {}
    response = client.post("/judge?characters=1", headers=headers)
    error_of(response, 401, "missing_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


def test_an_unknown_or_expired_key_is_refused_and_never_repeated(keyed, caplog):
    client, secrets, _ = keyed
    caplog.set_level(logging.DEBUG)
    for key, code in (("fineline-zebrawhisper", "invalid_api_key"), (secrets["old"], "expired_api_key")):
        response = call(client, key)
        error_of(response, 401, code)
        assert key not in response.text + caplog.text
    assert not any(secret in caplog.text for secret in secrets.values())


def test_a_stranger_is_recognised_before_anything_is_read_and_nobody_is_counted(keyed):
    client, secrets, guard = keyed

    def sent(key):
        headers = [(b"authorization", f"Bearer {key}".encode())] if key else []
        return HTTPConnection({"type": "http", "headers": headers})

    for key, code in ((None, "missing_api_key"), ("x", "invalid_api_key"), (secrets["old"], "expired_api_key")):
        with pytest.raises(UnauthorizedError) as caught:
            guard.recognise(sent(key))
        assert caught.value.code == code
    for _ in range(20):
        guard.recognise(sent(secrets["slow"]))
    assert call(client, secrets["slow"]).status_code == 200
    Guard().recognise(sent(None))


def test_the_word_bearer_is_read_in_any_case(keyed):
    client, secrets, _ = keyed
    response = client.post("/judge?characters=1", headers={"authorization": f"bearer  {secrets['team']}"})
    assert response.status_code == 200


def test_requests_over_the_limit_wait_and_then_pass(keyed, clock):
    client, secrets, _ = keyed
    assert [call(client, secrets["slow"]).status_code for _ in range(7)] == [200] * 6 + [429]
    response = call(client, secrets["slow"])
    assert "6 requests a minute" in error_of(response, 429, "rate_limit_exceeded")
    assert response.headers["retry-after"] == "10"
    assert call(client, secrets["team"]).status_code == 200
    clock.now += 10
    assert call(client, secrets["slow"]).status_code == 200
    assert call(client, secrets["slow"]).status_code == 429


def test_characters_over_the_limit_wait_and_a_large_request_pays_afterwards(keyed, clock):
    client, secrets, _ = keyed
    assert call(client, secrets["slow"], characters=1200).status_code == 200
    response = call(client, secrets["slow"], characters=1)
    assert "600 characters a minute" in error_of(response, 429, "rate_limit_exceeded")
    assert response.headers["retry-after"] == "61"
    clock.now += 61
    assert call(client, secrets["slow"], characters=1).status_code == 200


def test_a_bucket_never_holds_more_than_a_minutes_worth():
    clock = Clock()
    bucket = Bucket(60, clock)
    clock.now += 3600
    assert [bucket.take(20) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(20) == pytest.approx(20)
    assert bucket.take(15) == pytest.approx(15)  # a refusal takes nothing


def test_a_reload_brings_new_keys_drops_old_ones_and_keeps_limits(keyed, file):
    client, secrets, guard = keyed
    for _ in range(6):
        call(client, secrets["slow"])
    kept = [key for key in guard._keys if key.name != "team"]
    fresh, entry = new_key("fresh", ["judge"])
    write_keys(file, [*kept, entry])
    assert call(client, fresh).status_code == 401
    guard.reload()
    assert call(client, fresh).json() == "fresh"
    error_of(call(client, secrets["team"]), 401, "invalid_api_key")
    assert call(client, secrets["slow"]).status_code == 429


def test_a_failed_reload_keeps_the_keys_in_use(keyed, file):
    client, secrets, guard = keyed
    file.write_text("[[keys]]\nname = ")
    with pytest.raises(ConfigError):
        guard.reload()
    assert call(client, secrets["team"]).status_code == 200


def test_a_websocket_is_admitted_by_the_same_header(keyed):
    client, secrets, _ = keyed
    with client.websocket_connect("/stream", headers={"authorization": f"Bearer {secrets['team']}"}) as socket:
        assert socket.receive_text() == "team team"
    with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/stream"):
        pass
    error_of(caught.value, 401, "missing_api_key")


def test_the_openapi_document_names_the_scheme(keyed):
    client, _, _ = keyed
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    assert document["paths"]["/admin"]["post"]["security"] == [{"api_key": []}]


# --- without keys


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_keys(host):
    assert is_loopback(host)
    with TestClient(app_of(Guard.open(AuthSettings(), host)), base_url=LOCAL) as client:
        assert call(client).json() == "anonymous"
        assert call(client, path="/admin").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.1.2.3", "example.org", "localhost.example.org"])
def test_another_address_needs_keys_or_the_explicit_word(host, file):
    with pytest.raises(ConfigError, match="insecure-no-auth") as caught:
        Guard.open(AuthSettings(), host)
    assert caught.value.code == "auth_required"
    write_keys(file, [new_key("a", ["judge"])[1]])
    assert Guard.open(AuthSettings(keys=str(file)), host)
    with TestClient(app_of(Guard.open(AuthSettings(insecure_no_auth=True), host)), base_url=LOCAL) as client:
        assert call(client).status_code == 200
        error_of(call(client, path="/admin"), 403, "admin_needs_key")


def test_keys_are_asked_for_on_loopback_too_once_there_is_a_file(file):
    write_keys(file, [new_key("a", ["judge"])[1]])
    with TestClient(app_of(Guard.open(AuthSettings(keys=str(file)), "127.0.0.1")), base_url=LOCAL) as client:
        assert call(client).status_code == 401


def test_settings_that_contradict_or_name_no_file_stop_the_start(tmp_path):
    with pytest.raises(ConfigError) as caught:
        Guard.open(AuthSettings(keys="x", insecure_no_auth=True), "127.0.0.1")
    assert caught.value.code == "auth_settings"
    with pytest.raises(ConfigError) as caught:
        Guard.open(AuthSettings(keys=str(tmp_path / "none.toml")), "127.0.0.1")
    assert caught.value.code == "config_missing"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:8000"},
        {"host": "["},
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:9999"},
        {"origin": "null"},
    ],
)
def test_a_foreign_web_page_cannot_use_the_admin_routes_of_a_loopback_server(headers):
    with TestClient(app_of(Guard.open(AuthSettings(), "127.0.0.1")), base_url=LOCAL) as client:
        error_of(call(client, path="/admin", **headers), 403, "admin_needs_key")
        assert call(client, path="/admin", origin=LOCAL).status_code == 200
        assert call(client, path="/admin", host="localhost:8000", origin="http://localhost:8000").status_code == 200
        assert call(client, path="/admin", host="[::1]:8000").status_code == 200
