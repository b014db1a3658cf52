"""What is served is what was measured: the golden scores on this machine, and the same verdicts over HTTP.

Torch and fp32 are not shipped, so their distance from the int8 artefact is measured when a bundle is made and travels
in its manifest. What a bundle can still lose afterwards is measured here.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi.testclient import TestClient

from fineline import Classifier
from fineline.errors import BundleError
from fineline.server.app import create_app
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.models import ModelSlot
from fineline.server.settings import ServerSettings
from fineline_eval.banks import exact_share
from fineline_eval.metrics import Metric
from fineline_training.records import Record

_ROWS = 10
"""Texts a language that are sent over HTTP."""


@dataclass(frozen=True, kw_only=True)
class HttpParity:
    """Texts of one language for which the endpoint gives the labels, in the order, that Python gives."""

    lang: str
    same: Metric


@dataclass(frozen=True, kw_only=True)
class Served:
    """The artefact as it is served.

    Attributes:
        golden_gap: Largest difference in logits from the bundle's golden file here; NaN when beyond the bound.
        golden_tolerance: The bundle's bound on it.
        http: By language.
    """

    golden_gap: float
    golden_tolerance: float
    http: tuple[HttpParity, ...]


def evaluate_served(classifier: Classifier, rows: Sequence[Record]) -> Served:
    """Compare the loaded bundle with its golden file, and the endpoint's verdicts with the classifier's.

    Args:
        classifier: The bundle under test.
        rows: Rows of all languages; the first few of each are judged twice.

    Returns:
        No gap (NaN) and no HTTP where the golden file is not reproduced: the endpoint does not start then.
    """
    tolerance = classifier.bundle.meta.golden_tolerance
    try:
        gap = round(classifier.self_check(), 4)
    except BundleError:
        return Served(golden_gap=float("nan"), golden_tolerance=tolerance, http=())
    chosen: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        if len(chosen[row.lang]) < _ROWS:
            chosen[row.lang].append(row)
    results = []
    settings = ServerSettings(feedback=FeedbackSettings(enabled=False))
    with TestClient(create_app(settings, ModelSlot.holding(classifier, settings))) as client:
        for lang, few in sorted(chosen.items()):
            texts, contexts = [row.text for row in few], [row.context for row in few]
            body = {"input": texts, "context": contexts}
            answered = client.post("/v1/classify", json=body).raise_for_status().json()["results"]
            verdicts = classifier.classify(texts, contexts)
            same = [tuple(a["flagged"]) == v.flagged for a, v in zip(answered, verdicts, strict=True)]
            results.append(HttpParity(lang=lang, same=exact_share(np.array(same, dtype=np.bool_))))
    return Served(golden_gap=gap, golden_tolerance=tolerance, http=tuple(results))
