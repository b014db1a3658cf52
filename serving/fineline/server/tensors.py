"""Tensors of the Open Inference Protocol v2: texts out of a request, verdicts into an answer.

Data stand in the JSON, or, by the protocol's binary extension, after it: a string is then four bytes of its length
(little-endian) and its bytes in UTF-8; numbers and booleans are as in memory.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from fineline.classifier import Verdict
from fineline.errors import InputError
from fineline.server.bodies import TooManyError, parse_json
from fineline.server.refusals import place_in
from fineline.server.schemas import FIELDS, InferInput, InferRequest

OUTPUTS = ("probabilities", "flagged", "action", "labels")
_BINARY = "binary_data_size"


def parse_infer(body: bytes, json_length: int | None, most: int) -> tuple[InferRequest, bytes]:
    """Parse the body of ``/infer``.

    Args:
        body: JSON, and binary data after it.
        json_length: Bytes of the JSON; all of them when ``None``.
        most: Texts a request may have.

    Returns:
        The request and the binary data.

    Raises:
        InputError: It breaks the schema.
        TooManyError: There are too many texts.
    """
    cut = len(body) if json_length is None else json_length
    if cut > len(body):
        raise InputError("infer_length", "Inference-Header-Content-Length is larger than the body.")
    try:
        return InferRequest.model_validate(parse_json(body[:cut], most)), body[cut:]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        rule = first["type"].replace("_", " ")
        raise InputError("invalid_request", f"{place_in(first['loc'], FIELDS) or 'body'}: {rule}.") from None


def read_texts(request: InferRequest, binary: bytes, most: int) -> tuple[list[str], list[str | None] | None]:
    """Texts and contexts of a request; an empty context is none.

    Raises:
        InputError: An input is missing, twice there, or not of its shape.
        TooManyError: There are too many texts.
    """
    found: dict[str, list[str | None]] = {}
    at = 0
    for tensor in request.inputs:
        if tensor.name in found:
            raise InputError("infer_input", f"inputs: '{tensor.name}' stands there twice.")
        if tensor.data is None:
            size = (tensor.parameters or {}).get(_BINARY)
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(binary) - at:
                raise InputError("infer_input", f"{tensor.name}: neither data nor so many bytes after the JSON.")
            found[tensor.name] = _strings(binary[at : at + size], tensor.name, most)
            at += size
        else:
            found[tensor.name] = _flat(tensor)
        rows = len(found[tensor.name])
        if tensor.shape not in ([rows], [rows, 1]):
            raise InputError("infer_shape", f"{tensor.name}: the shape must be [n] or [n, 1] with n strings.")
    if at != len(binary):
        raise InputError("infer_input", "There are bytes after the JSON that no input claims.")
    texts = found.get("text")
    if texts is None:
        raise InputError("infer_input", "inputs: 'text' is missing.")
    if len(texts) > most:
        raise TooManyError("too_many_inputs", f"text: {len(texts)} texts; send at most {most} in one request.")
    contexts = found.get("context")
    return [text or "" for text in texts], [context or None for context in contexts] if contexts else None


def _flat(tensor: InferInput) -> list[str | None]:
    flat: list[str | None] = []
    for entry in tensor.data or ():
        flat += entry if isinstance(entry, list) else [entry]
    return flat


def _strings(raw: bytes, name: str, most: int) -> list[str | None]:
    strings: list[str | None] = []
    at = 0
    while at < len(raw):
        if len(strings) > most:
            raise TooManyError("too_many_inputs", f"{name}: send at most {most} texts in one request.")
        if at + 4 > len(raw):
            raise InputError("infer_binary", f"{name}: the binary data break off.")
        (length,) = struct.unpack_from("<I", raw, at)
        part = raw[at + 4 : at + 4 + length]
        at += 4 + length
        if at > len(raw):
            raise InputError("infer_binary", f"{name}: the binary data break off.")
        try:
            strings.append(part.decode("utf-8"))
        except UnicodeDecodeError:
            raise InputError("infer_binary", f"{name}: string {len(strings)} is not UTF-8.") from None
    return strings


def write_outputs(
    request: InferRequest, verdicts: Sequence[Verdict], labels: Sequence[str]
) -> tuple[list[dict[str, Any]], bytes]:
    """The output tensors that a request asks for, all if it names none, and their binary data."""
    rows = len(verdicts)
    tensors: dict[str, tuple[str, list[int], list[Any]]] = {
        "probabilities": ("FP32", [rows, len(labels)], [round(v.scores[x], 6) for v in verdicts for x in labels]),
        "flagged": ("BOOL", [rows, len(labels)], [x in v.flagged for v in verdicts for x in labels]),
        "action": ("BYTES", [rows], [str(verdict.action) for verdict in verdicts]),
        "labels": ("BYTES", [len(labels)], list(labels)),
    }
    all_binary = bool((request.parameters or {}).get("binary_data_output"))
    asked: dict[str, Any] = {
        out.name: (out.parameters or {}).get("binary_data", all_binary) for out in request.outputs or ()
    }
    outputs, chunks = [], []
    for name in asked or OUTPUTS:
        datatype, shape, data = tensors[name]
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
        if asked.get(name, all_binary):
            raw = _raw(datatype, data)
            chunks.append(raw)
            entry["parameters"] = {_BINARY: len(raw)}
        else:
            entry["data"] = data
        outputs.append(entry)
    return outputs, b"".join(chunks)


def _raw(datatype: str, data: list[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(part)) + part for part in (text.encode() for text in data))
    return np.array(data, dtype="<f4" if datatype == "FP32" else np.bool_).tobytes()


def joined(content: dict[str, Any], binary: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an answer."""
    head = json.dumps(content, separators=(",", ":")).encode()
    if not binary:
        return head, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return head + binary, headers
