"""The JSON of faults and soak as tables in ``serving/README.md``.

python serving/bench/serve_fault_table.py serving/README.md --faults serving/bench/serve_faults.json \
    --soak serving/bench/serve_soak.json
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fineline.files import write_text
from serve_table import replaced

_BY = "(written by serving/bench/serve_fault_table.py) -->"
FAULTS, SOAK = ((f"<!-- {name}:begin {_BY}", f"<!-- {name}:end -->") for name in ("faults", "soak"))
_OUTCOMES = {
    "right": "right",
    "refused": "asked to come again",
    "left": "left by their client",
    "unreachable": "not sent, nobody listened",
    "lost": "lost",
    "mixed_up": "of another",
    "wrong": "wrong",
}
_HELD = {
    "every_answer_right_or_asked_to_come_again": "every answer right, or asked to come again",
    "server_counted_the_same": "the server counted as many requests as were sent",
    "memory_flat": "memory flat",
    "files_held": "no more open files in the second half",
    "threads_held": "no more threads in the second half",
    "reloads_done": "every reload done",
    "nothing_left": "nothing left in the server at the end",
}


def _outcomes(found: Mapping[str, int]) -> str:
    return ", ".join(f"{found[name]:,} {words}" for name, words in _OUTCOMES.items() if found.get(name))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{count} times {name}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, dict.fromkeys(value)))
    return str(value)


def _fault_row(found: Mapping[str, Any]) -> tuple[str, ...]:
    if "not_injected" in found:
        return found["done"], found["not_injected"], "", "", "not injected"
    seen = [f"{name.replace('_', ' ')} {_value(value)}" for name, value in found["seen"].items()]
    seen += [f"over after {found['recovered_seconds']} s"] if found["recovered_seconds"] is not None else []
    load, memory = found["load"], found["memory"]
    slowest = load["slowest_right_ms"]
    answers = _outcomes(load["outcomes"]) + (f"; slowest {slowest:,.0f} ms" if slowest is not None else "")
    verdict = "survived" if found["survived"] else f"not survived: {', '.join(found['broken'])}"
    megabytes = f"{memory['before'] / 1e6:,.0f} to {memory['after'] / 1e6:,.0f} MB"
    return found["done"], "; ".join(seen), answers, megabytes, verdict


def fault_table(found: Mapping[str, Any]) -> str:
    """The Markdown between the markers of the faults."""
    asked = found["asked"]
    lines = [
        f"{asked['model']} on {asked['cores']} cores, {asked['rate']:g} mixed requests a second beside each fault.",
        "",
        "| what was done | what was seen | answers to the load | memory | |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {' | '.join(_fault_row(one))} |" for one in found["faults"].values()),
    ]
    return "\n".join(lines)


def _soak_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    requests, trend = found["requests"], found["memory"]["trend"]
    yield f"{requests['sent']:,} requests", _outcomes(requests["outcomes"])
    kinds = (f"{kind} {one['sent']:,}" for kind, one in requests["kinds"].items())
    yield "of these", ", ".join(kinds)
    yield "counted by the server", f"{found['counted_by_server']:,}"
    if trend["megabytes_an_hour"] is not None:
        interval = f"{trend['low']:+.1f} to {trend['high']:+.1f}"
        yield "change of resident memory", f"{trend['megabytes_an_hour']:+.1f} MB an hour (95 %: {interval})"
        blocks = ", ".join(f"{block:,.0f}" for block in trend["blocks"])
        yield "median of each tenth of the last three quarters, MB", blocks
    for name in ("files", "threads"):
        yield f"most open {name}" if name == "files" else "most threads", " then ".join(map(str, found[name].values()))
    reloads = found["reloads"]
    by = ", ".join(f"{count} by {name}" for name, count in reloads["by"].items())
    yield "hot reloads", f"{reloads['done']} of {reloads['asked']} ({by})"
    for name, words in _HELD.items():
        held = found["held"][name]
        yield words, "too few samples" if held is None else "yes" if held else "no"


def soak_table(found: Mapping[str, Any]) -> str:
    """The Markdown between the markers of the soak."""
    asked = found["asked"]
    lines = [
        f"{asked['model']} on {asked['cores']} cores, {asked['seconds'] / 60:g} minutes of {asked['rate']:g} mixed "
        f"requests a second, a hot reload every {asked['reload_every']:g} s.",
        "",
        "| what | seen |",
        "| --- | --- |",
        *(f"| {' | '.join(row)} |" for row in _soak_rows(found)),
    ]
    return "\n".join(lines)


def main(
    document: Annotated[Path, typer.Argument(help="Markdown with the markers.")],
    faults: Annotated[Path | None, typer.Option(help="JSON of serve_faults.py.")] = None,
    soak: Annotated[Path | None, typer.Option(help="JSON of serve_soak.py.")] = None,
) -> None:
    """Write the tables."""
    text = document.read_text(encoding="utf-8")
    if faults:
        text = replaced(text, *FAULTS, fault_table(json.loads(faults.read_text(encoding="utf-8"))))
    if soak:
        text = replaced(text, *SOAK, soak_table(json.loads(soak.read_text(encoding="utf-8"))))
    write_text(document, text)


if __name__ == "__main__":
    typer.run(main)
