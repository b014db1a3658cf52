"""The committed OpenAPI document is that of the routes."""

import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from fineline.server.app import create_app
from fineline.server.document import document_text
from fineline.server.models import ModelSlot
from fineline.server.settings import ServerSettings

COMMITTED = Path(__file__).parents[2] / "serving" / "openapi.json"


@pytest.fixture(scope="module")
def document():
    settings = ServerSettings()
    return json.loads(document_text(create_app(settings, ModelSlot(settings))))


def test_the_committed_document_is_current(document):
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == document, (
        "run: fineline serve --openapi serving/openapi.json"
    )


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from references(inner)


def test_every_reference_leads_somewhere(document):
    found = set(references(document))
    assert "#/components/schemas/InferRequest" in found
    for reference in found:
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]


def test_every_route_that_judges_names_its_errors_and_its_key(document):
    for path in ("/v1/moderations", "/v1/classify", "/v2/models/{model}/infer"):
        operation = document["paths"][path]["post"]
        assert {"200", "400", "401", "413", "429", "503", "504"} <= set(operation["responses"])
        assert operation["security"]
        assert operation["requestBody"]["required"]


def test_operations_have_names_of_their_own(document):
    names = [entry["operationId"] for path in document["paths"].values() for entry in path.values()]
    assert len(set(names)) == len(names)
