"""The Open Inference Protocol v2, which KServe and Triton clients speak."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

import fineline
from fineline.bundle import BundleMeta
from fineline.errors import InputError
from fineline.server.auth import Caller, require
from fineline.server.bodies import deadline_of
from fineline.server.health import ready_model
from fineline.server.keys import Scope
from fineline.server.problems import NotFoundError
from fineline.server.schemas import InferError, InferRequest, InferResponse, errors
from fineline.server.service import Service
from fineline.server.tensors import joined, parse_infer, read_texts, write_outputs

_Name = Annotated[str, Path(pattern="^[A-Za-z0-9._-]{1,100}$")]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{InferRequest.__name__}"}}},
    }
}
_PREFIXES = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return errors(*statuses, model=InferError)


def _checked(meta: BundleMeta, name: str, version: str | None) -> BundleMeta:
    """The model, if it is the one that is asked for.

    Raises:
        NotFoundError: It is another.
    """
    if name != meta.name or version not in (None, meta.version):
        raise NotFoundError(
            "model_unknown", f"There is no such model here; this is {meta.name}, version {meta.version}."
        )
    return meta


def _named(service: Service, name: str, version: str | None) -> BundleMeta:
    # Not ``ready_model``: what was begun before the server was told to stop is answered.
    with service.slot.use() as model:
        return _checked(model.classifier.bundle.meta, name, version)


def _metadata(meta: BundleMeta) -> dict[str, Any]:
    width = len(meta.labels)
    return {
        "name": meta.name,
        "versions": [meta.version],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [-1]},
            {"name": "context", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, width]},
            {"name": "flagged", "datatype": "BOOL", "shape": [-1, width]},
            {"name": "action", "datatype": "BYTES", "shape": [-1]},
            {"name": "labels", "datatype": "BYTES", "shape": [width]},
        ],
    }


def _policy(request: InferRequest) -> str | None:
    policy = (request.parameters or {}).get("policy")
    if not isinstance(policy, str | None):
        raise InputError("infer_policy", "parameters: policy must be a string.")
    return policy


def _add_server_routes(routes: APIRouter, service: Service) -> None:
    @routes.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @routes.get("/v2/health/ready", responses=_errors(503))
    async def ready() -> dict[str, bool]:
        ready_model(service)
        return {"ready": True}

    @routes.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "fineline", "version": fineline.__version__, "extensions": ["binary_tensor_data"]}


def inference_routes(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["inference"])
    most = service.settings.limits.max_inputs
    _add_server_routes(routes, service)

    async def metadata(model: _Name, version: _Name | None = None) -> dict[str, Any]:
        return _metadata(_named(service, model, version))

    async def model_ready(model: _Name, version: _Name | None = None) -> dict[str, Any]:
        return {"name": _named(service, model, version).name, "ready": True}

    async def infer(
        model: _Name,
        request: Request,
        caller: Annotated[Caller, Depends(require(Scope.JUDGE))],
        version: _Name | None = None,
    ) -> Response:
        _named(service, model, version)
        given = request.headers.get("inference-header-content-length")
        if given is not None and not (given.isascii() and given.isdigit() and len(given) <= 10):
            raise InputError("infer_length", "Inference-Header-Content-Length must be a whole number.")
        length = int(given) if given is not None else None
        body, binary = await asyncio.to_thread(parse_infer, await request.body(), length, most)
        texts, contexts = read_texts(body, binary, most)
        judged = await service.judge.judged(
            texts, contexts, policy=_policy(body), deadline=deadline_of(request), charge=caller.charge
        )
        # Another model may have taken the place of the one that was there when the request came.
        meta = _checked(judged.bundle.meta, model, version)

        def answer() -> Response:
            outputs, raw = write_outputs(body, judged.verdicts, meta.labels)
            content = {"model_name": meta.name, "model_version": meta.version, "outputs": outputs}
            if body.id is not None:
                content["id"] = body.id
            sent, headers = joined(content, raw)
            return Response(sent, headers=headers)

        return await service.judge.aside(answer, len(texts))

    for prefix in _PREFIXES:
        name = "version_" if "version" in prefix else ""
        found = _errors(404, 422, 503)
        routes.get(prefix, responses=found, operation_id=f"model_{name}metadata")(metadata)
        routes.get(f"{prefix}/ready", responses=found, operation_id=f"model_{name}ready")(model_ready)
        routes.post(
            f"{prefix}/infer",
            response_model=InferResponse,
            responses=_errors(400, 401, 403, 404, 408, 413, 422, 429, 500, 503, 504),
            openapi_extra=_BODY,
            operation_id=f"model_{name}infer",
        )(infer)
    return routes
