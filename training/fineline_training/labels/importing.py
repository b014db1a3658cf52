"""An import: files to rows, rows through the data gates and joined with the store, and the dated record of it all."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fineline
from fineline.taxonomy import Label
from fineline_training.labels.joining import Conflict, Joined, join
from fineline_training.labels.reading import FileRows, ReadOptions, read_file
from fineline_training.labels.store import LabelStore
from fineline_training.labels.team_gates import GateOutcome, Placed
from fineline_training.labels.votes import LabelledRow, settled
from fineline_training.records import Refusal

Gates = Callable[[Sequence[Placed]], GateOutcome]
Refused = Sequence[Refusal | Conflict]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What an import is told.

    Attributes:
        rights: ``licence`` and ``basis``, as ``check_rights`` gives them.
        collected_by: Who collected and labelled the texts.
        read: How to read the files.
        own: Own labels that the rows may use, besides those of the store.
    """

    rights: dict[str, str]
    collected_by: str = ""
    read: ReadOptions = field(default_factory=ReadOptions)
    own: tuple[Label, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of an import.

    Attributes:
        path: The dated record.
        record: What it says: ``files`` (name, sha256, rows read, refused, unanswered, recovered), ``new``,
            ``votes_added``, ``repeated``, ``refused`` by reason, ``refusals`` one by one with file and line (0 for what
            concerns the file), ``annotators``, ``languages``, ``sources``, ``labels``, ``gates``, ``own_labels`` with
            digests, ``warnings``. It holds no text.
    """

    path: Path
    record: dict[str, Any]


def label_counts(rows: Iterable[LabelledRow]) -> dict[str, dict[str, int]]:
    """Rows by label: ``positive`` and ``negative`` as settled, and ``disputed``, on which people differ."""
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        record = settled(row)
        for label in {*record.labels, *record.soft}:
            entry = counts.setdefault(label, {"positive": 0, "negative": 0, "disputed": 0})
            if label in record.labels:
                entry["positive" if record.labels[label] else "negative"] += 1
            entry["disputed"] += label in record.soft
    return dict(sorted(counts.items()))


def _warnings(store: LabelStore, rows: Iterable[LabelledRow], redefined: Sequence[str]) -> list[str]:
    counts = label_counts(rows)
    found = []
    for side, mark in (("positive", 1), ("negative", 0)):
        if empty := [label for label, entry in counts.items() if not entry[side]]:
            found.append(f"empty class: no row of the store says {mark} for {', '.join(empty)}; add such rows")
    if unused := [label.id for label in store.own_labels if label.id not in counts]:
        found.append(f"no row of the store knows {', '.join(unused)}")
    if redefined:
        found.append(f"defined anew: {', '.join(redefined)}; earlier rows were labelled by the old definition")
    return found


def _digest(label: Label) -> str:
    return hashlib.sha256(json.dumps(label.as_table(), ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _file_entry(file: FileRows, refused: Refused) -> dict[str, Any]:
    return {
        "name": file.name,
        "sha256": file.sha256,
        "read_as": file.format,
        "rows": len(file.rows) + sum(part.line > 0 for part in file.refused) + file.unanswered,
        "refused": sum(part.file == file.name for part in refused),
        "unanswered": file.unanswered,
        "recovered": file.recovered,
    }


def _record(files: Sequence[FileRows], joined: Joined, refused: Refused, options: ImportOptions) -> dict[str, Any]:
    rows = joined.rows
    return {
        "fineline": fineline.__version__,
        **options.rights,
        "collected_by": options.collected_by,
        "annotator": options.read.annotator,
        "files": [_file_entry(file, refused) for file in files],
        "new": joined.new,
        "votes_added": joined.added,
        "repeated": joined.repeated,
        "refused": dict(sorted(Counter(part.reason for part in refused).items())),
        "refusals": [part._asdict() for part in refused],
        "annotators": dict(sorted(Counter(name for row in rows for name in row.votes).items())),
        "languages": dict(sorted(Counter(row.lang for row in rows).items())),
        "sources": dict(sorted(Counter(row.source for row in rows).items())),
        "labels": label_counts(rows),
    }


def import_files(
    store: LabelStore,
    paths: Sequence[Path],
    options: ImportOptions,
    gates: Gates,
    on_file: Callable[[str], None] = lambda name: None,
) -> Imported:
    """Bring files into a store.

    What is wrong with a row or a file is reported and costs that row, or the file from there on. Nothing is written
    before all is checked.

    Args:
        store: The store.
        paths: The files.
        options: What to know about them.
        gates: Holds rows against the data gates (``check_rows``).
        on_file: Told each file's name before it is read.

    Raises:
        ConfigError: An own label does not fit the taxonomy, or the encoding is none.
        DataError: There is no such file, its ending is none that can be read, a gate stops the import, or another
            command is changing the store.
    """
    ids = store.taxonomy.extended(options.own).ids
    names = Counter(path.name for path in paths)
    files = []
    for path in paths:
        on_file(path.name)
        files.append(read_file(path, ids, options.read, path.name if names[path.name] == 1 else str(path)))
    outcome = gates([placed for file in files for placed in file.rows])
    with store.locked():
        held = store.rows()
        joined = join(outcome.rows, held)
        refused: list[Refusal | Conflict] = [part for file in files for part in file.refused]
        refused = sorted([*refused, *outcome.dropped, *joined.conflicts], key=lambda part: part[:3])
        redefined = store.define(options.own)
        after = {row.id: row for row in (*held, *joined.rows)}
        record = _record(files, joined, refused, options) | {
            "gates": outcome.report,
            "own_labels": {label.id: _digest(label) for label in store.own_labels},
            "warnings": _warnings(store, after.values(), redefined),
            "rows_of_store": len(after),
        }
        return Imported(path=store.add(joined.rows, record), record=record)
