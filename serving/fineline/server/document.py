"""The OpenAPI document; ``serving/openapi.json`` is a copy of it that a test holds to the routes."""

import json
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from fineline.files import write_text
from fineline.server.schemas import InferRequest


def add_document(app: FastAPI) -> None:
    """Make ``app.openapi`` give the whole document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                license_info=app.license_info,
                routes=app.routes,
            )
            # Its body is read by hand, for it may have binary data behind it, so FastAPI does not know the schema.
            infer = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
            inner = infer.pop("$defs")
            made["components"]["schemas"] |= {**inner, InferRequest.__name__: infer}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def document_text(app: FastAPI) -> str:
    """The document as the file holds it."""
    return json.dumps(app.openapi(), ensure_ascii=False, indent=1) + "\n"


def write_document(app: FastAPI, path: Path) -> None:
    """Write the document."""
    write_text(path, document_text(app))
