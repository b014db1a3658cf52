"""Requests, answers and errors at the HTTP edge.

Answers are made as plain data and sent as they are; their models stand in the OpenAPI document, and a test holds the
two together.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fineline.policy import Action


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class TextPart(_Request):
    """A text part of the OpenAI moderation API."""

    type: Literal["text"]
    text: str


class ImagePart(_Request):
    """An image part; accepted by the schema so that it can be refused by name."""

    type: Literal["image_url"]
    image_url: dict[str, Any]


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ModerationRequest(_Request):
    """``POST /v1/moderations``."""

    input: str | list[str] | list[Part]
    model: str | None = None


class ClassifyRequest(_Request):
    """``POST /v1/classify``: ``input`` is one text or a list; ``context`` is one prompt for all or one a text."""

    input: str | list[str]
    context: str | list[str | None] | None = None
    policy: str | None = None


class ReloadRequest(_Request):
    """``POST /admin/reload``: ``bundle`` names a folder beside the configured one, which is read again without it."""

    bundle: str | None = None


class InferInput(_Request):
    """An input tensor of the Open Inference Protocol; without ``data`` its bytes follow the JSON."""

    name: Literal["text", "context"]
    shape: list[int]
    datatype: Literal["BYTES"]
    parameters: dict[str, Any] | None = None
    data: list[str | None] | list[list[str | None]] | None = None


class InferOutput(_Request):
    """An output tensor that is asked for."""

    name: Literal["probabilities", "flagged", "action", "labels"]
    parameters: dict[str, Any] | None = None


class InferRequest(_Request):
    """``POST /v2/models/{model}/infer``; ``parameters`` may name a ``policy``."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[InferInput]
    outputs: list[InferOutput] | None = None


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModerationResult(_Answer):
    """One text in the shape of the OpenAI moderation API, and the id to appeal with."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]
    verdict_id: str | None = None


class ModerationResponse(_Answer):
    """Answer of ``POST /v1/moderations``."""

    id: str
    model: str
    results: list[ModerationResult]


class WindowResult(_Answer):
    """A stretch of the text, in characters."""

    start: int
    end: int
    scores: dict[str, float]


class ClassifyResult(_Answer):
    """A whole verdict, and the id to appeal with."""

    action: Action
    flagged: list[str]
    scores: dict[str, float]
    thresholds: dict[str, float]
    windows: list[WindowResult]
    rules: dict[str, str]
    model: str
    policy: str
    context_cut: bool
    verdict_id: str | None = None


class ClassifyResponse(_Answer):
    """Answer of ``POST /v1/classify``."""

    id: str
    results: list[ClassifyResult]


class ReloadResponse(_Answer):
    """Answer of ``POST /admin/reload``."""

    previous: str
    model: str
    golden_gap: float
    seconds: float


class InferTensor(_Answer):
    """An output tensor of the Open Inference Protocol, its data in row-major order."""

    name: str
    datatype: Literal["FP32", "BOOL", "BYTES"]
    shape: list[int]
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferResponse(_Answer):
    """Answer of ``POST /v2/models/{model}/infer``."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferTensor]


class ErrorDetail(_Answer):
    """What was wrong; never a text of the request."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorResponse(_Answer):
    """The OpenAI error object."""

    error: ErrorDetail


class InferError(_Answer):
    """The error object of the Open Inference Protocol."""

    error: str


_REQUESTS = (
    TextPart,
    ImagePart,
    ModerationRequest,
    ClassifyRequest,
    ReloadRequest,
    InferInput,
    InferOutput,
    InferRequest,
)
FIELDS = frozenset(name for schema in _REQUESTS for name in schema.model_fields)
"""Names an error message may repeat; any other name came from the caller."""

_WHY = {
    400: "the request cannot be judged",
    401: "no key, or one that does not hold",
    403: "the key lacks the scope",
    404: "not known here",
    408: "the body did not arrive in time",
    409: "another reload is going on",
    413: "too large",
    415: "not JSON",
    422: "not of this schema, or too many texts",
    429: "too much waits, or the key's limit is used up; see Retry-After",
    500: "the server failed",
    503: "not ready, or about to stop",
    504: "not judged in time",
}
_JUDGING = (400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504)


def errors(*statuses: int, model: type[BaseModel] = ErrorResponse) -> dict[int | str, dict[str, Any]]:
    """Entries of the OpenAPI document for errors; those of a route that judges if none are named."""
    return {status: {"model": model, "description": _WHY[status]} for status in statuses or _JUDGING}


def error_body(
    message: str, code: str, kind: str = "invalid_request_error", param: str | None = None
) -> dict[str, Any]:
    """The OpenAI error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
