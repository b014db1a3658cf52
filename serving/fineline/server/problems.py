"""Errors that have an HTTP status of their own; ``refusals`` makes the answer."""

import math
from typing import ClassVar

from fineline.errors import FinelineError


class HttpError(FinelineError):
    """An error that a route answers with ``status``; subclasses set it."""

    status: ClassVar[int] = 400

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the answer."""
        return {}


class UnauthorizedError(HttpError):
    """No key, or one that does not hold."""

    status = 401

    @property
    def headers(self) -> dict[str, str]:
        """The scheme to use, as HTTP asks of every 401."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(HttpError):
    """The caller is known and may not do this."""

    status = 403


class NotFoundError(HttpError):
    """There is nothing of that id."""

    status = 404


class ConflictError(HttpError):
    """What is asked for does not fit what is there."""

    status = 409


class LimitError(HttpError):
    """A limit of the caller's key is used up.

    Args:
        code: Stable identifier.
        message: One sentence.
        wait: Seconds until a repetition can succeed.
    """

    status = 429

    def __init__(self, code: str, message: str, wait: float) -> None:
        super().__init__(code, message)
        self.wait = wait

    def __reduce__(self) -> tuple[type["LimitError"], tuple[str, str, float]]:  # type: ignore[override]
        """Pickled with all its arguments."""
        return type(self), (self.code, self.message, self.wait)

    @property
    def headers(self) -> dict[str, str]:
        """When to come back, in whole seconds."""
        return {"Retry-After": str(max(1, math.ceil(self.wait)))}


class UnavailableError(HttpError):
    """A part of the server cannot answer now; the others can."""

    status = 503
