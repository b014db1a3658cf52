"""Errors as answers: the OpenAI error object, or under ``/v2`` that of the Open Inference Protocol."""

from collections.abc import Mapping, Sequence, Set
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fineline.errors import FinelineError
from fineline.server.problems import HttpError
from fineline.server.schemas import error_body


def refusal(
    path: str,
    status: int,
    message: str,
    code: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The answer to a request for ``path`` that failed."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    content: dict[str, Any] = {"error": message} if _is_v2(path) else error_body(message, code, kind, param)
    return JSONResponse(content, status_code=status, headers=dict(headers or {}))


def _is_v2(path: str) -> bool:
    return path == "/v2" or path.startswith("/v2/")


def place_in(location: Sequence[int | str], fields: Set[str]) -> str:
    """Where a request breaks the schema, without the name of an unknown field: that came from the caller."""
    return ".".join(str(part) for part in location if isinstance(part, int) or part in fields)


def add_refusals(app: FastAPI, fields: Set[str]) -> None:
    """Answer the errors that routes raise; what is left goes to the middleware.

    Args:
        app: The app.
        fields: Names of the schemas' fields, which a message may repeat.
    """

    @app.exception_handler(FinelineError)
    async def known(request: Request, error: FinelineError) -> JSONResponse:
        status, headers = (error.status, error.headers) if isinstance(error, HttpError) else (400, None)
        return refusal(request.url.path, status, error.message, error.code, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Only the place and the rule: pydantic's own message could quote what the user sent.
        first = error.errors()[0]
        place = place_in(first["loc"][1:], fields)
        message = f"{place or 'body'}: {first['type'].replace('_', ' ')}; see /openapi.json for the schema."
        return refusal(request.url.path, 422, message, "invalid_request", param=place or None)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code, headers = f"http_{error.status_code}", error.headers
        if error.status_code == 405:
            # Starlette names the methods of one route only; another of the same path may have others.
            path = getattr(request.scope.get("route"), "path", "")
            if methods := app.openapi()["paths"].get(path):
                headers = {"Allow": ", ".join(method.upper() for method in methods)}
        return refusal(request.url.path, error.status_code, str(error.detail), code, headers=headers)
