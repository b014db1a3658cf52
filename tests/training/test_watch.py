"""Early stopping: what counts as gain, what is out of bounds, which state is kept, when it is over; the curves."""

import dataclasses
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from fineline.calibration import Calibration
from fineline.errors import DataError
from fineline.policy import DEFAULT_POLICY
from fineline_training.curves import draw_curves
from fineline_training.examples import Examples
from fineline_training.recipe import StartSpec
from fineline_training.watch import Check, Watch, mean_precision

SPEC = StartSpec(checks=4, patience=2, lawful_slack=0.1, precision_slack=0.1, gain_slack=0.01)
OLD = ("insult", "violence")
BUNDLE = SimpleNamespace(
    meta=SimpleNamespace(
        labels=OLD,
        calibration=dict.fromkeys(OLD, Calibration(scale=1.0, shift=0.0)),
        thresholds={DEFAULT_POLICY: dict.fromkeys(OLD, 0.5)},
    )
)
# Four rows of the mixture, of which the first two are lawful; four of the team, which know the third label alone.
LABELS = np.array([[0, 0, -1], [0, 0, -1], [1, 0, -1], [0, 1, -1], *[[-1, -1, m] for m in (1, 1, 0, 0)]], np.float32)
TEAM = np.array([False] * 4 + [True] * 4)


def watch(spec: StartSpec = SPEC, labels: np.ndarray = LABELS) -> Watch:
    none = np.zeros(labels.shape, dtype=np.bool_)
    examples = Examples(windows=[], labels=labels, any_of=none, pairs=np.full(len(labels), -1))
    before = logits([0, 0, 0, 0])[:, :2]
    return Watch(examples, team=TEAM, bundle=BUNDLE, anchored=[0, 1], before=before, spec=spec)


def logits(new: list[float], lawful: float = -5.0, insult: float = 5.0) -> np.ndarray:
    table = np.full((8, 3), -5.0, dtype=np.float32)
    table[0, 0] = lawful
    table[2, 0], table[3, 1] = insult, 5.0
    table[4:, 2] = new
    return table


def test_a_check_tells_gain_what_is_kept_and_lawful_text_flagged():
    found = watch().measure(0.5, logits([3, -1, 1, -2]))
    gain = pytest.approx((1 + 2 / 3) / 2)
    assert found == Check(done=0.5, gain=gain, kept=1.0, lawful_flagged=0.0, moved=0.0, within=True)
    worse = watch().measure(0.5, logits([3, 2, 1, 0], lawful=5.0, insult=-4.0))
    assert worse.gain == 1.0
    assert worse.lawful_flagged == 0.5
    assert worse.moved == 0.5
    assert worse.kept == pytest.approx((0.5 + 1) / 2)


def test_a_label_that_the_mixture_does_not_know_hides_no_lawful_row():
    labels = LABELS.copy()
    labels[:4, 1] = -1
    assert watch(labels=labels).measure(0.5, logits([3, -1, 1, -2], lawful=5.0)).lawful_flagged == pytest.approx(2 / 3)


@pytest.mark.parametrize("outside", [{"lawful": 5.0}, {"insult": -6.0}])
def test_a_better_state_outside_the_gates_is_not_kept(outside):
    seen = watch()
    assert seen.note(seen.measure(0, logits([0, 1, 2, 3])))
    assert not seen.note(seen.measure(1, logits([3, 2, 1, 0], **outside)))
    assert not seen.checks[1].within
    assert seen.best is seen.checks[0]
    assert seen.note(seen.measure(2, logits([3, 1, 2, 0])))
    assert seen.best is seen.checks[2]


def test_of_equal_states_the_first_is_kept_and_patience_ends():
    seen = watch()
    assert not seen.over
    for new, better, over in (
        ([0, 1, 2, 3], True, False),
        ([3, 2, 1, 0], True, False),
        ([9, 8, 1, 0], False, False),
        ([9, 8, 1, 0], False, True),
    ):
        assert seen.note(seen.measure(0, logits(new))) is better
        assert seen.over is over


