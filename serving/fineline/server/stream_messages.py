"""What a client sends on ``/v1/stream``: ``start`` once, ``delta`` as often as it likes, ``end`` once."""

import re
from typing import Annotated, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fineline.errors import InputError
from fineline.server.bodies import parse_json
from fineline.server.refusals import place_in

_SURROGATE = re.compile("[\ud800-\udfff]")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Start(_Message):
    """``{"type": "start", "context": "...", "policy": "..."}``; both may be left out."""

    type: Literal["start"]
    context: str | None = None
    policy: str | None = None


class Delta(_Message):
    """``{"type": "delta", "text": "..."}``: the next characters."""

    type: Literal["delta"]
    text: str


class End(_Message):
    """``{"type": "end"}``: the text is complete."""

    type: Literal["end"]


Message = Start | Delta | End
_MESSAGES: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
_FIELDS = frozenset(name for schema in (Start, Delta, End) for name in schema.model_fields)


def read_message(raw: bytes) -> Message:
    """Read a message.

    Raises:
        InputError: It is not JSON, or not a message.
    """
    try:
        return _MESSAGES.validate_python(parse_json(raw, most=0))
    except (RequestValidationError, ValidationError) as error:
        first = error.errors()[0]
        place = place_in(first["loc"], _FIELDS) or "message"
        raise InputError("invalid_message", f"{place}: {first['type'].replace('_', ' ')}.") from None


class Halves:
    """Joins the halves of a character that a client cut in two.

    Languages whose strings are UTF-16 cut an emoji into two surrogates; JSON carries them in two messages.
    """

    def __init__(self) -> None:
        self._held = ""

    def join(self, text: str) -> str:
        """The text with the half that was held back, without one that may be completed by the next text."""
        text = self._held + text
        self._held = ""
        if not _SURROGATE.search(text):
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")

    def rest(self) -> str:
        """What is held back when no more comes."""
        held, self._held = self._held, ""
        return held
