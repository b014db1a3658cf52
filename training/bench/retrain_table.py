"""The retraining benchmark's JSON as Markdown."""

from collections.abc import Iterator, Sequence
from typing import Any

from retrain_sets import CASES


def _metric(value: dict[str, Any]) -> str:
    return f"{100 * value['value']:.1f} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _pipe(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _sizes(result: dict[str, Any]) -> Iterator[str]:
    sizes = {count: result["sizes"][count] for count in sorted(result["sizes"], key=int)}
    header = ("", *(f"{int(count):,} new rows" for count in sizes))
    stations = max((list(one["stations"]) for one in sizes.values()), key=len)
    rows = [
        ("minutes, import to card", *(f"{one['minutes']:.1f}" for one in sizes.values())),
        ("seconds of import", *(f"{one['import_seconds']:.0f}" for one in sizes.values())),
        *((f"minutes, {name}", *(_minutes(one["stations"].get(name)) for one in sizes.values())) for name in stations),
    ]
    for name, metric in (("average precision", "average_precision"), ("F1", "f1")):
        if "before" in result:
            rows.append(
                (f"new label, {name}, before (any label's score)", *[_metric(result["before"][metric])] * len(sizes))
            )
        rows.append((f"new label, {name}, after", *(_metric(one["label"][metric]) for one in sizes.values())))
    rows += [
        ("lawful authored text it flags", *(_metric(one["label"]["elsewhere"]) for one in sizes.values())),
        *(
            (f"gated slices {name}", *(str(one["changes"][name]) for one in sizes.values()))
            for name in ("gated", "worse", "better", "undecided")
        ),
        ("beyond chance or floor", *(str(len(one["changes"]["failures"])) for one in sizes.values())),
    ]
    yield _pipe(header, rows)
    for count, one in sizes.items():
        if one["changes"]["failures"]:
            yield f"{int(count):,} rows, failed: " + "; ".join(one["changes"]["failures"])


def _kills(found: dict[str, Any]) -> Iterator[str]:
    rows = [(kill["station"], f"{kill['after_seconds']:.1f}", kill["hit"] or "over") for kill in found["kills"]]
    yield _pipe(("kill -9 aimed at", "after, s", "hit"), rows)
    names = ", ".join(found["different"])
    yield f"Files that differ from the run that nobody killed: {names or 'none'} (times left out)."


def _noise(found: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{found['wrong']:,} of {found['rows']:,} labels turned round: {100 * found['found_in_first']:.0f} % of them "
        f"are in the first {100 * found['first_share']:.0f} % of the ranking; of {found['issues']:,} estimated errors "
        f"{100 * found['issues_that_are']:.0f} % are."
    )
    rows = [(name, _metric(found[name]["ap"]), _metric(found[name]["f1"])) for name in CASES if name in found]
    if rows:
        yield _pipe(("labels", "average precision", "F1"), rows)


def table(result: dict[str, Any]) -> str:
    """The Markdown of what is measured so far."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    parts = [
        f"{result['asked']['bundle']} and the label `vulgar` on {machine['cores']} cores of {machine['cpu']} (load "
        f"{machine['load_before'][0]:.1f} before); {versions}. In percent, with 95 % intervals."
    ]
    for name, of in (("sizes", lambda _: _sizes(result)), ("kills", _kills), ("noise", _noise)):
        if result.get(name):
            parts += of(result[name])
    return "\n\n".join(parts) + "\n"
