"""Settings: a TOML file, checked; options of the command override it."""

import pytest

pytest.importorskip("fastapi")

from fineline import ConfigError
from fineline.server import settings as module
from fineline.server.settings import (
    EngineSettings,
    ServerSettings,
    TlsSettings,
    available_cores,
    overridden,
    read_settings,
)


def written(tmp_path, text):
    file = tmp_path / "server.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_sets_what_it_names_and_nothing_else(tmp_path):
    file = written(
        tmp_path,
        '[limits]\nmax_inputs = 7\ndeadline_seconds = 5\n[engine]\nsessions = 3\npolicy = "minors"\n'
        '[listen]\nport = 9\n[cors]\norigins = ["https://example.org"]\n[log]\naccess = false\n',
    )
    found = read_settings(file)
    assert (found.limits.max_inputs, found.limits.deadline_seconds, found.limits.max_body) == (7, 5.0, 8 * 2**20)
    assert (found.engine.workers("cpu"), found.engine.policy, found.listen.port) == (3, "minors", 9)
    assert found.cors.origins == ("https://example.org",)
    assert not found.log.access


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[limits]\nmax_input = 7", "config_unknown_key"),
        ("[limit]\n", "config_unknown_key"),
        ('[limits]\nmax_inputs = "7"', "config_type"),
        ("[limits]\nmax_inputs = 0", "settings_value"),
        ("[limits]\nqueue_tokens = -1", "settings_value"),
        ("[limits]\ndeadline_seconds = 0.0", "settings_value"),
        ("[limits]\ndeadline_seconds = nan", "settings_value"),
        ("[limits]\ndrain_seconds = -1", "settings_value"),
        ("[limits]\nmax_body = 1000\nmax_bodies = 999", "settings_value"),
        ("[listen]\nport = 65536", "settings_value"),
        ("[listen]\nport = -1", "settings_value"),
        ("[limits]\nstall_seconds = 0", "settings_value"),
        ("[engine]\nsessions = 0", "settings_value"),
        ('[engine]\ndevice = "tpu"', "settings_value"),
        ('[engine]\npolicy = "none"', "policy_unknown"),
        ('[cors]\norigins = ["*"]', "settings_cors"),
        ('[cors]\norigins = ["https://*.example.org"]', "settings_cors"),
        ('[cors]\norigins = ["example.org"]', "settings_cors"),
        ('[tls]\ncertificate = "a.pem"', "settings_tls"),
        ('[tls]\ncertificate = "a.pem"\nkey = "b.pem"', "settings_tls"),
        ('[log]\nlevel = "loud"', "settings_log"),
        ("[limits", "config_syntax"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, text, code):
    with pytest.raises(ConfigError) as caught:
        read_settings(written(tmp_path, text))
    assert caught.value.code == code


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_settings(tmp_path / "none.toml")


def test_options_override_and_none_keeps(tmp_path):
    base = ServerSettings(engine=EngineSettings(sessions=3))
    found = overridden(base, {"listen": {"host": None, "port": 1}, "engine": {"policy": "minors"}})
    assert (found.listen.host, found.listen.port) == ("127.0.0.1", 1)
    assert (found.engine.sessions, found.engine.policy) == (3, "minors")
    with pytest.raises(ConfigError):
        overridden(base, {"engine": {"policy": "none"}})


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 8), ("odd", 8), (None, 8)],
)
def test_cores_are_those_the_container_may_use(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(module, "_QUOTA", tmp_path / "cpu.max")
    if quota:
        (tmp_path / "cpu.max").write_text(quota)
    assert available_cores() == cores
    assert EngineSettings(threads=2).workers("cpu") == max(1, cores // 2)
    assert EngineSettings(threads=2, sessions=5).workers("cpu") == 5


def test_a_gpu_gets_one_session_and_larger_batches():
    settings = EngineSettings(device="cuda")
    assert settings.workers("cuda") == 1
    assert settings.budgets["cuda"] > settings.budgets["cpu"]
    assert set(EngineSettings(batch_tokens=77).budgets.values()) == {77}


@pytest.mark.parametrize("content", ["", "junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_cannot_be_used_is_told_before_anything_starts(tmp_path, content):
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=r"cert\.pem") as caught:
        TlsSettings(certificate=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))
    assert caught.value.code == "settings_tls"
