"""Who may call: the key of a request, its scopes and limits.

``require(Scope.JUDGE)`` is a dependency of a route; it gives the route its ``Caller``, whose ``charge`` counts the
characters to judge once the body is read.
"""

import ipaddress
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from fineline.errors import ConfigError
from fineline.server.keys import ApiKey, AuthSettings, Scope, find_key, read_keys
from fineline.server.problems import ForbiddenError, LimitError, UnauthorizedError

_MINUTE = 60.0


class Bucket:
    """A token bucket that holds a minute's worth.

    An amount larger than the bucket passes when it is full, and its debt is waited for afterwards: a single large
    request under a small limit is slowed down instead of refused for ever.

    Args:
        per_minute: What flows in, and what it holds.
        clock: Seconds that never go back.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._filled = clock()

    def take(self, amount: int) -> float:
        """Take an amount if it is there.

        Returns:
            0, or the seconds until it will be there; nothing was taken then.
        """
        now = self._clock()
        self._level = min(self.per_minute, self._level + (now - self._filled) * self.per_minute / _MINUTE)
        self._filled = now
        missing = min(amount, self.per_minute) - self._level
        if missing > 0:
            return missing * _MINUTE / self.per_minute
        self._level -= amount
        return 0.0


class Caller:
    """Who sent a request.

    Attributes:
        name: Name of the key; ``anonymous`` where no keys are in use.
        scopes: What it may do.
    """

    def __init__(
        self,
        name: str,
        scopes: frozenset[Scope],
        *,
        requests: Bucket | None = None,
        characters: Bucket | None = None,
    ) -> None:
        self.name = name
        self.scopes = scopes
        self._requests = requests
        self._characters = characters

    def _take(self, bucket: Bucket | None, amount: int, what: str) -> None:
        wait = bucket.take(amount) if bucket else 0.0
        if bucket and wait:
            message = f"This key's limit of {bucket.per_minute} {what} a minute is used up; try again later."
            raise LimitError("rate_limit_exceeded", message, wait)

    def enter(self) -> None:
        """Count a request.

        Raises:
            LimitError: The key's requests of this minute are used up.
        """
        self._take(self._requests, 1, "requests")

    def charge(self, characters: int) -> None:
        """Count the characters of a request before they are judged.

        Raises:
            LimitError: The key's characters of this minute are used up.
        """
        self._take(self._characters, characters, "characters")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _own_page(connection: HTTPConnection) -> bool:
    """Whether no foreign web page can be behind a request without a key.

    Any page that a person on this machine opens can send requests here, and by rebinding a DNS name of its own even
    read the answers: then ``Host`` is that name. A page of another origin shows in ``Origin``.
    """
    host = connection.headers.get("host", "")
    origin = connection.headers.get("origin")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:  # a header such as "["
        return False
    return is_loopback(name or "") and (not origin or origin.split("://")[-1] == host)


class Guard:
    """Admits requests. Without a file of keys everybody who reaches the server may judge and appeal.

    Args:
        path: The file of keys, or ``None`` for no keys.
        open_admin: Without keys: whether a program on this machine may use the admin routes.
        clock: Seconds for the limits.

    Raises:
        ConfigError: The file is missing or wrong.
    """

    def __init__(
        self, path: Path | None = None, *, open_admin: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._open_admin = open_admin
        self._clock = clock
        self._keys = read_keys(path) if path else ()
        self._callers: dict[ApiKey, Caller] = {}
        self._anonymous = Caller("anonymous", frozenset(Scope) - (frozenset() if open_admin else {Scope.ADMIN}))

    @classmethod
    def open(cls, settings: AuthSettings, host: str) -> "Guard":
        """The guard of a server that listens on ``host``.

        Raises:
            ConfigError: There is no file of keys although other machines reach the host, or the file is wrong.
        """
        if settings.keys and settings.insecure_no_auth:
            raise ConfigError("auth_settings", "Both keys and insecure_no_auth are set; choose one.")
        if settings.keys:
            return cls(Path(settings.keys))
        if is_loopback(host) or settings.insecure_no_auth:
            return cls(open_admin=not settings.insecure_no_auth)
        raise ConfigError(
            "auth_required",
            f"{host} can be reached from other machines: make a key with 'fineline keys new' and name the file in "
            "[auth] keys or --keys, or pass --insecure-no-auth if something in front checks who calls.",
        )

    def reload(self) -> None:
        """Read the file again; limits go on for keys whose entry is the same.

        Raises:
            ConfigError: The file is wrong; the keys in use stay.
        """
        if self._path:
            self._keys = read_keys(self._path)
            self._callers = {key: caller for key, caller in self._callers.items() if key in self._keys}

    def admit(self, connection: HTTPConnection, scope: Scope) -> Caller:
        """Check a request's headers and count it.

        Raises:
            UnauthorizedError: No key was sent, or it is unknown or expired.
            ForbiddenError: The key lacks the scope, or no keys are in use and the scope needs one here.
            LimitError: The key's requests of this minute are used up.
        """
        if self._path is None:
            if scope is Scope.ADMIN and not (self._open_admin and _own_page(connection)):
                raise ForbiddenError("admin_needs_key", "Start the server with a file of keys to use this route.")
            return self._anonymous
        caller = self._caller(self._key(connection))
        if scope not in caller.scopes:
            raise ForbiddenError("missing_scope", f"This API key lacks the scope '{scope}'.")
        caller.enter()
        return caller

    def recognise(self, connection: HTTPConnection) -> None:
        """Check that a request has a key, where keys are in use, before its body is read; it is not counted yet.

        Raises:
            UnauthorizedError: As in ``admit``.
        """
        if self._path is not None:
            self._key(connection)

    def _key(self, connection: HTTPConnection) -> ApiKey:
        scheme, _, rest = connection.headers.get("authorization", "").partition(" ")
        presented = rest.strip() if scheme.lower() == "bearer" else ""
        if not presented:
            raise UnauthorizedError("missing_api_key", "Send your API key in the header 'Authorization: Bearer KEY'.")
        key = find_key(self._keys, presented)
        if key is None:
            raise UnauthorizedError("invalid_api_key", "This API key is not known here.")
        if key.expires and key.expires <= datetime.now(UTC):
            raise UnauthorizedError("expired_api_key", "This API key has expired; ask for a new one.")
        return key

    def _caller(self, key: ApiKey) -> Caller:
        if key not in self._callers:
            requests, characters = (
                Bucket(limit, self._clock) if limit else None
                for limit in (key.requests_per_minute, key.characters_per_minute)
            )
            scopes = frozenset(map(Scope, key.scopes))
            self._callers[key] = Caller(key.name, scopes, requests=requests, characters=characters)
        return self._callers[key]


class _Required(SecurityBase):
    """The dependency; as an object of this class it also stands in the OpenAPI document."""

    def __init__(self, scope: Scope) -> None:
        self.model = HTTPBearer(description="An API key, where the server uses keys.")
        self.scheme_name = "api_key"
        self._scope = scope

    async def __call__(self, connection: HTTPConnection) -> Caller:
        guard: Guard = connection.app.state.guard
        caller = guard.admit(connection, self._scope)
        connection.state.caller = caller.name
        return caller


def require(scope: Scope) -> _Required:
    """A dependency that admits a request or WebSocket by ``app.state.guard`` and gives the route its ``Caller``.

    It leaves the caller's name in ``connection.state.caller`` for the access log.
    """
    return _Required(scope)
