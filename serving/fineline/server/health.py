"""Liveness, readiness, metrics, and what model this is; open to everybody who reaches the server."""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fineline.bundle import CARD, Bundle
from fineline.policy import load_policies
from fineline.server.faults import NotReadyError
from fineline.server.models import Model
from fineline.server.problems import NotFoundError
from fineline.server.schemas import errors
from fineline.server.service import Service

_CARD: dict[int | str, dict[str, Any]] = {200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}}


def ready_model(service: Service) -> Model:
    """The model, if the server takes requests.

    Raises:
        NotReadyError: It does not.
    """
    if service.drain.stopping:
        raise NotReadyError("stopping", "The server is about to stop.")
    if service.slot.model is None:
        raise NotReadyError("not_ready", "The model is not ready.")
    return service.slot.model


def card_text(bundle: Bundle) -> str:
    """The card of a bundle.

    Raises:
        NotFoundError: The bundle has none.
    """
    try:
        return (bundle.path / CARD).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError("card_missing", "The model has no card.") from None


def health_routes(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["server"])

    @routes.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok"

    @routes.get("/readyz", responses=errors(503))
    async def readyz() -> dict[str, str]:
        return {"status": "ready", "model": ready_model(service).classifier.bundle.model_id}

    @routes.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @routes.get("/v1/model", responses=errors(503))
    async def model() -> dict[str, Any]:
        with service.slot.use() as current:
            bundle, policy = current.classifier.bundle, current.classifier.policy
        meta = bundle.meta
        return {
            "model": bundle.model_id,
            "name": meta.name,
            "version": meta.version,
            "digest": meta.digest,
            "labels": list(meta.labels),
            "own_labels": list(meta.own_labels),
            "taxonomy": meta.taxonomy,
            "normaliser": meta.normaliser,
            "view": meta.view,
            "window": {"size": meta.window.size, "overlap": meta.window.overlap, "context": meta.window.context},
            "policy": policy,
            "policies": sorted(load_policies()),
            "thresholds": meta.thresholds,
            "quantisation": meta.quantisation,
            "golden_tolerance": meta.golden_tolerance,
            "golden_gap": round(current.golden_gap, 4),
            "files": meta.files,
            "manifest": meta.manifest,
        }

    @routes.get("/v1/model/card", response_class=Response, responses=_CARD | errors(404, 503))
    async def card() -> Response:
        with service.slot.use() as current:
            text = await asyncio.to_thread(card_text, current.classifier.bundle)
        return Response(text, media_type="text/markdown; charset=utf-8")

    return routes
