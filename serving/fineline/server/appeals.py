"""Routes of appeals: filing one, seeing what became of it, taking it back; and for admins settling and export."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Response

from fineline.server.appeal_answers import AppealPage, AppealView, ExportPage, Receipt, Status, WholeAppeal, view_of
from fineline.server.auth import Caller, require
from fineline.server.bodies import JsonRoute
from fineline.server.desk import Desk, FeedbackRequest, SettleRequest
from fineline.server.feedback import FeedbackStore
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.feedback_table import Appeal
from fineline.server.keys import Scope
from fineline.server.retention import keep_retention
from fineline.server.schemas import ErrorResponse, errors
from fineline.server.sealing import Sealer
from fineline.server.verdict_ids import VerdictIds

_MAY_APPEAL, _MAY_SETTLE = Depends(require(Scope.FEEDBACK)), Depends(require(Scope.ADMIN))
_AppealId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
_Limit = Annotated[int, Query(ge=1, le=100, description="Most entries of the page.")]
_After = Annotated[str, Query(pattern=r"^([0-9]{1,18}\.[0-9a-f]{32})?$", description="'next' of the page before.")]
_Errors = dict[int | str, dict[str, Any]]
_MISSING: _Errors = {404: {"model": ErrorResponse, "description": "no appeal of that id, or not the caller's"}}
_CONFLICT: _Errors = {409: {"model": ErrorResponse, "description": "there is another appeal, or it is settled"}}
_AWAY: _Errors = {503: {"model": ErrorResponse, "description": "the database does not answer; judging goes on"}}
_READ = errors(401, 403, 422, 429) | _AWAY
_WRITE = errors(400, 401, 403, 408, 413, 415, 422, 429) | _CONFLICT | _AWAY


def _place(after: str) -> tuple[int, str]:
    received, _, appeal_id = after.partition(".")
    return int(received or 0), appeal_id


def _next(page: list[Appeal], limit: int) -> str | None:
    return f"{page[-1].received}.{page[-1].id}" if len(page) == limit else None


def _add_public_routes(routes: APIRouter, desk: Desk) -> None:
    @routes.post("/v1/feedback", status_code=201, response_model=Receipt, responses=_WRITE)
    async def appeal(
        body: FeedbackRequest, response: Response, caller: Annotated[Caller, _MAY_APPEAL]
    ) -> dict[str, Any]:
        filed, new = await desk.run(desk.file, body, caller.name)
        response.status_code = 201 if new else 200
        return view_of(filed)

    @routes.get("/v1/feedback/{appeal_id}", response_model=Receipt, responses=_READ | _MISSING)
    async def outcome(appeal_id: _AppealId, caller: Annotated[Caller, _MAY_APPEAL]) -> dict[str, Any]:
        return view_of(await desk.run(desk.own, appeal_id, caller.name))

    @routes.delete("/v1/feedback/{appeal_id}", status_code=204, responses=_READ | _MISSING)
    async def withdraw(appeal_id: _AppealId, caller: Annotated[Caller, _MAY_APPEAL]) -> None:
        await desk.run(desk.withdraw, appeal_id, caller.name)


def _add_admin_lists(routes: APIRouter, desk: Desk) -> None:
    @routes.get("/admin/feedback", response_model=AppealPage, responses=_READ, dependencies=[_MAY_SETTLE])
    async def listed(status: Status | None = None, limit: _Limit = 50, after: _After = "") -> dict[str, Any]:
        statuses = [status] if status else []
        page = await desk.run(desk.store.listed, statuses, limit=limit, after=_place(after))
        return {"appeals": [view_of(appeal) for appeal in page], "next": _next(page, limit)}

    @routes.get(
        "/admin/feedback/export",
        response_model=ExportPage,
        response_model_exclude_unset=True,
        responses=_READ,
        dependencies=[_MAY_SETTLE],
    )
    async def export(limit: _Limit = 50, after: _After = "") -> dict[str, Any]:
        page, rows = await desk.run(desk.exported, limit=limit, after=_place(after))
        return {"rows": rows, "left_out": len(page) - len(rows), "next": _next(page, limit)}


def _add_admin_routes(routes: APIRouter, desk: Desk) -> None:
    one = "/admin/feedback/{appeal_id}"

    @routes.get(one, response_model=WholeAppeal, responses=_READ | _MISSING, dependencies=[_MAY_SETTLE])
    async def shown(appeal_id: _AppealId) -> dict[str, Any]:
        appeal = await desk.run(desk.store.get, appeal_id)
        return view_of(appeal) | asdict(desk.content(appeal))

    @routes.post(one + "/settle", response_model=AppealView, responses=_WRITE | _MISSING)
    async def settle(
        appeal_id: _AppealId, body: SettleRequest, caller: Annotated[Caller, _MAY_SETTLE]
    ) -> dict[str, Any]:
        return view_of(await desk.run(desk.settle, appeal_id, body, caller.name))

    @routes.post(
        one + "/reopen", response_model=AppealView, responses=_READ | _MISSING | _CONFLICT, dependencies=[_MAY_SETTLE]
    )
    async def reopen(appeal_id: _AppealId) -> dict[str, Any]:
        return view_of(await desk.run(desk.reopen, appeal_id))

    @routes.delete(one, status_code=204, responses=_READ | _MISSING, dependencies=[_MAY_SETTLE])
    async def delete(appeal_id: _AppealId) -> None:
        await desk.run(desk.store.delete, appeal_id)


def router(settings: FeedbackSettings, ids: VerdictIds, labels: Callable[[], Sequence[str]]) -> APIRouter:
    """Make the routes; while the app that includes them runs, the retention time is enforced.

    Args:
        settings: Section ``[feedback]``.
        ids: Reads what the judging routes issue.
        labels: Gives the label ids of the model in use.

    Raises:
        ConfigError: The database URL or a file of secrets is wrong.
    """
    desk = Desk(FeedbackStore.open(settings), Sealer.open(settings), ids, settings.appeal_days, labels)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with keep_retention(partial(desk.run, desk.store.purge)):
                yield
        finally:
            await asyncio.to_thread(desk.close)

    routes = APIRouter(route_class=JsonRoute, tags=["feedback"], lifespan=lifespan)
    _add_public_routes(routes, desk)
    _add_admin_lists(routes, desk)
    _add_admin_routes(routes, desk)
    return routes
