"""The HTTP app: OpenAI-compatible and native endpoints, health, readiness, metrics."""

import asyncio
import logging
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

import fineline
from fineline.classifier import Classifier, Verdict
from fineline.errors import FinelineError, InputError
from fineline.policy import load_policies
from fineline.server.metrics import Metrics
from fineline.server.moderations import moderation_response
from fineline.server.schemas import (
    FIELDS,
    MAX_INPUTS,
    ClassifyRequest,
    ImagePart,
    ModerationRequest,
    TextPart,
    error_body,
)

_LOG = logging.getLogger(__name__)
MAX_BODY = 8 * 2**20
"""Bytes a request body may have."""


class _TooLargeError(Exception):
    """The body is over the limit."""


async def _limited_body(request: Request) -> bytes:
    """Read the body, refusing it as soon as it is over the limit, whatever its headers say."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise _TooLargeError
        parts.append(part)
    return b"".join(parts)


def _texts(given: Sequence[Any]) -> list[str]:
    texts = []
    for entry in given:
        if isinstance(entry, ImagePart):
            raise InputError("image_not_supported", "input: image_url is not supported; this model judges text only.")
        texts.append(entry.text if isinstance(entry, TextPart) else entry)
    if not texts:
        raise InputError("input_empty", "input: the list is empty; send at least one text.")
    if len(texts) > MAX_INPUTS:
        raise InputError("too_many_inputs", f"input: {len(texts)} texts; send at most {MAX_INPUTS} in one request.")
    return texts


class _Service:
    """The classifier behind the routes; one call at a time uses all cores, others wait."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.metrics = Metrics()
        self.ready = False
        self._turn = asyncio.Lock()

    async def judge(
        self, texts: list[str], contexts: list[str | None] | None = None, policy: str | None = None
    ) -> list[Verdict]:
        async with self._turn:
            call = partial(self.classifier.classify, texts, contexts, policy=policy)
            verdicts = await asyncio.get_running_loop().run_in_executor(None, call)
        self.metrics.count(verdicts)
        return verdicts


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(FinelineError)
    async def known(request: Request, error: FinelineError) -> JSONResponse:
        return JSONResponse(error_body(error.message, error.code), status_code=400)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # Only the place and the rule: pydantic's own message could quote what the user sent, and so does the name of an
        # unknown field.
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, int) or part in FIELDS)
        message = f"{place or 'body'}: {first['type'].replace('_', ' ')}; see /docs for the schema."
        return JSONResponse(error_body(message, "invalid_request", param=place or None), status_code=422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail), f"http_{error.status_code}"), status_code=error.status_code)


def _add_limits(app: FastAPI, service: _Service) -> None:
    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        routes = {route.path for route in app.routes if hasattr(route, "path")}
        route = request.url.path if request.url.path in routes else "other"
        try:
            if request.method == "POST":
                await _buffer(request)
            response = await call_next(request)
        except _TooLargeError:
            message = f"The body is larger than {MAX_BODY} bytes; send fewer or shorter texts."
            response = JSONResponse(error_body(message, "body_too_large"), status_code=413)
        except (
            Exception
        ) as error:  # answered here, so that it is counted, and logged without a message that may quote text
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _LOG.error("%s at %s:%s", type(error).__name__, frame.filename, frame.lineno)
            body = error_body("The server failed to answer; the request was not judged.", "internal", "server_error")
            response = JSONResponse(body, status_code=500)
        service.metrics.requests.labels(route=route, status=str(response.status_code)).inc()
        service.metrics.seconds.labels(route=route).observe(time.perf_counter() - began)
        return response


async def _buffer(request: Request) -> None:
    # Starlette hands a cached body on to the route, so it is read once, here, under the limit.
    request._body = await _limited_body(request)


def _add_health(app: FastAPI, service: _Service) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok"

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        if service.ready:
            return JSONResponse({"status": "ready", "model": service.classifier.bundle.model_id})
        return JSONResponse(error_body("The model is not ready.", "not_ready", "server_error"), status_code=503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        meta = service.classifier.bundle.meta
        return {
            "model": service.classifier.bundle.model_id,
            "labels": list(meta.labels),
            "taxonomy": meta.taxonomy,
            "normaliser": meta.normaliser,
            "policy": service.classifier.policy,
            "policies": sorted(load_policies()),
            "thresholds": meta.thresholds,
            "quantisation": meta.quantisation,
            "files": meta.files,
        }


def _add_judging(app: FastAPI, service: _Service) -> None:
    @app.post("/v1/moderations")
    async def moderations(request: ModerationRequest) -> dict[str, Any]:
        texts = _texts([request.input] if isinstance(request.input, str) else request.input)
        # Text parts of one multi-modal input are one input in OpenAI's API: they are judged as one text.
        if not isinstance(request.input, str) and isinstance(request.input[0], TextPart):
            texts = ["\n".join(texts)]
        verdicts = await service.judge(texts)
        return moderation_response(f"modr-{uuid.uuid4().hex}", verdicts, service.classifier.bundle.model_id)

    @app.post("/v1/classify")
    async def classify(request: ClassifyRequest) -> dict[str, Any]:
        texts = _texts([request.input] if isinstance(request.input, str) else request.input)
        given = request.context
        contexts = given if isinstance(given, list) else [given] * len(texts)
        verdicts = await service.judge(texts, contexts, request.policy)
        return {"id": f"cls-{uuid.uuid4().hex}", "results": [verdict.as_dict() for verdict in verdicts]}


def create_app(classifier: Classifier) -> FastAPI:
    """Build the app around a loaded classifier; it becomes ready once the golden file is reproduced."""
    service = _Service(classifier)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.get_running_loop().run_in_executor(None, classifier.self_check)
        service.ready = True
        yield

    app = FastAPI(title="Fineline", version=fineline.__version__, lifespan=lifespan)
    _add_errors(app)
    _add_limits(app, service)
    _add_health(app, service)
    _add_judging(app, service)
    return app
