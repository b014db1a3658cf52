"""``POST /v1/moderations``: the OpenAI moderation API."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse

from fineline.errors import InputError
from fineline.server.auth import Caller, require
from fineline.server.bodies import JsonRoute, deadline_of
from fineline.server.keys import Scope
from fineline.server.moderations import category_sources, moderation_result
from fineline.server.schemas import ImagePart, ModerationRequest, ModerationResponse, TextPart, errors
from fineline.server.service import Service


def texts_of(request: ModerationRequest) -> list[str]:
    """The texts to judge; the parts of one multi-modal input are one text, as in OpenAI's API.

    Raises:
        InputError: A part is an image.
    """
    if isinstance(request.input, str):
        return [request.input]
    if any(isinstance(entry, ImagePart) for entry in request.input):
        raise InputError("image_not_supported", "input: image_url is not supported; this model judges text only.")
    parts = [entry.text for entry in request.input if isinstance(entry, TextPart)]
    return ["\n".join(parts)] if parts else [entry for entry in request.input if isinstance(entry, str)]


def moderation_routes(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(route_class=JsonRoute, tags=["judge"])

    @routes.post("/v1/moderations", response_model=ModerationResponse, responses=errors())
    async def moderations(
        body: ModerationRequest, request: Request, caller: Annotated[Caller, Depends(require(Scope.JUDGE))]
    ) -> JSONResponse:
        texts = texts_of(body)
        judged = await service.judge.judged(texts, deadline=deadline_of(request), charge=caller.charge)
        sources = category_sources(judged.bundle)

        def answer() -> JSONResponse:
            results = [
                moderation_result(verdict, sources) | service.verdict_id(verdict, text, None, judged.bundle)
                for text, verdict in zip(texts, judged.verdicts, strict=True)
            ]
            return JSONResponse({"id": f"modr-{uuid.uuid4().hex}", "model": judged.bundle.model_id, "results": results})

        return await service.judge.aside(answer, len(texts))

    return routes
