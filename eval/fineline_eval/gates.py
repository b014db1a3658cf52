"""Gates: which measures of a report may not get worse, as data, and the floors recorded from the shipped report.

``gates.toml`` is written by people: names of measures and how much they may move. ``floors.json`` is written by
``fineline gates REPORT --record``: for each gated measure the worse end of its interval in the report that shipped, or
the stricter floor of an earlier one. Without that, each release could be half an interval worse than the last.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline.errors import ConfigError
from fineline.files import write_text
from fineline_eval.metrics import SMALL_CELL, Metric

GATES_FILE = Path(__file__).with_name("gates.toml")
FLOORS_FILE = Path(__file__).with_name("floors.json")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One gate.

    Attributes:
        name: What it guards.
        why: The reason, in a sentence.
        measures: Names of measures; ``*`` stands for any characters.
        slack: How far beyond its floor a measure may be: what differs between machines and builds.
        limit: A bound that holds whatever was shipped before.
    """

    name: str
    why: str
    measures: tuple[str, ...]
    slack: float = 0.0
    limit: float | None = None

    def holds(self, measure: str) -> bool:
        """Whether the gate guards a measure."""
        return any(fnmatchcase(measure, pattern) for pattern in self.measures)


@dataclass(frozen=True, kw_only=True)
class Gates:
    """Content of ``gates.toml``.

    Attributes:
        lower_is_better: Metrics (last part of a measure's name) that should be low.
        higher_is_better: Metrics that should be high.
        gate: The gates.
    """

    lower_is_better: tuple[str, ...]
    higher_is_better: tuple[str, ...]
    gate: tuple[Gate, ...]

    def is_lower_better(self, measure: str) -> bool:
        """Whether a measure should be low.

        Raises:
            ConfigError: The gates do not say.
        """
        metric = measure.rsplit("/", 1)[-1]
        if metric not in (*self.lower_is_better, *self.higher_is_better):
            raise ConfigError(
                "gates_metric", f"{measure}: name '{metric}' in lower_is_better or higher_is_better of the gates file."
            )
        return metric in self.lower_is_better

    def of(self, measure: str) -> Gate | None:
        """The gate that guards a measure, or ``None``."""
        return next((gate for gate in self.gate if gate.holds(measure)), None)


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Content of ``floors.json``.

    Attributes:
        model: Model of the report it was recorded from.
        policy: Its policy.
        floors: Measure to the worse end of its interval.
    """

    model: str
    policy: str
    floors: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A gated measure that is beyond its bound.

    Attributes:
        gate: Name of the gate.
        measure: Name of the measure.
        value: What the report has; ``None`` where it was not measured.
        bound: What it had to reach, or stay under; ``None`` where a gate guards no measure at all.
    """

    gate: str
    measure: str
    value: float | None
    bound: float | None

    def __str__(self) -> str:
        if self.bound is None:
            return f"{self.gate}: no measure {self.measure} in the report or the floors"
        found = "was not measured" if self.value is None else f"is {self.value:.4f}"
        return f"{self.gate}: {self.measure} {found}, bound {self.bound:.4f}"


@cache
def load_gates(path: Path = GATES_FILE) -> Gates:
    """Read a gates file.

    Raises:
        ConfigError: It is missing, or a key is unknown.
    """
    return build(Gates, read_toml(path), path.name)


def read_floors(path: Path = FLOORS_FILE) -> Floors:
    """Read recorded floors.

    Raises:
        ConfigError: There are none, or the file is truncated.
    """
    try:
        return build(Floors, json.loads(path.read_text(encoding="utf-8")), path.name)
    except FileNotFoundError:
        raise ConfigError("floors_missing", f"{path}: no floors here; run 'fineline gates REPORT --record'.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ConfigError(
            "floors_syntax", f"{path}: not whole; put it back, or run 'fineline gates REPORT --record --loosen'."
        ) from None


