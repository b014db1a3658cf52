"""``POST /v1/classify``: whole verdicts."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from fineline.server.auth import Caller, require
from fineline.server.bodies import JsonRoute, deadline_of
from fineline.server.keys import Scope
from fineline.server.schemas import ClassifyRequest, ClassifyResponse, errors
from fineline.server.service import Service


def classify_routes(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=JsonRoute, tags=["judge"])

    @routes.post("/v1/classify", response_model=ClassifyResponse, responses=errors())
    async def classify(
        body: ClassifyRequest, request: Request, caller: Annotated[Caller, Depends(require(Scope.JUDGE))]
    ) -> JSONResponse:
        texts = [body.input] if isinstance(body.input, str) else body.input
        contexts = body.context if isinstance(body.context, list) else [body.context] * len(texts)
        judged = await service.judge.judged(
            texts, contexts, policy=body.policy, deadline=deadline_of(request), charge=caller.charge
        )

        def answer() -> JSONResponse:
            results = [
                verdict.as_dict() | service.verdict_id(verdict, text, context, judged.bundle)
                for text, context, verdict in zip(texts, contexts, judged.verdicts, strict=True)
            ]
            return JSONResponse({"id": f"cls-{uuid.uuid4().hex}", "results": results})

        return await service.judge.aside(answer, sum(len(verdict.windows) for verdict in judged.verdicts))

    return routes