def test_of_states_as_good_as_the_best_the_one_that_moved_least_is_kept():
    def check(gain: float, moved: float, within: bool = True) -> Check:
        return Check(done=0.0, gain=gain, kept=1.0, lawful_flagged=0.0, moved=moved, within=within)

    states = [check(0.5, 0.0), check(0.965, 0.02), check(0.975, 0.05), check(0.98, 0.2), check(0.98, 0.0, within=False)]
    seen = watch()
    for state in (*states, check(0.972, 0.04)):
        seen.note(state)
    assert seen.best is seen.checks[-1], "0.965 is more than the slack below 0.98, 0.98 moved more"
    small = watch()
    for state in (check(0.97, 0.0), check(0.974, 0.3)):
        small.note(state)
    assert small.best is small.checks[1], "any gain is better than none"


@pytest.mark.parametrize("gains", [(0.5, 0.97, 0.975, 0.985), (0.5, 0.97, 0.985, 0.975, 0.99, 0.4)])
@pytest.mark.parametrize("moved", [(0.0, 0.02, 0.1, 0.2, 0.05, 0.01), (0.0, 0.2, 0.1, 0.02, 0.3, 0.0)])
def test_what_is_best_was_best_when_it_was_seen(gains, moved):
    """The fit keeps the weights of a check only when it is told to: no other check may be called the best later."""
    seen, kept = watch(), []
    for gain, share in zip(gains, moved, strict=False):
        if seen.note(Check(done=0.0, gain=gain, kept=1.0, lawful_flagged=0.0, moved=share, within=True)):
            kept = [seen.checks[-1]]
        assert seen.best is kept[0]


def test_the_history_can_be_put_back():
    seen, again = watch(), watch()
    for new in ([0, 1, 2, 3], [3, 2, 1, 0]):
        seen.note(seen.measure(0.25, logits(new)))
    again.restore(seen.history())
    assert again.checks == seen.checks
    assert again.best == seen.best


def test_a_fit_that_taught_nothing_is_refused():
    seen = watch()
    for new in ([3, 2, 1, 0], [3, 1, 2, 0]):
        seen.note(seen.measure(0, logits(new)))
    with pytest.raises(DataError, match="In 1 checks no state within the gates was better") as caught:
        seen.check_gain()
    assert caught.value.code == "retrain_no_gain"
    better = watch()
    for new in ([3, 1, 2, 0], [3, 2, 1, 0]):
        better.note(better.measure(0, logits(new)))
    better.check_gain()


@pytest.mark.parametrize("steps", [1, 3, 4, 37, 100])
def test_checks_are_spread_over_an_epoch_and_one_is_at_its_end(steps):
    places = sorted(watch().places(steps))
    assert places[-1] == steps
    assert len(places) == min(4, steps)
    assert max(b - a for a, b in zip([0, *places], places, strict=False)) <= steps // 4 + 1


def test_shares_count_as_the_majority_and_ties_not_at_all():
    labels = np.array([[1.0], [0.7], [0.3], [0.0], [0.5], [-1.0]], dtype=np.float32)
    scores = np.array([[4.0], [3.0], [2.0], [1.0], [9.0], [9.0]], dtype=np.float32)
    assert mean_precision(scores, labels, [0]) == 1.0
    assert mean_precision(-scores, labels, [0]) < 0.6
    assert mean_precision(scores, np.ones_like(labels), [0]) == 0.0


def test_curves_show_every_check_and_the_state_that_was_kept():
    checks = [
        Check(done=0.5 * i, gain=0.1 * i, kept=0.9 - 0.01 * i, lawful_flagged=0.03, moved=0.0, within=i != 3)
        for i in range(4)
    ]
    svg = draw_curves(checks, checks[2])
    ElementTree.fromstring(svg)
    assert svg == draw_curves(checks, checks[2])
    assert svg.count('class="in"') == 9
    assert svg.count('class="out"') == 3
    assert svg.count('class="kept"') == 3
    assert "the state after 1 epochs was kept." in svg
    between = dataclasses.replace(checks[2], share=0.25)
    both = draw_curves([*checks, between], between)
    assert "the state after 1 epochs was kept, 25 % of the encoder's way." in both
    assert both.count("<circle") == 15
    assert [line for line in both.splitlines() if "polyline" in line] == [
        line for line in svg.splitlines() if "polyline" in line
    ], "the line goes through the states that were trained"
    ElementTree.fromstring(draw_curves(checks[:1], checks[0]))
    assert draw_curves([dataclasses.replace(c, gain=0.2) for c in checks], checks[2]) != svg
