"""JSON bodies, read so that no body of the allowed size holds up the event loop or fills the memory."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from itertools import islice
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from fineline.errors import InputError
from fineline.server.problems import HttpError

_LARGE = 2**16
"""Bytes from which a body is parsed in a thread."""

_MOST_KEYS = 64
"""Keys of an object: none of the schemas has as many, and each unknown one would become an error report."""

_DEPTH = 5
"""Levels whose lists and objects are counted; the schemas end there."""

_MARKS = (b"[", b"{", b",", b'"')
_PARTS = re.compile(rb'[\[{,]|"(?:[^"\\]+|\\.)*+"?', re.DOTALL)
"""Beginnings of lists and objects, commas, and whole strings; linear in the body, whatever is in it."""
_PER_TEXT, _OTHERS = 16, 20_000
"""Such parts that the schemas need for a text, at most, and for the rest of a body."""


class MediaTypeError(HttpError):
    """The body is of another kind."""

    status = 415


class TooManyError(HttpError):
    """A request has more texts, or an object more keys, than it may."""

    status = 422


class TooLongError(HttpError):
    """A request has more characters than it may."""

    status = 413


def parse_json(body: bytes, most: int) -> Any:
    """Parse a body.

    Args:
        body: JSON in UTF-8.
        most: Entries a list may have.

    Raises:
        RequestValidationError: It is not JSON, or nested too deep.
        TooManyError: A list or object has too many entries.
    """
    parts = _PER_TEXT * most + _OTHERS
    if sum(map(body.count, _MARKS)) > parts and next(islice(_PARTS.finditer(body), parts, None), None):
        # Not parsed: millions of small objects would hold up everybody for a second and take a hundred megabytes.
        raise TooManyError("too_many_inputs", f"The body has too many entries for {most} texts; send fewer.")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):  # also of invalid UTF-8 and of numbers of thousands of digits
        raise RequestValidationError([{"type": "json_invalid", "loc": ("body",), "msg": "not JSON"}]) from None
    level = [value]
    for _ in range(_DEPTH):
        inner = []
        for entry in level:
            if isinstance(entry, list):
                if len(entry) > most:
                    raise TooManyError("too_many_inputs", f"A list has more than {most} entries; send fewer.")
                inner += entry
            elif isinstance(entry, dict):
                if len(entry) > _MOST_KEYS:
                    raise TooManyError("invalid_request", f"An object has more than {_MOST_KEYS} keys.")
                inner += entry.values()
        level = [entry for entry in inner if isinstance(entry, list | dict)]
    return value


class JsonRoute(APIRoute):
    """A route whose body is read by ``parse_json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a request whose body is parsed already."""
        handle = super().get_route_handler()

        async def parsed(request: Request) -> Response:
            if body := await request.body():
                request._json = await read_json(request, body)
            return await handle(request)

        return parsed


async def read_json(request: Request, body: bytes) -> Any:
    """Parse the body of a request, a large one in a thread; errors as in ``parse_json``.

    Raises:
        MediaTypeError: It does not say that it is JSON.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (media == "application/json" or (media.startswith("application/") and media.endswith("+json"))):
        raise MediaTypeError("media_type", "Send JSON, with the header content-type: application/json.")
    most = request.app.state.settings.limits.max_inputs
    return parse_json(body, most) if len(body) < _LARGE else await asyncio.to_thread(parse_json, body, most)


def deadline_of(request: Request) -> float | None:
    """Seconds that the header ``x-deadline-ms`` allows, or ``None``.

    Raises:
        InputError: It is not a whole number above 0.
    """
    given = request.headers.get("x-deadline-ms")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and len(given) <= 9 and int(given)):
        raise InputError("deadline_header", "The header x-deadline-ms must be a whole number of milliseconds above 0.")
    return int(given) / 1000
