"""API keys: a TOML file that holds a hash, scopes and limits a key, and never the key.

A key is 256 random bits, so plain SHA-256 is enough at rest: a slow salted hash such as scrypt protects passwords that
people choose and others can guess, costs tens of milliseconds a request, and adds nothing to a value that cannot be
guessed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from fineline.config import build, read_toml
from fineline.errors import ConfigError
from fineline.files import write_text

PREFIX = "fineline-"
"""Start of every key, so that scanners for leaked secrets can find one."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_HEADER = (
    "# API keys. Written by 'fineline keys', which keeps no comments; a change by hand is read at the next reload.\n"
)


class Scope(StrEnum):
    """What a key is for. No scope contains another."""

    JUDGE = "judge"
    FEEDBACK = "feedback"
    ADMIN = "admin"


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """Section ``[auth]`` of the server's settings.

    Attributes:
        keys: Path of the file of keys; none is read when empty.
        insecure_no_auth: Judge for everybody who reaches the address. The admin routes stay shut.
    """

    keys: str = ""
    insecure_no_auth: bool = False


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """One entry of the file.

    Attributes:
        name: Whose key it is; stands in logs.
        sha256: Hex digest of the key.
        scopes: What it may do.
        requests_per_minute: Most requests, in bursts of up to a minute's worth; any number when ``None``.
        characters_per_minute: Most characters to judge, likewise.
        expires: Moment from which it does not hold, with an offset from UTC.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...]
    requests_per_minute: int | None = None
    characters_per_minute: int | None = None
    expires: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class _KeyFile:
    keys: tuple[ApiKey, ...] = ()


def digest(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _fault(key: ApiKey) -> str | None:
    if not _NAME.fullmatch(key.name):
        return "'name' must be 1 to 64 letters, digits, '.', '_' or '-', and start with a letter or digit"
    if not _HASH.fullmatch(key.sha256):
        return f"'sha256' of '{key.name}' must be 64 hexadecimal digits"
    if not key.scopes or not set(key.scopes) <= set(Scope):
        return f"'scopes' of '{key.name}' must be some of {', '.join(Scope)}"
    limits = (key.requests_per_minute, key.characters_per_minute)
    if any(limit is not None and limit < 1 for limit in limits):
        return f"a limit of '{key.name}' must be 1 or more; leave it out for none"
    if key.expires and key.expires.tzinfo is None:
        return f"'expires' of '{key.name}' needs an offset, as in 2027-01-31T00:00:00Z"
    return None


def _checked(keys: Sequence[ApiKey], where: str) -> tuple[ApiKey, ...]:
    for key in keys:
        if fault := _fault(key):
            raise ConfigError("keys_entry", f"{where}: {fault}.")
    for what in ("name", "sha256"):
        values = [getattr(key, what) for key in keys]
        if len(set(values)) < len(values):
            raise ConfigError("keys_twice", f"{where}: two keys have the same '{what}'.")
    return tuple(keys)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Read a file of keys.

    Raises:
        ConfigError: It is missing, cannot be read, or breaks the schema.
    """
    try:
        return _checked(build(_KeyFile, read_toml(path), path.name).keys, path.name)
    except OSError as error:
        raise ConfigError("keys_file", f"{path}: cannot be read ({error.strerror}).") from None


def _entry(key: ApiKey) -> str:
    # Names, digests and scopes are of alphabets without quotes, so they need no escapes.
    lines = ["", "[[keys]]", f'name = "{key.name}"', f'sha256 = "{key.sha256}"']
    lines.append("scopes = [" + ", ".join(f'"{scope}"' for scope in key.scopes) + "]")
    for name in ("requests_per_minute", "characters_per_minute"):
        if (value := getattr(key, name)) is not None:
            lines.append(f"{name} = {value}")
    if key.expires:
        lines.append(f"expires = {key.expires.astimezone(UTC).isoformat(timespec='seconds')}")
    return "\n".join(lines) + "\n"


def write_keys(path: Path, keys: Sequence[ApiKey]) -> None:
    """Replace a file of keys.

    Raises:
        ConfigError: An entry breaks the schema, or the file cannot be written.
    """
    text = _HEADER + "".join(_entry(key) for key in _checked(keys, path.name))
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError("keys_file", f"{path}: cannot be written ({error.strerror}).") from None


def new_key(
    name: str,
    scopes: Sequence[str],
    *,
    requests_per_minute: int | None = None,
    characters_per_minute: int | None = None,
    expires: datetime | None = None,
) -> tuple[str, ApiKey]:
    """Make a key.

    Returns:
        The key, which nothing else will ever show, and its entry.
    """
    key = PREFIX + secrets.token_urlsafe(32)
    return key, ApiKey(
        name=name,
        sha256=digest(key),
        scopes=tuple(dict.fromkeys(scopes)),
        requests_per_minute=requests_per_minute,
        characters_per_minute=characters_per_minute,
        expires=expires,
    )


def find_key(keys: Sequence[ApiKey], presented: str) -> ApiKey | None:
    """The entry of a key that a caller presents; every entry is compared, each in constant time."""
    wanted = digest(presented).encode()
    found = None
    for key in keys:
        if hmac.compare_digest(key.sha256.encode(), wanted):
            found = key
    return found
