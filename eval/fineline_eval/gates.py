"""Gates: which measures of a report may not get worse, as data, and the floors recorded from the shipped report.

``gates.toml`` is written by people: names of measures and how much they may move. ``floors.json`` is written by
``fineline gates REPORT --record``: for each gated measure the worse end of its interval in the report that shipped.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline.errors import ConfigError
from fineline.files import write_text
from fineline_eval.metrics import Metric

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
        lower_is_better: Metrics (last part of a measure's name) that should be low; all others should be high.
        gate: The gates.
    """

    lower_is_better: tuple[str, ...]
    gate: tuple[Gate, ...]

    def is_lower_better(self, measure: str) -> bool:
        """Whether a measure should be low."""
        return measure.rsplit("/", 1)[-1] in self.lower_is_better

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
        raise ConfigError("floors_syntax", f"{path}: not whole; run 'fineline gates REPORT --record' again.") from None


def record_floors(measures: Mapping[str, Metric], gates: Gates, *, model: str, policy: str, path: Path) -> Floors:
    """Record the floors of all gated measures: the worse end of the interval, the value where there is none.

    Args:
        measures: Measures of the report that ships.
        gates: Which of them are gated.
        model: Model of the report.
        policy: Policy of the report.
        path: File to write.
    """
    floors = {}
    for name, metric in sorted(measures.items()):
        if gates.of(name) is not None and metric.value == metric.value:
            worse = metric.high if gates.is_lower_better(name) else metric.low
            floors[name] = metric.value if worse != worse else worse
    recorded = Floors(model=model, policy=policy, floors=floors)
    write_text(path, json.dumps(asdict(recorded), indent=1) + "\n")
    return recorded


def _bound(gate: Gate, sign: int, floor: float | None) -> float | None:
    """The stricter of floor and limit; ``sign`` is 1 where lower is better, else -1."""
    bounds = [floor + sign * gate.slack] if floor is not None else []
    bounds += [gate.limit] if gate.limit is not None else []
    return sign * min(sign * bound for bound in bounds) if bounds else None


def check_gates(measures: Mapping[str, Metric], gates: Gates, floors: Floors) -> tuple[Failure, ...]:
    """Hold a report's measures to the recorded floors and to the limits.

    Args:
        measures: Measures of the report.
        gates: The gates.
        floors: Floors recorded earlier; a measure without one is held to its gate's limit alone.

    Returns:
        What is beyond its bound or was not measured, and gates that guard nothing.
    """
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
            if value is None and name not in floors.floors:
                continue
            if value is None or (bound is not None and sign * value > sign * bound):
                failures.append(Failure(gate=gate.name, measure=name, value=value, bound=bound))
    return tuple(failures)
