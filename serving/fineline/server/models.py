"""The model in use, and how another takes its place without a request noticing.

The new bundle is loaded, checked against its hashes and its golden file, and thereby warmed, beside the old one; then
one assignment makes it the current one. A request keeps the model it started with; the old one is closed when the last
of those is answered. Whatever goes wrong before the assignment leaves the old one in use.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fineline.bundle import MODEL, default_bundle_path, load_bundle
from fineline.classifier import Classifier
from fineline.engine import CPU, Engine
from fineline.errors import FinelineError
from fineline.server.batcher import Batcher
from fineline.server.faults import NotReadyError
from fineline.server.logs import place_of
from fineline.server.memory import give_back_memory
from fineline.server.metrics import Metrics
from fineline.server.problems import ConflictError, HttpError
from fineline.server.settings import EngineSettings, ServerSettings
from fineline.taxonomy import load_taxonomy

_LOG = logging.getLogger(__name__)
_QUEUED = 64
"""Batches of each worker that may wait where the settings do not say."""


class ReloadError(HttpError):
    """A bundle cannot take the place of the one in use."""

    status = 422


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A bundle that was loaded and checked, with an engine for each worker.

    Attributes:
        classifier: The model.
        engines: One a worker; workers of one thread share one, so that the weights are held once.
        golden_gap: Largest difference in logits from its golden file.
    """

    classifier: Classifier
    engines: tuple[Engine, ...]
    golden_gap: float


def load_model(path: Path | None, settings: EngineSettings) -> Loaded:
    """Load a bundle and check it.

    Raises:
        BundleError: It is missing, altered, made for another release, or its golden scores are not reproduced.
        ConfigError: The device is unknown.
    """
    bundle = load_bundle(path)
    classifier = Classifier(
        bundle,
        policy=settings.policy,
        threads=settings.threads,
        device=settings.device,
        batch_tokens=settings.budgets,
    )
    gap = classifier.self_check()
    engines = [classifier.engine] * settings.workers(classifier.engine.device)
    if settings.threads > 1 and classifier.engine.device == CPU:
        golden = [windows[0] for windows in classifier.encode([row["text"] for row in bundle.golden()])]
        for place in range(1, len(engines)):
            engines[place] = Engine(
                bundle.path / MODEL,
                pad=classifier.encoder.pad,
                threads=settings.threads,
                batch_tokens=settings.budgets[CPU],
            )
            engines[place].logits(golden)
    return Loaded(classifier=classifier, engines=tuple(engines), golden_gap=gap)


class Model:
    """A model in service: its classifier, the device it runs on, its batcher, and the numbers of its requests."""

    def __init__(self, loaded: Loaded, settings: ServerSettings, metrics: Metrics) -> None:
        self.classifier = loaded.classifier
        self.golden_gap = loaded.golden_gap
        self.device = loaded.classifier.engine.device
        self.workers = len(loaded.engines)
        self.batch_tokens = settings.engine.budgets[self.device]
        at_once = self.batch_tokens * self.workers
        self.batcher = Batcher(
            loaded.engines,
            batch_tokens=self.batch_tokens,
            queue_tokens=settings.limits.queue_tokens or _QUEUED * at_once,
            metrics=metrics,
        )
        # Even the shortest request has tokens, so more than these only wait.
        self._most_judging = settings.limits.max_requests or at_once
        self.users = self.judging = 0
        self.unused = asyncio.Event()

    def check_room(self) -> None:
        """Refuse what would be refused anyway, before its body is read: under overload that is most of the work.

        Raises:
            OverloadError: The queue is full, or as many requests are judged or wait as may.
        """
        self.batcher.check_room()
        if self.judging >= self._most_judging:
            raise self.batcher.overload()

    async def retire(self) -> None:
        """Wait for the last request, then stop the workers."""
        while self.users:
            self.unused.clear()
            await self.unused.wait()
        await asyncio.to_thread(self.batcher.close)


@dataclass(frozen=True, kw_only=True)
class Reloaded:
    """What a reload did."""

    previous: str
    model: str
    golden_gap: float
    seconds: float


