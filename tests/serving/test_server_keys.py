"""API keys: the file holds hashes, says what is wrong with it, and the commands that write it."""

import hashlib
import sys
from datetime import UTC, datetime, timedelta

import pytest

pytest.importorskip("fastapi")
from fineline import cli
from fineline.errors import ConfigError
from fineline.server.keys import ApiKey, find_key, new_key, read_keys, write_keys

HASH = "0" * 64


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Call ``main`` as the installed command does; returns (exit status, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fineline", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(caught.value.code or 0), out, err

    return call


def test_keys_are_random_and_only_their_hash_is_kept(tmp_path):
    file = tmp_path / "keys.toml"
    secrets, entries = zip(*(new_key(f"team-{i}", ["judge"]) for i in range(20)), strict=True)
    write_keys(file, entries)
    assert len(set(secrets)) == 20
    assert all(len(secret) >= 43 for secret in secrets)
    content = file.read_text()
    for secret, entry in zip(secrets, entries, strict=True):
        assert secret not in content
        assert secret.removeprefix("fineline-") not in content
        assert entry.sha256 == hashlib.sha256(secret.encode()).hexdigest()


def test_a_file_is_read_as_it_was_written(tmp_path):
    file = tmp_path / "keys.toml"
    until = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    keys = (
        new_key("a", ["judge"])[1],
        new_key("b.c_d-9", ["judge", "admin", "judge"], requests_per_minute=3, characters_per_minute=70, expires=until)[
            1
        ],
    )
    write_keys(file, keys)
    assert read_keys(file) == keys
    assert keys[1].scopes == ("judge", "admin")


def test_an_offset_other_than_utc_is_the_same_moment(tmp_path):
    file = tmp_path / "keys.toml"
    until = datetime.fromisoformat("2031-05-06T07:08:09+08:00")
    write_keys(file, [new_key("a", ["judge"], expires=until)[1]])
    assert read_keys(file)[0].expires == until


def test_the_key_that_was_made_is_found_and_no_other(tmp_path):
    pairs = [new_key(f"k{i}", ["judge"]) for i in range(3)]
    entries = [entry for _, entry in pairs]
    assert [find_key(entries, secret) for secret, _ in pairs] == entries
    for wrong in ("", "x", pairs[0][0][:-1], pairs[0][0] + "x", entries[0].sha256, "\ud800", "钥匙"):
        assert find_key(entries, wrong) is None


@pytest.mark.parametrize(
    ("entry", "code", "said"),
    [
        ('name = ""\nscopes = ["judge"]', "keys_entry", "'name'"),
        ('name = "a b"\nscopes = ["judge"]', "keys_entry", "'name'"),
        ('name = "a"\nscopes = []', "keys_entry", "'scopes' of 'a'"),
        ('name = "a"\nscopes = ["root"]', "keys_entry", "judge, feedback, admin"),
        ('name = "a"\nscopes = ["judge"]\nrequests_per_minute = 0', "keys_entry", "limit"),
        ('name = "a"\nscopes = ["judge"]\nexpires = 2030-01-01T00:00:00', "keys_entry", "offset"),
        ('name = "a"\nscopes = ["judge"]\nexpires = "2030"', "config_type", "expires"),
        ('name = "a"\nscopes = ["judge"]\nkey = "x"', "config_unknown_key", "'key'"),
        ('name = "a"', "config_missing_key", "scopes"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_reason(tmp_path, entry, code, said):
    file = tmp_path / "keys.toml"
    file.write_text(f'[[keys]]\nsha256 = "{HASH}"\n{entry}\n')
    with pytest.raises(ConfigError, match=said) as caught:
        read_keys(file)
    assert caught.value.code == code


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 63 + "g", "0" * 65])
def test_a_wrong_digest_is_refused(tmp_path, sha256):
    file = tmp_path / "keys.toml"
    file.write_text(f'[[keys]]\nname = "a"\nscopes = ["judge"]\nsha256 = "{sha256}"\n')
    with pytest.raises(ConfigError, match="'sha256' of 'a'"):
        read_keys(file)


def test_two_entries_of_one_name_or_key_are_refused(tmp_path):
    first = ApiKey(name="a", sha256=HASH, scopes=("judge",))
    for second in (
        ApiKey(name="a", sha256="1" * 64, scopes=("judge",)),
        ApiKey(name="b", sha256=HASH, scopes=("judge",)),
    ):
        with pytest.raises(ConfigError, match="two keys"):
            write_keys(tmp_path / "keys.toml", [first, second])
    assert not (tmp_path / "keys.toml").exists()


def test_a_missing_or_unreadable_file_is_told(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_keys(tmp_path / "none.toml")
    assert caught.value.code == "config_missing"
    with pytest.raises(ConfigError) as caught:
        read_keys(tmp_path)
    assert caught.value.code == "keys_file"


# --- the commands


def test_new_list_and_revoke(run, tmp_path):
    status, first, err = run("keys", "new", "team", "--scope", "judge", "--scope", "feedback", "--requests", 5)
    assert status == 0
    assert "shown only now" in err and first.strip() not in err
    status, second, _ = run("keys", "new", "ops", "--scope", "admin", "--days", 30, "--characters", 900)
    keys = read_keys(tmp_path / "fineline-keys.toml")
    assert [find_key(keys, secret.strip()).name for secret in (first, second)] == ["team", "ops"]
    left = keys[1].expires - datetime.now(UTC)
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
    status, out, _ = run("keys", "list")
    assert status == 0
    assert "team  judge,feedback  5 requests a minute" in out
    assert "ops  admin  900 characters a minute  until " in out
    assert not any(part in out for key in keys for part in (key.sha256, first.strip(), second.strip()))
    assert run("keys", "revoke", "team")[0] == 0
    assert [key.name for key in read_keys(tmp_path / "fineline-keys.toml")] == ["ops"]


def test_a_second_key_of_one_name_leaves_the_file_alone(run, tmp_path):
    run("keys", "new", "team", "--scope", "judge")
    before = (tmp_path / "fineline-keys.toml").read_bytes()
    status, out, err = run("keys", "new", "team", "--scope", "admin")
    assert (status, out) == (1, "")
    assert err.startswith("error [keys_twice]")
    assert (tmp_path / "fineline-keys.toml").read_bytes() == before


def test_wrong_calls_are_one_line(run):
    assert run("keys", "revoke", "x")[2].startswith("error [config_missing]")
    run("keys", "new", "team", "--scope", "judge")
    assert run("keys", "revoke", "x")[2].startswith("error [keys_unknown]")
    assert run("keys", "new", "a b", "--scope", "judge")[2].startswith("error [keys_entry]")
    assert run("keys", "new", "b", "--scope", "root")[0] == 2
    assert run("keys", "new", "b")[0] == 2


def test_a_secret_is_its_owners_alone_and_never_overwritten(run, tmp_path):
    file = tmp_path / "secret"
    status, out, err = run("keys", "secret", file)
    assert (status, out) == (0, "")
    content = file.read_text()
    assert content.strip() not in err
    assert file.stat().st_mode & 0o777 == 0o600
    status, _, err = run("keys", "secret", file)
    assert status == 1 and err.startswith("error [secret_file]")
    assert file.read_text() == content
