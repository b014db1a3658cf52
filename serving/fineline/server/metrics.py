"""Prometheus metrics: counts and times, never text."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from fineline.classifier import Verdict

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_CHARACTERS = (0, 8, 32, 128, 512, 2048, 8192)
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("fineline_requests", "HTTP requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "fineline_request_seconds", "Time to answer a request", ["route"], buckets=_SECONDS, registry=registry
        )
        self.running = Gauge("fineline_requests_running", "HTTP requests being answered", registry=registry)
        self.texts = Counter("fineline_texts", "Texts judged", ["action"], registry=registry)
        self.flags = Counter("fineline_flags", "Labels flagged", ["label"], registry=registry)
        self.queue_tokens = Gauge("fineline_queue_tokens", "Tokens that wait for the model", registry=registry)
        self.batch_tokens = Histogram("fineline_batch_tokens", "Tokens of a batch", buckets=_TOKENS, registry=registry)
        self.batch_windows = Histogram(
            "fineline_batch_windows", "Windows of a batch", buckets=_WINDOWS, registry=registry
        )
        self.stages = Histogram(
            "fineline_stage_seconds",
            "Time of a request in tokenise, wait and answer, and of a batch in run",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.overloads = Counter("fineline_overloads", "Requests refused because too much waits", registry=registry)
        self.deadlines = Counter("fineline_deadlines", "Requests not judged in time", registry=registry)
        self.cancelled = Counter("fineline_cancelled", "Requests whose client went away", registry=registry)
        self.stalled = Counter("fineline_stalled", "Connections closed because the client stalled", registry=registry)
        self.engine_errors = Counter("fineline_engine_errors", "Batches that the engine failed on", registry=registry)
        self.streams = Gauge("fineline_streams", "Streams that are open", registry=registry)
        self.stream_delay = Histogram(
            "fineline_stream_delay_characters",
            "Characters between the stretch that first showed a label and its event",
            buckets=_CHARACTERS,
            registry=registry,
        )
        self.reloads = Counter("fineline_reloads", "Reloads of the model", ["result"], registry=registry)
        self.model = Info("fineline_model", "The model in use", registry=registry)

    def stage(self, name: str, seconds: float) -> None:
        """Observe the time of a stage: ``tokenise``, ``wait``, ``run`` or ``answer``."""
        self.stages.labels(stage=name).observe(seconds)

    def batch(self, tokens: int, windows: int, seconds: float) -> None:
        """Observe a batch that was run."""
        self.batch_tokens.observe(tokens)
        self.batch_windows.observe(windows)
        self.stage("run", seconds)

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        for verdict in verdicts:
            self.texts.labels(action=str(verdict.action)).inc()
            for label in verdict.flagged:
                self.flags.labels(label=label).inc()
