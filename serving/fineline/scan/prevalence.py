"""How much unlawful content a corpus holds, given how much was flagged and how often the classifier errs.

The flagged share is not the unlawful share: some unlawful documents are missed and some lawful ones flagged. With
sensitivity ``se`` and specificity ``sp`` the corrected share is ``(flagged + sp - 1) / (se + sp - 1)``, cut to 0 to 1
(Rogan and Gladen 1978, "Estimating prevalence from the results of a screening test", Am. J. Epidemiology 107, 71-76).
Its interval is a parametric bootstrap: all three shares are drawn again, each as widely as it was measured.

The correction is as good as the set the error was measured on resembles the corpus. That is why the result is stated
for each set of the card that asks about all labels, and never as one number alone.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fineline.errors import ConfigError
from fineline.scan.intervals import CONFIDENCE, Z

_RESAMPLES = 4000
_SEED = 7


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A measured rate of the card with the ends of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def rows(self) -> float:
        """Independent rows that would give an interval of this width; fewer than measured where rows hang together."""
        variance = ((self.high - self.low) / (2 * Z)) ** 2
        return self.value * (1 - self.value) / variance


@dataclass(frozen=True, kw_only=True)
class ErrorRates:
    """How often the classifier is right on one evaluation set.

    Attributes:
        name: Its id in the card's report.
        title: Its title.
        n: Rows of the set.
        sensitivity: Share of unlawful rows flagged.
        specificity: Share of lawful rows not flagged.
    """

    name: str
    title: str
    n: int
    sensitivity: Rate
    specificity: Rate


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated unlawful share under one set's error rates.

    Attributes:
        on: The set.
        value: Point estimate, cut to 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        below_false_alarms: Whether a smaller share was flagged than of the set's lawful rows: the set is then harder
            than the documents, and an estimate of 0 says so rather than that there is nothing.
    """

    on: str
    value: float
    low: float
    high: float
    below_false_alarms: bool


def _rate(table: Any, *, complement: bool = False) -> Rate | None:
    """A metric of the report, or ``None`` where it is not defined or has no width to draw from."""
    if not isinstance(table, dict) or not all(isinstance(table.get(key), int | float) for key in ("value", "low")):
        return None
    value, low, high = (float(table[key]) for key in ("value", "low", "high"))
    if not (0 < value < 1 and low < high):
        return None
    return Rate(value=1 - value, low=1 - high, high=1 - low) if complement else Rate(value=value, low=low, high=high)


def _pooled(langs: list[dict[str, Any]]) -> Rate | None:
    """Recall over all languages of the authored rows, each weighted by its unlawful rows."""
    parts = [(lang["n"] - lang["lawful_flagged"]["n"], _rate(lang["recall"])) for lang in langs]
    known = [(rows, rate) for rows, rate in parts if rate is not None and rows > 0]
    total = sum(rows for rows, _ in known)
    if not total:
        return None
    value = sum(rows * rate.value for rows, rate in known) / total
    half = math.sqrt(sum((rows * (rate.high - rate.low) / 2) ** 2 for rows, rate in known)) / total
    return Rate(value=value, low=value - half, high=value + half)


def _sets(report: Mapping[str, Any]) -> Iterator[tuple[str, str, int, Rate | None, Rate | None]]:
    authored = report["authored"]
    yield (
        "authored",
        "Held-back authored texts",
        authored["n"],
        _pooled(authored["langs"]),
        _rate(authored["lawful_flagged"], complement=True),
    )
    for suite in report["suites"]:
        if suite["target"] == "all":
            metrics = suite["metrics"]
            lawful = _rate(metrics.get("lawful_flagged"), complement=True)
            yield suite["id"], suite["title"], suite["n"], _rate(metrics.get("recall")), lawful


def read_error_rates(path: Path, *, model: str, files: Mapping[str, str], policy: str) -> tuple[ErrorRates, ...]:
    """Read the error rates of a card's ``report.json``.

    Args:
        path: The file.
        model: ``name@version`` of the bundle that scored the corpus.
        files: Its hashes by file name.
        policy: Policy that the documents were decided by.

    Returns:
        One entry for each set that asks about all labels and states both rates with an interval.

    Raises:
        ConfigError: The file is no report, or is about another bundle or policy, whose errors these would not be.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        measured, measured_policy, measured_model = report["files"], report["policy"], report["model"]
        found = tuple(_sets(report))
    except OSError as error:
        raise ConfigError("card_report", f"{path}: cannot be read ({error.strerror}); give a report.json.") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(
            "card_report", f"{path}: not a report of 'fineline eval'; give a card's report.json."
        ) from None
    if measured_model != model or measured != dict(files):
        raise ConfigError(
            "card_report_bundle",
            f"{path}: measured on another bundle than the one that scored the corpus; its error rates do not apply.",
        )
    if measured_policy != policy:
        raise ConfigError(
            "card_report_policy",
            f"{path}: measured under the policy '{measured_policy}', the documents were decided by '{policy}'; decide "
            f"them by '{measured_policy}' or measure the bundle under '{policy}'.",
        )
    return tuple(
        ErrorRates(name=name, title=title, n=n, sensitivity=sensitivity, specificity=specificity)
        for name, title, n, sensitivity, specificity in found
        if sensitivity and specificity and sensitivity.value + specificity.value > 1
    )


def corrected(flagged: int, n: int, rates: ErrorRates) -> Estimate:
    """Correct a flagged share for the classifier's errors.

    Args:
        flagged: Documents flagged.
        n: Documents, at least 1.
        rates: Error rates, together better than chance.
    """
    share, sensitivity, specificity = flagged / n, rates.sensitivity, rates.specificity
    rng = np.random.default_rng(_SEED)
    # Jeffreys' half a row of each kind keeps every draw off 0 and 1.
    shares = rng.beta(flagged + 0.5, n - flagged + 0.5, _RESAMPLES)
    drawn = [
        rng.beta(rate.value * rate.rows + 0.5, (1 - rate.value) * rate.rows + 0.5, _RESAMPLES)
        for rate in (sensitivity, specificity)
    ]
    better = drawn[0] + drawn[1] - 1
    useful = better > 0
    draws = np.clip((shares + drawn[1] - 1)[useful] / better[useful], 0, 1)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    value = (share + specificity.value - 1) / (sensitivity.value + specificity.value - 1)
    return Estimate(
        on=rates.name,
        value=min(max(value, 0.0), 1.0),
        low=float(low),
        high=float(high),
        below_false_alarms=share < 1 - specificity.value,
    )
