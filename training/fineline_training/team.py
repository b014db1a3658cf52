"""A team's rows on their way into a fit: settled, proved against the gates, split, and counted.

Data gates acted when the rows were imported. Here they prove that nothing slipped in since, as they do for public
sources; a row that fails stops the run. A single file is imported first, so that there is one road and one record.
"""

import hashlib
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fineline.errors import ConfigError, DataError
from fineline.files import sha256_of
from fineline.taxonomy import Label
from fineline_training.labels.importing import ImportOptions, import_files
from fineline_training.labels.store import ROWS, LabelStore
from fineline_training.labels.team_gates import Placed, check_rights, check_rows
from fineline_training.labels.votes import settled
from fineline_training.leakage import cached_key
from fineline_training.recipe import StartSpec
from fineline_training.records import Record

TEAM = "team"
"""Source id of a team's rows in a run, whatever they are called in the store."""
HELD = "test"
LEAST = 20
"""Rows of each verdict that a new label needs: with fewer, those held back would judge nothing."""


@dataclass(frozen=True, kw_only=True)
class TeamRows:
    """A team's rows, and what the manifest says of them.

    Attributes:
        records: The rows that teach something, each with its split.
        report: Plain data: counts, languages, labels, imports. No texts.
    """

    records: tuple[Record, ...]
    report: dict[str, Any]


def open_labels(
    path: Path,
    folder: Path,
    *,
    licence: str,
    basis: str,
    own: Sequence[Label],
    tell: Callable[[str], None],
) -> LabelStore:
    """The store to train on.

    Args:
        path: A store, or a file that is imported into a store in the run folder, once; another content, other rights
            or own labels make another store.
        folder: The run folder.
        licence: Licence of the texts of a file.
        basis: Legal basis for using them.
        own: Own labels that the file may name.
        tell: Called with each row of the file that was refused, and why.

    Raises:
        ConfigError: Options for a file were given with a store.
        DataError: Rights are missing, or the store or file cannot be read.
    """
    if path.is_dir():
        if licence or basis:
            raise ConfigError(
                "train_rights", "--licence and --basis are for a file; a store holds those of its imports."
            )
        return LabelStore.open(path)
    rights = check_rights(licence, basis)
    digest = sha256_of(path) if path.is_file() else "missing"
    told = json.dumps([digest, rights, [label.as_table() for label in own]], sort_keys=True)
    where = folder / f"store-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
    store = LabelStore.open(where, create=True)
    imports = store.imports()
    # The record is written before the rows, and a kill may come between.
    if not imports or len(store.rows()) != imports[-1]["rows_of_store"]:
        shutil.rmtree(where, ignore_errors=True)
        store = LabelStore.open(where, create=True)
        import_files(store, [path], ImportOptions(rights=rights, own=tuple(own)), check_rows)
    for refusal in store.imports()[-1]["refusals"]:
        tell(f"refused: {refusal['file']} line {refusal['line']}: {refusal['reason']}")
    return store


def read_team(store: LabelStore, spec: StartSpec, *, learned: Collection[str]) -> TeamRows:
    """Read a store.

    Args:
        store: The team's label store.
        spec: Shares to hold back.
        learned: Labels that the start bundle does not have, or that are defined anew.

    Raises:
        DataError: A gate is not passed, a label has too few rows to be learned, or a split is left without rows.
    """
    rows = store.rows()
    gated = check_rows([Placed(ROWS, line, row) for line, row in enumerate(rows, 1)])
    if gated.dropped:
        first = gated.dropped[0]
        raise DataError(
            "team_gate",
            f"{first.file}: line {first.line}: {first.reason}; take the row out of {store.path} and run again.",
        )
    found = [(row.split, replace(settled(row), source=TEAM, meta={"id": row.id})) for row in rows]
    known = [(split, record) for split, record in found if record.labels or record.soft]
    records = assign_splits([record for _, record in known], [split for split, _ in known], spec)
    labels = _counts(records)
    _check_enough(labels, learned)
    if lacking := [split for split in ("train", "dev", HELD) if all(record.split != split for record in records)]:
        raise DataError("team_split", f"No row is left for '{lacking[0]}'; name other rows 'split', or name none.")
    _check_judged(records, learned)
    report = {
        "rows": len(rows),
        "undecided": len(rows) - len(records),
        "digest": store.digest(),
        "splits": dict(sorted(Counter(record.split for record in records).items())),
        "languages": dict(Counter(record.lang for record in records).most_common()),
        "labels": labels,
        "disagreed": sum(bool(record.soft) for record in records),
        "imports": [_import(entry) for entry in store.imports()],
        "gates": gated.report["gates"],
    }
    return TeamRows(records=tuple(records), report=report)


