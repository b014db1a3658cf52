"""The console page at ``/``, the model's card and its figures; open to everybody, as what they show is no secret.

The page has no build step and takes nothing from elsewhere. Its Content-Security-Policy allows only what this server
sends, and no markup made from strings, so that a text that is pasted into it can never run.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from fastapi import APIRouter, Request, Response

from fineline.bundle import Bundle
from fineline.server.console_facts import card_page, figure_facts, label_facts, read_figure, server_facts
from fineline.server.problems import NotFoundError
from fineline.server.service import Service

_FOLDER = Path(__file__).with_name("console")
_CARD = "card.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_IMAGE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""Figures carry their own styles; opened by themselves they can do nothing else."""

_HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _answer(request: Request, content: bytes, suffix: str) -> Response:
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    policy = _IMAGE if suffix == ".svg" else _PAGE
    headers = {**_HEADERS, "Content-Security-Policy": policy, "ETag": tag}
    known = {entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")}
    if known & {tag, "*"}:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers | {"Content-Type": _TYPES[suffix]})


def console_routes(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(include_in_schema=False)
    assets = {file.name: file.read_bytes() for file in _FOLDER.iterdir() if file.suffix in _TYPES}
    index = assets.pop("index.html")
    del assets[_CARD]
    fixed = server_facts(service.settings)

    async def of_bundle(read: Callable[[Bundle], bytes]) -> bytes:
        with service.slot.use() as current:
            return await asyncio.to_thread(read, current.classifier.bundle)

    @routes.get("/")
    async def page(request: Request) -> Response:
        return _answer(request, index, ".html")

    @routes.get("/console/facts.json")
    async def facts(request: Request) -> Response:
        def read(bundle: Bundle) -> bytes:
            found = label_facts(bundle) | fixed | {"figures": figure_facts(bundle)}
            return json.dumps(found, ensure_ascii=False).encode()

        return _answer(request, await of_bundle(read), ".json")

    @routes.get("/console/card")
    async def card(request: Request) -> Response:
        return _answer(request, await of_bundle(partial(card_page, template=_FOLDER / _CARD)), ".html")

    @routes.get("/console/figures/{name}")
    async def figure(name: str, request: Request) -> Response:
        return _answer(request, await of_bundle(partial(read_figure, name=name)), ".svg")

    @routes.get("/console/{name}")
    async def asset(name: str, request: Request) -> Response:
        if name not in assets:
            raise NotFoundError("page_unknown", "There is no such page.")
        return _answer(request, assets[name], Path(name).suffix)

    return routes
