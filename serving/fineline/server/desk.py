"""What an appeal and its settlement may say; checked, stored and read on threads of their own."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from fineline.policy import Action
from fineline.server.feedback import FeedbackStore
from fineline.server.feedback_table import Appeal
from fineline.server.problems import ConflictError, HttpError, NotFoundError, UnavailableError
from fineline.server.sealing import Content, Sealer
from fineline.server.verdict_ids import VerdictClaim, VerdictIds

P = ParamSpec("P")
R = TypeVar("R")
_THREADS, _WAITING = 4, 32
_DAY = 86_400
MAX_TEXT = 100_000
"""Characters of a text, or of its context, that an appeal may carry."""


class Reason(StrEnum):
    """Why a verdict is thought wrong."""

    QUOTED_OR_REPORTED = "quoted_or_reported"
    COUNTER_SPEECH = "counter_speech"
    EDUCATION_OR_MEDICINE = "education_or_medicine"
    FICTION_OR_HUMOUR = "fiction_or_humour"
    OWN_IDENTITY = "own_identity"
    MISSING_CONTEXT = "missing_context"
    MISSED_VIOLATION = "missed_violation"
    WRONG_LABEL = "wrong_label"
    OTHER = "other"


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


_Labels = Annotated[list[str], Field(max_length=64)]


class FeedbackRequest(_Request):
    """``POST /v1/feedback``; ``text``, ``context`` and ``note`` are kept only with ``consent``."""

    verdict_id: str
    expected_labels: _Labels
    expected_action: Action | None = None
    reason: Reason
    note: Annotated[str, Field(max_length=1000)] | None = None
    text: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    context: Annotated[str, Field(max_length=MAX_TEXT)] | None = None
    lang: Annotated[str, Field(pattern="^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}$")] | None = None
    consent: StrictBool = False


class SettleRequest(_Request):
    """``POST /admin/feedback/{id}/settle``.

    ``labels`` are what the text breaks: by default those expected by an upheld appeal, and the verdict's own where it
    is rejected. ``known`` are the labels that were looked at: by default those in dispute; every other one stays
    unknown in training.
    """

    decision: Literal["upheld", "rejected"]
    labels: _Labels | None = None
    known: _Labels | Literal["all"] | None = None


FIELDS = frozenset(name for schema in (FeedbackRequest, SettleRequest) for name in schema.model_fields)
"""Names an error message may repeat; any other name came from the caller."""


def _checked(labels: list[str], field: str, known: Sequence[str]) -> list[str]:
    """Label ids in the order of those known, each once; a message says which entry is none and does not repeat it."""
    for number, label in enumerate(labels, 1):
        if label not in known:
            raise HttpError("label_unknown", f"{field}: entry {number} is not a label id of the model's taxonomy.")
    return [label for label in known if label in labels]


class Desk:
    """Takes appeals in and settles them.

    Args:
        store: Where they are kept.
        sealer: How texts are kept.
        ids: Reads verdict ids.
        appeal_days: Days after a verdict in which it can be appealed.
        labels: Gives the label ids of the model in use, in its order.
    """

    def __init__(
        self,
        store: FeedbackStore,
        sealer: Sealer,
        ids: VerdictIds,
        appeal_days: int,
        labels: Callable[[], Sequence[str]],
    ) -> None:
        self.store = store
        self.sealer = sealer
        self._ids = ids
        self._appeal_days = appeal_days
        self._labels = labels
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="feedback")
        self._running = 0

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Make a call that may touch the database, on a thread: a slow database holds up nothing but appeals.

        Raises:
            UnavailableError: So many calls wait already that the database cannot be well.
        """
        if self._running >= _WAITING:
            raise UnavailableError("feedback_busy", "Too many calls wait for the feedback database; try again later.")
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))
        # Counted until the thread is done with it, which a client that goes away does not change.
        future.add_done_callback(self._done)
        return await asyncio.shield(future)

    def _done(self, future: "asyncio.Future[Any]") -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # looked at here, because nobody looks once the client is gone

    def close(self) -> None:
        """End the threads and connections."""
        self._threads.shutdown()
        self.store.close()

    def file(self, request: FeedbackRequest, caller: str) -> tuple[Appeal, bool]:
        """Check and store an appeal.

        Returns:
            The appeal as stored, and whether it is new: one sent again, because its answer got lost, is not.

        Raises:
            HttpError: The request does not hold, or the verdict has another appeal already, or the database is away.
            InputError: The verdict id is none.
        """
        claim = self._ids.read(request.verdict_id)
        self._check(request, claim)
        appeal = self._appeal(request, claim, caller)
        try:
            self.store.file(appeal)
        except ConflictError:
            before = self.store.get(appeal.id)
            same = ("filed_by", "expected_labels", "expected_action", "reason", "lang", "form")
            if any(getattr(before, name) != getattr(appeal, name) for name in same):
                raise
            return before, False
        return appeal, True

    def own(self, appeal_id: str, caller: str) -> Appeal:
        """An appeal that the caller filed.

        Raises:
            NotFoundError: There is none; one that somebody else filed looks the same.
            UnavailableError: The database is away.
        """
        appeal = self.store.get(appeal_id)
        if appeal.filed_by != caller:
            raise NotFoundError("appeal_unknown", "There is no appeal of that id.")
        return appeal

    def withdraw(self, appeal_id: str, caller: str) -> None:
        """Delete an appeal that the caller filed; errors as in ``own``."""
        self.store.delete(self.own(appeal_id, caller).id)

    def settle(self, appeal_id: str, request: SettleRequest, caller: str) -> Appeal:
        """Settle an open appeal.

        Raises:
            HttpError: There is none, it is settled, the labels do not hold, or the database is away.
        """
        appeal = self.store.get(appeal_id)
        default = appeal.expected_labels if request.decision == "upheld" else appeal.flagged
        # The model that judged may have had labels that the one in use has not.
        ids = tuple(dict.fromkeys([*self._labels(), *appeal.flagged, *appeal.expected_labels]))
        labels = _checked(default if request.labels is None else request.labels, "labels", ids)
        if request.known == "all":
            known = list(ids)
        else:
            disputed = [*appeal.flagged, *appeal.expected_labels, *labels]
            known = _checked(disputed if request.known is None else request.known, "known", ids)
        if not set(labels) <= set(known):
            raise HttpError("known_labels", "known: must hold every one of the labels.")
        self.store.settle(appeal_id, status=request.decision, labels=labels, known=known, by=caller)
        return self.store.get(appeal_id)

    def reopen(self, appeal_id: str) -> Appeal:
        """Undo a settlement.

        Raises:
            HttpError: There is no such appeal, it is open, or the database is away.
        """
        self.store.reopen(appeal_id)
        return self.store.get(appeal_id)

    def exported(self, *, limit: int, after: tuple[int, str]) -> tuple[list[Appeal], list[dict[str, Any]]]:
        """A page of settled appeals, and the training rows among them.

        Raises:
            UnavailableError: The database is away, or the key of a text is not in the key file.
        """
        page = self.store.listed(["upheld", "rejected"], limit=limit, after=after, contents=True)
        rows = [training_row(appeal, self.content(appeal)) for appeal in page]
        return page, [row for row in rows if row]

    def content(self, appeal: Appeal) -> Content:
        """What the appellant let us keep.

        Raises:
            UnavailableError: Its key is not in the key file.
        """
        return self.sealer.unseal(appeal.form, appeal.content)

    def _check(self, request: FeedbackRequest, claim: VerdictClaim) -> None:
        if claim.issued < self.store.now() - self._appeal_days * _DAY:
            message = f"verdict_id: a verdict can be appealed for {self._appeal_days} days; this one is older."
            raise HttpError("verdict_id_expired", message)
        if request.text is None and request.context is not None:
            raise HttpError("context_alone", "context: send it together with the text.")
        if request.text is not None and not self._ids.matches(claim, request.text, request.context):
            raise HttpError(
                "text_not_judged",
                "text: this is not what the verdict is of; send text and context exactly as they were judged.",
            )

    def _appeal(self, request: FeedbackRequest, claim: VerdictClaim, caller: str) -> Appeal:
        content = Content(text=request.text, context=request.context, note=request.note)
        form, stored = (self.sealer.seal(content) if request.consent else None) or (None, None)
        now = self.store.now()
        ids = tuple(dict.fromkeys([*self._labels(), *claim.flagged]))
        return Appeal(
            id=claim.id,
            filed_by=caller,
            received=now,
            delete_after=now + self.store.retention,
            judged=claim.issued,
            model=claim.model,
            bundle=claim.bundle,
            policy=claim.policy,
            action=claim.action,
            flagged=list(claim.flagged),
            expected_labels=_checked(request.expected_labels, "expected_labels", ids),
            expected_action=request.expected_action and request.expected_action.value,
            reason=request.reason.value,
            lang=request.lang,
            form=form,
            content=stored,
        )


def training_row(appeal: Appeal, content: Content) -> dict[str, Any] | None:
    """A settled appeal as a row that ``fineline labels import`` reads, ``None`` where it has no text or no labels."""
    if not (content.text or "").strip() or not appeal.known:
        return None
    row = {"text": content.text, "context": content.context, "labels": appeal.labels, "known": appeal.known}
    row["lang"] = appeal.lang
    return {name: value for name, value in row.items() if value is not None}
