"""The HTTP app: puts the parts together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

import fineline
from fineline.server import desk
from fineline.server.admin import admin_routes
from fineline.server.appeals import router as appeal_routes
from fineline.server.auth import Guard
from fineline.server.console import console_routes
from fineline.server.document import add_document
from fineline.server.health import health_routes
from fineline.server.inference_v2 import inference_routes
from fineline.server.judging import Judge
from fineline.server.middleware import Edge
from fineline.server.models import ModelSlot
from fineline.server.native import classify_routes
from fineline.server.openai import moderation_routes
from fineline.server.refusals import add_refusals
from fineline.server.schemas import FIELDS
from fineline.server.service import Service
from fineline.server.settings import ServerSettings
from fineline.server.streaming import stream_routes
from fineline.server.verdict_ids import VerdictIds


def create_app(settings: ServerSettings, slot: ModelSlot) -> FastAPI:
    """Build the app.

    Args:
        settings: Of the server.
        slot: Where the model is; it takes up service when the app starts, and gives it up when the app ends.

    Raises:
        ConfigError: The settings of keys or feedback are wrong.
    """
    ids = VerdictIds.open(settings.feedback) if settings.feedback.enabled else None
    service = Service(settings=settings, slot=slot, judge=Judge(slot, settings.limits), ids=ids)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await slot.open()
        try:
            yield
        finally:
            await slot.close()
            service.judge.close()

    app = FastAPI(
        title="Fineline",
        version=fineline.__version__,
        summary="Judges the act, not the topic: content safety for text.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        # The pages of FastAPI load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        # It would hand exceptions, whose messages may quote a text, and query strings to whatever collects traces here.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    add_document(app)
    app.state.settings = settings
    app.state.service = service
    app.state.guard = Guard.open(settings.auth, settings.listen.host)
    add_refusals(app, FIELDS | desk.FIELDS)
    for routes in (
        health_routes,
        moderation_routes,
        classify_routes,
        stream_routes,
        inference_routes,
        admin_routes,
        console_routes,
    ):
        app.include_router(routes(service))
    if ids:
        app.include_router(appeal_routes(settings.feedback, ids, slot.label_ids))
    app.add_middleware(
        Edge,
        limits=settings.limits,
        metrics=service.metrics,
        drain=service.drain,
        log=settings.log.access,
        check=lambda connection: app.state.guard.recognise(connection),
        check_room=slot.check_room,
    )
    # Around the edge: a page of a named origin must be able to read that it is refused, and when to come back.
    if settings.cors.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                "authorization",
                "content-type",
                "x-request-id",
                "x-deadline-ms",
                "traceparent",
                "tracestate",
            ],
            expose_headers=["x-request-id", "retry-after"],
        )
    return app
