"""Watching a fit that goes on from a bundle: what its rows teach, against what the bundle must not lose.

Several times an epoch the model judges development rows. Gain is the average precision on the labels that the team's
rows are about. A state counts only within the gates: on rows of the original mixture no more lawful text is flagged and
the mean of its labels loses no more average precision than the recipe allows, each against the state that the fit began
with; a single label is held to its floor when the bundle is compared, on more rows. Gains that
a few development rows cannot tell apart are equal; of the states with such a gain the one that decides least otherwise
than the bundle is kept. After ``patience`` checks without a better one the fit stops. In the end states between the
bundle and the one kept are judged in the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fineline.bundle import Bundle
from fineline.calibration import calibrated
from fineline.errors import DataError
from fineline.policy import DEFAULT_POLICY
from fineline_training.examples import Examples
from fineline_training.recipe import StartSpec

SHARES = (0.0, 0.25, 0.5, 0.75)
"""How much of the way from the bundle's encoder to the trained one is tried in the end, least first."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What one look at the model found.

    Attributes:
        done: Epochs trained.
        gain: Mean average precision over the labels that the team's rows are about, on those rows.
        kept: The same over the bundle's labels, on rows of the original mixture.
        lawful_flagged: Share of their lawful rows that the bundle's calibration and thresholds flag.
        moved: Share of their rows that are flagged otherwise than by the bundle.
        within: Whether it is within the gates.
        share: How much of the way from the bundle's encoder to the trained one the model has gone.
    """

    done: float
    gain: float
    kept: float
    lawful_flagged: float
    moved: float
    within: bool
    share: float = 1.0


def mean_precision(logits: NDArray[np.float32], labels: NDArray[np.float32], columns: Sequence[int]) -> float:
    """Mean average precision over labels of which rows are known to be flagged and known not to be; 0 without any.

    Args:
        logits: Shape (rows, labels).
        labels: As ``Examples`` has them; a share counts as what most annotators said, half as unknown.
        columns: Labels that count.
    """
    found = []
    for column in columns:
        known = (labels[:, column] >= 0) & (labels[:, column] != 0.5)
        truth = labels[known, column] > 0.5
        if truth.any() and not truth.all():
            found.append(average_precision_score(truth, logits[known, column]))
    return float(np.mean(found)) if found else 0.0


class Watch:
    """Judges development rows and remembers what it saw.

    Args:
        examples: Development rows; those of the team and those of the original mixture.
        team: Which of them are the team's, bool, shape (rows,).
        bundle: The bundle the fit begins with.
        anchored: Columns of its labels whose meaning has not changed; they come first in the output.
        before: What the bundle says of the development rows, logits of shape (rows, labels of the bundle).
        spec: Slack of the gates, checks an epoch, patience.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        team: NDArray[np.bool_],
        bundle: Bundle,
        anchored: Sequence[int],
        before: NDArray[np.float32],
        spec: StartSpec,
    ) -> None:
        self.examples, self.checks = examples, list[Check]()
        self._team, self._anchored, self._spec = team, list(anchored), spec
        labels = bundle.meta.labels
        self._calibration = [bundle.meta.calibration[labels[column]] for column in self._anchored]
        self._limits = np.array([bundle.meta.thresholds[DEFAULT_POLICY][labels[column]] for column in self._anchored])
        self._before = self._flags(before)

    def _flags(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """What the bundle's calibration and thresholds flag of the mixture's rows, shape (rows, anchored labels)."""
        return calibrated(logits[~self._team][:, self._anchored], self._calibration) >= self._limits

    def places(self, steps: int) -> frozenset[int]:
        """Steps of an epoch after which the model is judged."""
        return frozenset(math.ceil(steps * number / self._spec.checks) for number in range(1, self._spec.checks + 1))

    def measure(self, done: float, logits: NDArray[np.float32], share: float = 1.0) -> Check:
        """Judge a model by its logits of the development rows, shape (rows, labels).

        Args:
            done: Epochs trained.
            logits: Its logits.
            share: See ``Check``.
        """
        labels, mixture = self.examples.labels, ~self._team
        known = labels[mixture][:, self._anchored]
        # A label of which the mixture knows nothing, such as an earlier team's, does not say which rows are lawful.
        told = (known >= 0).any(axis=0)
        lawful = (known[:, told] == 0).all(axis=1) & told.any()
        flags = self._flags(logits)
        flagged = float(flags[lawful].any(axis=1).mean()) if lawful.any() else 0.0
        moved = float((flags != self._before).any(axis=1).mean()) if len(flags) else 0.0
        kept = mean_precision(logits[mixture], labels[mixture], self._anchored)
        within = True
        if self.checks:
            first = self.checks[0]
            within = (
                flagged <= first.lawful_flagged + self._spec.lawful_slack
                and kept >= first.kept - self._spec.precision_slack
            )
        gain = mean_precision(logits[self._team], labels[self._team], range(labels.shape[1]))
        return Check(done=done, gain=gain, kept=kept, lawful_flagged=flagged, moved=moved, within=within, share=share)

    def note(self, check: Check) -> bool:
        """Remember a check; true when it is the best so far."""
        self.checks.append(check)
        return self.best is check

    @property
    def best(self) -> Check:
        """The check whose state is kept; at worst that of the beginning, but only where none is better at all.

        A state takes the place of the one kept if it moved less at a gain as good as the highest, or if the kept one's
        gain is no longer as good. One that was passed over is gone, and is never the best later.
        """
        first = best = self.checks[0]
        highest = first.gain
        for check in self.checks:
            if not check.within or check.gain <= first.gain:
                continue
            highest = max(highest, check.gain)
            least = highest - self._spec.gain_slack
            if check.gain >= least and (best is first or best.gain < least or check.moved < best.moved):
                best = check
        return best

    @property
    def over(self) -> bool:
        """Whether training has gone on without gain for as long as the recipe allows."""
        return bool(self.checks) and len(self.checks) - 1 - self.checks.index(self.best) >= self._spec.patience

    def check_gain(self) -> None:
        """Refuse a fit that taught nothing within the gates.

        Raises:
            DataError: No state was better than the one of the beginning.
        """
        if self.best is not self.checks[0]:
            return
        outside = sum(not check.within for check in self.checks)
        raise DataError(
            "retrain_no_gain",
            f"In {len(self.checks) - 1} checks no state within the gates was better on the new rows' labels than the "
            f"bundle itself; {outside} were outside the gates: look at fit.jsonl, check the rows with 'fineline labels "
            "clean', or change rates, replay or slack in the recipe.",
        )

    def history(self) -> list[dict[str, Any]]:
        """The checks as plain data."""
        return [asdict(check) for check in self.checks]

    def restore(self, history: Sequence[dict[str, Any]]) -> None:
        """Put ``history`` back."""
        self.checks = [Check(**row) for row in history]