def _import(entry: dict[str, Any]) -> dict[str, Any]:
    """What a card says of an import: rights and size, and neither file names nor people."""
    return {key: entry[key] for key in ("import", "at", "licence", "basis", "new") if key in entry}


def _counts(records: Sequence[Record]) -> dict[str, dict[str, int]]:
    yes = Counter(label for record in records for label, value in record.labels.items() if value)
    known = Counter(label for record in records for label in record.labels)
    return {label: {"positive": yes[label], "negative": known[label] - yes[label]} for label in sorted(known)}


def _check_enough(labels: dict[str, dict[str, int]], learned: Collection[str]) -> None:
    for label in sorted(learned):
        counts = labels.get(label, {"positive": 0, "negative": 0})
        if min(counts.values()) < LEAST:
            raise DataError(
                "team_too_few",
                f"'{label}' has {counts['positive']} flagged and {counts['negative']} other rows; a label that is new "
                f"or defined anew needs {LEAST} of each: label more, 'fineline labels suggest' finds them.",
            )
    if not any(min(counts.values()) >= LEAST for counts in labels.values()):
        raise DataError(
            "team_too_few",
            f"No label has {LEAST} flagged and {LEAST} other rows, so no gain could be seen; label more.",
        )


def _check_judged(records: Sequence[Record], learned: Collection[str]) -> None:
    """Refuse splits on which no gain could be seen: precision needs rows that are flagged and others."""
    for split in ("dev", HELD):
        counts = _counts([record for record in records if record.split == split])
        judged = {label for label, count in counts.items() if min(count.values())}
        if lacking := sorted(set(learned) - judged):
            raise DataError(
                "team_split",
                f"'{split}' has no flagged or no other row of '{lacking[0]}'; name other rows 'split', or name none.",
            )
        if not judged:
            raise DataError(
                "team_split",
                f"'{split}' has no label with a flagged and another row; name other rows 'split', or none.",
            )


def assign_splits(records: Sequence[Record], given: Sequence[str], spec: StartSpec) -> list[Record]:
    """Hold rows back: evenly over labels and languages, the same rows each time, twins and equal texts together.

    Args:
        records: The rows.
        given: Split that the team names for each, ``""`` where it leaves it open. Where a team names rows of a split,
            no others are taken for it; where it leaves none open, those named ``train`` are what others are taken from.
        spec: Shares of ``test`` and ``dev``.

    Returns:
        The rows with their splits, in their order.
    """
    units: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(_unit_keys(records)):
        units[key].append(place)
    free = {""} if "" in given else {"train"}
    strata = sorted(
        (_stratum([records[place] for place in places]), hashlib.sha256(key.encode()).hexdigest(), key)
        for key, places in units.items()
        if all(given[place] in free for place in places)
    )
    held = 0.0 if HELD in given else spec.held
    dev = 0.0 if "dev" in given else spec.dev
    # A split that the team named for one row of a unit holds for all of it.
    splits = {key: next((given[place] for place in places if given[place]), "train") for key, places in units.items()}
    for place, (*_, key) in enumerate(strata):
        if _passes(place, held):
            splits[key] = HELD
        elif _passes(place, held + dev):
            splits[key] = "dev"
    chosen = {place: splits[key] for key, places in units.items() for place in places}
    return [replace(record, split=chosen[place]) for place, record in enumerate(records)]


def _unit_keys(records: Sequence[Record]) -> list[str]:
    """One key for all rows that share a pair or a text, and for those that share one with these."""
    joined: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := joined.get(key, key)) != key:
            key = above
        return key

    texts = [f"text {cached_key(record.text)}" for record in records]
    for record, text in zip(records, texts, strict=True):
        if record.pair:
            one, other = sorted((root(f"pair {record.pair}"), root(text)))
            joined[other] = one
    return [root(text) for text in texts]


def _stratum(unit: Sequence[Record]) -> tuple[str, str]:
    held = {label for record in unit for label, value in record.labels.items() if value}
    return " ".join(sorted(held)), unit[0].lang


def _passes(place: int, share: float) -> bool:
    """Whether ``share x (place + 1)`` passes a whole number: so many places, evenly spaced."""
    return int(share * (place + 1) + 1e-9) > int(share * place + 1e-9)
