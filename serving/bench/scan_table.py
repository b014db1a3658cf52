"""The scan benchmark's JSON as a table in ``serving/README.md``.

python serving/bench/scan_table.py serving/bench/scan.json serving/README.md
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fineline.files import write_text

BEGIN, END = "<!-- scan:begin (written by serving/bench/scan_table.py) -->", "<!-- scan:end -->"


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _mega(one: dict[str, Any]) -> str:
    return f"{one['memory_peak'] / 1e6:,.0f}"


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for kind in ("short", "long"):
        if one := found.get(kind):
            rates = (_amount(one[f"{unit}_per_second"]) for unit in ("documents", "tokens"))
            speed = "{} documents, {} tokens a second".format(*rates)
            yield f"{one['documents']:,} {kind} documents, {one['tokens']:,} tokens", speed, ""
            quarters = ", ".join(f"{value / 1e6:,.0f}" for value in one["memory_quarters"])
            yield (
                f"the same: memory of all processes in each quarter of the time, MB (most: {_mega(one)})",
                quarters,
                "",
            )
    for key, entry in found["engines"].items():
        rate = f"{_amount(entry['documents_per_second'])} documents a second"
        yield f"{entry['documents']:,} short documents, engine and workers: {key}", rate, ""
    targets = found["targets"]
    best = max(found["pipeline"].values())
    sizes = " and ".join(found["pipeline"])
    yield (
        f"`transformers` pipeline under `datasets.map`, same weights in fp32, the better of batches of {sizes} "
        f"({found['sizes']['piped']:,} documents)",
        f"{_amount(best)} documents a second",
        _verdict(targets["over_pipeline"], "times as fast, target {:g}"),
    )
    yield (
        "one `Classifier` in process with all cores",
        f"{_amount(found['in_process'])} documents a second",
        _verdict(targets["of_in_process"], "of its rate, target {:g}"),
    )
    for name, target in targets.items():
        if name.startswith("ray_of_local") and target["found"]:
            title = f"Ray against local, workers: {name.split()[1]}; the start of the cluster counted"
            yield title, "", _verdict(target, "of its rate, target {:g}")
    memory = targets["memory_bytes"]
    giga = {**memory, "found": memory["found"] / 1e9, "target": memory["target"] / 1e9}
    yield "memory of all processes", "", _verdict(giga, "GB, target {:g}")
    resume = found["resume"]
    moments = ", ".join(f"{kill['second']:g} s" for kill in resume["killed_at"])
    outcome = "identical" if resume["identical"] else "DIFFERENT"
    yield f"killed with SIGKILL after {moments} and started again", f"{resume['files']} files {outcome}", ""
    yield "a billion short documents", f"{found['billion']['cost']:,.0f} at the assumed price", found["billion"]["sums"]


def _verdict(target: dict[str, Any], words: str) -> str:
    return f"{target['found']:.3g} {words.format(target['target'])}: {'met' if target['met'] else 'missed'}"


def table(found: dict[str, Any]) -> str:
    """The Markdown between the markers."""
    machine, sampled = found["machine"], found["sampled"]
    mix = ", ".join(f"{100 * share:g} % of {low} to {high}" for low, high, share in sampled["lengths"])
    low, high = sampled["long_characters"]
    lines = [
        f"{found['bundle']['model']} on {machine['cores']} cores of {machine['cpu']}, ONNX Runtime "
        f"{machine['versions']['onnxruntime']}; one run each. Short documents have {mix} characters, "
        f"long ones {low:,} to {high:,}.",
        "",
        "| what | measured | against the target |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in _rows(found)),
    ]
    return "\n".join(lines)


def with_table(text: str, found: dict[str, Any]) -> str:
    """A document with the table of ``found`` between its markers."""
    inside = f"{BEGIN}\n{table(found)}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: inside, text, flags=re.DOTALL)


def main(
    source: Annotated[Path, typer.Argument(help="JSON of scan_bench.py.")],
    document: Annotated[Path, typer.Argument(help="Markdown with the markers.")],
) -> None:
    """Write the table."""
    write_text(document, with_table(document.read_text(encoding="utf-8"), json.loads(source.read_text())))


if __name__ == "__main__":
    typer.run(main)