class ModelSlot:
    """Holds the current model; all but ``load`` and ``label_ids`` belongs to one event loop.

    Args:
        settings: The server's settings.
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        self._settings = settings or ServerSettings()
        self.metrics = Metrics()
        self._path = Path(self._settings.engine.bundle) if self._settings.engine.bundle else None
        self._loaded: Loaded | None = None
        self._model: Model | None = None
        self._reloading = False
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    def holding(cls, classifier: Classifier, settings: ServerSettings | None = None) -> "ModelSlot":
        """A slot for a classifier that is loaded already; it is checked here.

        Raises:
            BundleError: Its golden scores are not reproduced.
        """
        slot = cls(settings)
        slot._path = classifier.bundle.path
        slot._loaded = Loaded(classifier=classifier, engines=(classifier.engine,), golden_gap=classifier.self_check())
        return slot

    def load(self) -> None:
        """Load the model named in the settings, if none is loaded; errors as in ``load_model``."""
        if self._loaded is None:
            self._loaded = load_model(self._path, self._settings.engine)
            give_back_memory()

    async def open(self) -> None:
        """Take up service; from here on ``use`` gives the model. Loads it first if need be."""
        if self._loaded is None:
            await asyncio.to_thread(self.load)
        assert self._loaded is not None
        self._model = Model(self._loaded, self._settings, self.metrics)
        self._tell()

    async def close(self) -> None:
        """Give up service. What waits for the model is answered with ``NotReadyError``."""
        model, self._model = self._model, None
        if model:
            await asyncio.to_thread(model.batcher.close)
        for task in tuple(self._tasks):
            await task

    @property
    def model(self) -> Model | None:
        """The model in service."""
        return self._model

    def label_ids(self) -> tuple[str, ...]:
        """Ids of all labels that the model in service knows of; those that ship where there is none."""
        model = self._model
        return (model.classifier.bundle.taxonomy if model else load_taxonomy()).ids

    @contextmanager
    def use(self) -> Iterator[Model]:
        """The model for one request: it stays open until the block ends.

        Raises:
            NotReadyError: There is none.
        """
        model = self._model
        if model is None:
            raise NotReadyError("not_ready", "The model is not ready.")
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            if not model.users:
                model.unused.set()

    def check_room(self) -> None:
        """As ``Model.check_room`` of the model in use."""
        if self._model:
            self._model.check_room()

    def sibling(self, name: str) -> Path:
        """Folder of the bundle ``name`` beside the one named in the settings: a caller cannot point anywhere else.

        Raises:
            ReloadError: The name is not one of a folder there.
        """
        folder = (self._path or default_bundle_path()).absolute().parent
        try:
            there = [entry.name for entry in folder.iterdir() if entry.is_dir()]
        except OSError:
            there = []
        if name not in there:
            raise ReloadError("bundle_missing", "There is no bundle of that name beside the configured one.")
        return folder / name

    async def reload(self, path: Path | None = None) -> Reloaded:
        """Put a bundle in the place of the current one.

        Args:
            path: Its folder; the configured one, read again, when ``None``.

        Raises:
            ConflictError: Another reload is going on.
            ReloadError: The bundle cannot be used; its message says why, and the current model stays.
            NotReadyError: The server is not in service.
        """
        if self._model is None:
            raise NotReadyError("not_ready", "The model is not ready.")
        if self._reloading:
            raise ConflictError("reload_running", "Another reload is going on; wait for its end.")
        self._reloading = True
        # Shielded: a caller that goes away must not leave half a reload behind.
        return await asyncio.shield(asyncio.ensure_future(self._reload(path or self._path)))

    async def _reload(self, path: Path | None) -> Reloaded:
        began = time.monotonic()
        try:
            loaded = await asyncio.to_thread(load_model, path, self._settings.engine)
            old = self._model
            if old is None:
                raise NotReadyError("stopping", "The server is about to stop.")
            self._loaded, self._model = loaded, Model(loaded, self._settings, self.metrics)
        except Exception as error:
            self.metrics.reloads.labels(result="failed").inc()
            raise self._refusal(error) from None
        finally:
            self._reloading = False
        self.metrics.reloads.labels(result="done").inc()
        self._tell()
        task = asyncio.create_task(_retire(old))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Reloaded(
            previous=old.classifier.bundle.model_id,
            model=loaded.classifier.bundle.model_id,
            golden_gap=round(loaded.golden_gap, 4),
            seconds=round(time.monotonic() - began, 3),
        )

    def _refusal(self, error: Exception) -> HttpError:
        if isinstance(error, HttpError):
            return error
        code, why = (error.code, error.message) if isinstance(error, FinelineError) else ("reload", place_of(error))
        current = self._model.classifier.bundle.model_id if self._model else "no model"
        _LOG.error("reload failed, %s stays: %s", current, why)
        return ReloadError(code, f"{why} {current} stays in use.")

    def _tell(self) -> None:
        assert self._model is not None
        bundle = self._model.classifier.bundle
        self.metrics.model.info({"model": bundle.model_id, "digest": bundle.meta.digest})
        _LOG.info("model %s is in use on %s", bundle.model_id, self._model.device)


async def _retire(model: Model) -> None:
    await model.retire()
    del model
    await asyncio.to_thread(give_back_memory)
