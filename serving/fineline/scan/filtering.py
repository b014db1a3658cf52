"""Kept and dropped sets from decisions: the user's own rows, all columns, in the format and order of the input."""

import heapq
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from fineline.errors import InputError
from fineline.policy import DEFAULT_POLICY, Action
from fineline.scan.decide import Rule, read_decided, read_manifest, read_rule
from fineline.scan.documents import open_writer, read_rows
from fineline.scan.inputs import InputFile, list_inputs
from fineline.scan.store import Store

REASON = "fineline_reason"

Outcome = tuple[int, int, str | None]
"""Number of the file, of the row in it, and why the row is dropped."""


@dataclass(kw_only=True)
class Filtered:
    """What ``filter_rows`` did.

    Attributes:
        kept: Rows kept.
        dropped: Rows dropped, rows without a text among them.
        unreadable: Rows that could not be parsed and so cannot be written; the rejects name them.
    """

    kept: int = 0
    dropped: int = 0
    unreadable: int = 0


def scanned_inputs(store: Store, inputs: str | None) -> tuple[InputFile, ...]:
    """The input files of a scan, in the order of their numbers.

    Args:
        store: The output of the scan.
        inputs: Where they stand now, if they were moved.

    Raises:
        InputError: There are other files there than were scanned.
    """
    entries = read_manifest(store)["inputs"]
    if inputs is None:
        return tuple(InputFile(url=e["url"], format=e["format"], bytes=e["bytes"]) for e in entries)
    files = list_inputs(inputs)
    if [(file.format, file.bytes) for file in files] != [(entry["format"], entry["bytes"]) for entry in entries]:
        raise InputError("inputs_changed", f"{inputs}: not the files that {store.output} scanned; give those.")
    return files


def filter_rows(
    output: str, *, decisions: str = DEFAULT_POLICY, inputs: str | None = None, drop: Action = Action.REVIEW
) -> Filtered:
    """Write ``OUTPUT/kept`` and ``OUTPUT/dropped``; a dropped row gains ``fineline_reason``.

    A row without a text to judge is dropped too: nothing is known about it.

    Args:
        output: Output folder of a finished scan with decisions.
        decisions: Their name.
        inputs: Where the inputs stand now, if they were moved.
        drop: Mildest action that drops a row.

    Raises:
        InputError: There are no such decisions, or the inputs are not those that were scanned.
    """
    if drop is Action.ALLOW:
        raise InputError("filter_action", "A filter drops from 'review' or from 'block' on; 'allow' would drop all.")
    store = Store(output)
    files = scanned_inputs(store, inputs)
    outcomes = _outcomes(store, read_rule(store, decisions), drop)
    done = Filtered()
    names = _names(files)
    for number, file in enumerate(files):
        _filter_file(store, file, number, names[number], outcomes, done)
    if next(outcomes, None) is not None:
        raise _changed(files[-1])
    return done


def _changed(file: InputFile) -> InputError:
    return InputError("inputs_changed", f"{file.url}: has other rows than were scanned; scan it again.")


def _filter_file(
    store: Store, file: InputFile, number: int, name: str, outcomes: Iterator[Outcome], done: Filtered
) -> None:
    base = store.output.rstrip("/")
    with open_writer(f"{base}/kept/{name}", file) as kept, open_writer(f"{base}/dropped/{name}", file) as dropped:
        for place, row in enumerate(read_rows(file)):
            outcome = next(outcomes, None)
            if outcome is None or outcome[:2] != (number, place):
                raise _changed(file)
            reason = outcome[2]
            if row is None:
                done.unreadable += 1
            elif reason is None:
                kept.write(row)
                done.kept += 1
            else:
                dropped.write(row | {REASON: reason})
                done.dropped += 1


def _names(files: tuple[InputFile, ...]) -> list[str]:
    """Paths of the files below the folder that holds them all."""
    top = posixpath.commonpath([posixpath.dirname(file.url) for file in files])
    return [posixpath.relpath(file.url, top) for file in files]


def _outcomes(store: Store, rule: Rule, drop: Action) -> Iterator[Outcome]:
    """One for each row of the input, in order."""
    rejected = ((entry["file"], entry["row"], f"not judged: {entry['reason']}") for entry in store.rejects())
    return heapq.merge(_judged(store, rule, drop), rejected)


def _judged(store: Store, rule: Rule, drop: Action) -> Iterator[Outcome]:
    severity = list(map(str, Action))
    dropping = set(severity[severity.index(str(drop)) :])
    for _, table in read_decided(store, rule):
        columns = (table[name].to_pylist() for name in ("file", "row", "action", "flagged"))
        for file, row, action, flagged in zip(*columns, strict=True):
            yield file, row, f"{action}: {', '.join(flagged)}" if action in dropping else None
