"""How long a text takes, with the machine named."""

import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fineline import Classifier
from fineline_eval.report import Speed
from fineline_training.records import Record

_ROWS = 200


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def measure_speed(classifier: Classifier, rows: Sequence[Record], threads: int) -> Speed:
    """Time classification of texts of all languages, one at a time and in one batch."""
    texts = [row.text for row in rows[:: max(1, len(rows) // _ROWS)][:_ROWS]]
    tokens = [len(windows[0].ids) for windows in classifier.encoder.encode(texts)]
    classifier.classify(texts[:20])
    began = time.perf_counter()
    for text in texts:
        classifier.classify([text])
    single = time.perf_counter() - began
    began = time.perf_counter()
    classifier.classify(texts)
    batch = time.perf_counter() - began
    return Speed(
        machine=_cpu_name(),
        threads=threads,
        single_ms=round(1000 * single / len(texts), 2),
        batch_ms=round(1000 * batch / len(texts), 2),
        tokens=int(np.median(tokens)),
        n=len(texts),
    )
