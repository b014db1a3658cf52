"""Prometheus metrics: counts and times, never text."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from fineline.classifier import Verdict

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("fineline_requests", "HTTP requests", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "fineline_request_seconds", "Time to answer a request", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self.texts = Counter("fineline_texts", "Texts judged", ["action"], registry=self.registry)
        self.flags = Counter("fineline_flags", "Labels flagged", ["label"], registry=self.registry)

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        for verdict in verdicts:
            self.texts.labels(action=str(verdict.action)).inc()
            for label in verdict.flagged:
                self.flags.labels(label=label).inc()