def record_floors(measures: Mapping[str, Metric], gates: Gates, *, model: str, policy: str) -> Floors:
    """Floors of all gated measures: the worse end of the interval, the value where there is none.

    A measure with an interval of fewer than ``SMALL_CELL`` rows gets no floor: its worse end would hold nothing.

    Args:
        measures: Measures of the report that ships.
        gates: Which of them are gated.
        model: Model of the report.
        policy: Policy of the report.
    """
    floors = {}
    for name, metric in sorted(measures.items()):
        if gates.of(name) is not None and metric.value == metric.value:
            worse = metric.high if gates.is_lower_better(name) else metric.low
            if worse == worse and metric.n < SMALL_CELL:
                continue
            floors[name] = metric.value if worse != worse else worse
    return Floors(model=model, policy=policy, floors=floors)


def loosened(old: Floors, new: Floors, gates: Gates) -> dict[str, float]:
    """Gated floors that new ones would make laxer, or leave out: measure to the old floor.

    Raises:
        ConfigError: They are of different policies.
    """
    check_policy(old, new.policy)
    gated = {name: floor for name, floor in old.floors.items() if gates.of(name) is not None}
    found = {}
    for name, floor in gated.items():
        sign = 1 if gates.is_lower_better(name) else -1
        if name not in new.floors or sign * new.floors[name] > sign * floor:
            found[name] = floor
    return found


def write_floors(floors: Floors, path: Path) -> None:
    """Write floors as JSON."""
    write_text(path, json.dumps(asdict(floors) | {"floors": dict(sorted(floors.floors.items()))}, indent=1) + "\n")


def check_policy(floors: Floors, policy: str) -> None:
    """Refuse floors of another policy, whose thresholds decide otherwise.

    Raises:
        ConfigError: They are of another policy.
    """
    if floors.policy != policy:
        raise ConfigError(
            "gates_policy",
            f"The floors are of policy '{floors.policy}', the report of '{policy}'; compare like with like.",
        )


def excused(failure: Failure, old: Mapping[str, Metric], missed: Collection[Failure], gates: Gates) -> bool:
    """Whether a comparison of what both sides judged has nothing to hold against the newer one.

    Args:
        failure: Of the newer report.
        old: Measures of the older one.
        missed: Its failures.
        gates: The gates.

    Returns:
        True for what the older side did not measure either, and for a bound that it misses as far, within the slack.
    """
    known = old.get(failure.measure)
    if known is None or known.value != known.value:
        return failure.value is None
    gate = gates.of(failure.measure)
    if failure.value is None or gate is None or failure.measure not in {other.measure for other in missed}:
        return False
    sign = 1 if gates.is_lower_better(failure.measure) else -1
    return sign * failure.value <= sign * known.value + gate.slack


def _bound(gate: Gate, sign: int, floor: float | None) -> float | None:
    """The stricter of floor and limit; ``sign`` is 1 where lower is better, else -1."""
    bounds = [floor + sign * gate.slack] if floor is not None else []
    bounds += [gate.limit] if gate.limit is not None else []
    return sign * min(sign * bound for bound in bounds) if bounds else None


def check_gates(measures: Mapping[str, Metric], gates: Gates, floors: Floors, *, policy: str) -> tuple[Failure, ...]:
    """Hold a report's measures to the recorded floors and to the limits.

    Args:
        measures: Measures of the report.
        gates: The gates.
        floors: Floors recorded earlier; a measure without one is held to its gate's limit alone.
        policy: Policy of the report.

    Returns:
        What is beyond its bound or was not measured, and gates that guard nothing.

    Raises:
        ConfigError: The floors are of another policy.
    """
    check_policy(floors, policy)
    failures = []
    names = sorted(set(measures) | set(floors.floors))
    for gate in gates.gate:
        guarded = [name for name in names if gates.of(name) is gate]
        if not guarded:
            failures.append(Failure(gate=gate.name, measure=", ".join(gate.measures), value=None, bound=None))
        for name in guarded:
            sign = 1 if gates.is_lower_better(name) else -1
            bound = _bound(gate, sign, floors.floors.get(name))
            metric = measures.get(name)
            value = metric.value if metric is not None and metric.value == metric.value else None
            if value is None and bound is None:
                continue
            if value is None or (bound is not None and sign * value > sign * bound):
                failures.append(Failure(gate=gate.name, measure=name, value=value, bound=bound))
    return tuple(failures)
