"""What the routes of appeals answer."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel

from fineline.policy import Action
from fineline.server.feedback_table import Appeal

Status = Literal["open", "upheld", "rejected"]
_TIMES = ("received", "delete_after", "judged", "settled")


class Receipt(BaseModel):
    """What the sender of an appeal sees of it. Times are ISO 8601 in UTC; ``labels`` are those a person settled on."""

    id: str
    status: Status
    received: str
    settled: str | None
    labels: list[str] | None
    delete_after: str
    content_stored: bool


class AppealView(Receipt):
    """All facts of an appeal, without what was written."""

    filed_by: str
    judged: str
    model: str
    bundle: str
    policy: str
    action: Action
    flagged: list[str]
    expected_labels: list[str]
    expected_action: Action | None
    reason: str
    lang: str | None
    known: list[str] | None
    settled_by: str | None


class WholeAppeal(AppealView):
    """An appeal with what its sender let us keep."""

    text: str | None
    context: str | None
    note: str | None


class AppealPage(BaseModel):
    """A page of appeals in the order they came; ``next`` is the ``after`` of the following one."""

    appeals: list[AppealView]
    next: str | None


class TrainingRow(BaseModel):
    """A settled appeal as ``fineline labels import`` reads it; every label that is not in ``known`` is unknown."""

    text: str
    context: str | None = None
    labels: list[str]
    known: list[str]
    lang: str | None = None


class ExportPage(BaseModel):
    """A page of training rows; ``left_out`` counts settled appeals without a text or a label that was looked at."""

    rows: list[TrainingRow]
    left_out: int
    next: str | None


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def view_of(appeal: Appeal) -> dict[str, Any]:
    """The entries of an ``AppealView``, and so of a ``Receipt``."""
    facts = {name: value for name, value in asdict(appeal).items() if name not in ("form", "content")}
    return facts | {name: _time(facts[name]) for name in _TIMES} | {"content_stored": appeal.form is not None}
