"""Routes for who runs the server: reload the model, see what is loaded."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends

from fineline.server.auth import require
from fineline.server.bodies import JsonRoute
from fineline.server.keys import Scope
from fineline.server.schemas import ReloadRequest, ReloadResponse, errors
from fineline.server.service import Service


def admin_routes(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=JsonRoute, tags=["admin"], dependencies=[Depends(require(Scope.ADMIN))])

    @routes.post(
        "/admin/reload", response_model=ReloadResponse, responses=errors(401, 403, 408, 409, 413, 415, 422, 500, 503)
    )
    async def reload(body: ReloadRequest | None = None) -> dict[str, Any]:
        path = service.slot.sibling(body.bundle) if body and body.bundle is not None else None
        return asdict(await service.slot.reload(path))

    @routes.get("/admin/model", responses=errors(401, 403, 503))
    async def model() -> dict[str, Any]:
        with service.slot.use() as current:
            return {
                "model": current.classifier.bundle.model_id,
                "digest": current.classifier.bundle.meta.digest,
                "path": str(current.classifier.bundle.path),
                "golden_gap": round(current.golden_gap, 4),
                "device": current.device,
                "workers": current.workers,
                "batch_tokens": current.batch_tokens,
                "queue_tokens": current.batcher.waiting,
                "requests": current.users - 1,
            }

    return routes
