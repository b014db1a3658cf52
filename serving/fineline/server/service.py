"""What the routes of one app share."""

from dataclasses import dataclass, field

from fineline.bundle import Bundle
from fineline.classifier import Verdict
from fineline.server.drain import Drain
from fineline.server.judging import Judge
from fineline.server.metrics import Metrics
from fineline.server.models import ModelSlot
from fineline.server.settings import ServerSettings
from fineline.server.verdict_ids import VerdictIds


@dataclass(frozen=True, kw_only=True)
class Service:
    """Parts of one app.

    Attributes:
        settings: Of the server.
        slot: The model in use.
        judge: What every route judges with.
        ids: Issues the ids that verdicts are appealed with; ``None`` where appeals are off.
        drain: Whether the server stops.
    """

    settings: ServerSettings
    slot: ModelSlot
    judge: Judge
    ids: VerdictIds | None = None
    drain: Drain = field(default_factory=Drain)

    @property
    def metrics(self) -> Metrics:
        """Metrics of the app."""
        return self.slot.metrics

    def verdict_id(self, verdict: Verdict, text: str, context: str | None, bundle: Bundle) -> dict[str, str]:
        """The entry ``verdict_id`` of a result; empty where appeals are off."""
        if self.ids is None:
            return {}
        return {"verdict_id": self.ids.issue(verdict, text, context, bundle=bundle.meta.digest)}
