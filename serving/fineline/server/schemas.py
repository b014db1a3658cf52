"""Requests and errors at the HTTP edge. Responses are plain data made from verdicts."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_INPUTS = 2048
"""Inputs a request may hold."""


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


FIELDS = frozenset(
    name for schema in (TextPart, ImagePart, ModerationRequest, ClassifyRequest) for name in schema.model_fields
)
"""Names an error message may repeat; any other name came from the caller."""


def error_body(
    message: str, code: str, kind: str = "invalid_request_error", param: str | None = None
) -> dict[str, Any]:
    """The OpenAI error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
