"""Sources to one gated data set: read, drop what must not train (counted by reason), then prove it with the gates."""

import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fineline_training import gates
from fineline_training.leakage import EvaluationKeys, cached_key, load_digests
from fineline_training.manifest import Manifest, report
from fineline_training.personal import find_personal
from fineline_training.records import Record
from fineline_training.sources.mirror import State, source_status
from fineline_training.sources.readers import Dropped, read_use
from fineline_training.sources.registry import AUTHORED, Source, find_source

LEAKED = "stands in an evaluation suite"
DUPLICATE = "equal to an earlier row"
CONFLICT = "equal to a row with a contradicting label"
UNKNOWN = "knows no label"
SAMPLE_ROWS = 500

Judge = Callable[[Sequence[Record]], Sequence[bool]]
Drops = dict[str, Counter[str]]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows that passed every gate (splits ``train`` and ``dev``), and the manifest."""

    records: tuple[Record, ...]
    manifest: Manifest


def row_key(record: Record) -> tuple[str, str]:
    """Rows with the same key are the same row to a reader.

    The match key leaves symbols out, yet in emoji sets the symbol alone turns a warm sentence into a threat: here
    symbols count. The context counts too, because the same short answer can agree to a crime or to a lunch.
    """
    symbols = "".join(char for char in record.text if unicodedata.category(char).startswith("S"))
    return f"{cached_key(record.text)}\x1f{symbols}", cached_key(record.context or "")


def contradicts(one: Record, other: Record) -> bool:
    """Whether no set of labels could satisfy both rows."""
    if any(other.labels.get(label, value) != value for label, value in one.labels.items()):
        return True
    return any(
        bool(row.any_of) and all(facts.labels.get(label) == 0 for label in row.any_of)
        for row, facts in ((one, other), (other, one))
    )


def _drop_row(record: Record, evaluation: EvaluationKeys) -> str | None:
    """Reason to leave a row out on its own account, or ``None``."""
    if not record.labels and not record.any_of:
        return UNKNOWN
    if kind := find_personal(record.text) or find_personal(record.context or ""):
        return f"holds {kind}"
    return LEAKED if evaluation.holds(record) else None


def _drop_equal(records: Sequence[Record], drops: Drops) -> list[Record]:
    """Keep the first of equal rows, and none where they contradict each other: nobody can say which is right."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[row_key(record)].append(record)
    kept = []
    for first, *others in groups.values():
        conflict = any(contradicts(one, other) for i, one in enumerate([first, *others]) for other in others[i:])
        if conflict:
            drops[first.source][CONFLICT] += 1
        else:
            kept.append(first)
        for other in others:
            drops[other.source][CONFLICT if conflict else DUPLICATE] += 1
    return kept


def _available(source_ids: Sequence[str], mirror: Path | None, required: bool) -> tuple[list[Source], tuple[str, ...]]:
    sources = [find_source(source_id) for source_id in dict.fromkeys(source_ids)]
    if required:
        return sources, ()
    missing = tuple(
        source.id
        for source in sources
        if source.id != AUTHORED and (mirror is None or source_status(source, mirror).state is State.MISSING)
    )
    return [source for source in sources if source.id not in missing], missing


def flagged_share(name: str, rows: Sequence[Record], judge: Judge | None) -> float:
    """Share of flagged rows in a source, by the judge on a fixed sample of it, else by the rows' own labels."""
    sample = random.Random(name).sample(rows, min(SAMPLE_ROWS, len(rows)))
    return sum(judge(sample) if judge else [row.unlawful for row in sample]) / len(sample)


def _shares(sources: Sequence[Source], records: Sequence[Record], judge: Judge | None) -> dict[str, float]:
    """Share of flagged rows in each source of ordinary text."""
    found = {
        source.id: [record for record in records if record.source == source.id]
        for source in sources
        if source.kind == "ordinary"
    }
    return {name: flagged_share(name, rows, judge) for name, rows in found.items() if rows}


def build_dataset(
    source_ids: Sequence[str],
    mirror: Path | None,
    *,
    required: bool = True,
    unlawful_limit: float = 0.05,
    permissive_only: bool = True,
    evaluation: EvaluationKeys | None = None,
    judge: Judge | None = None,
    progress: bool = False,
) -> Dataset:
    """Build the training data set.

    Args:
        source_ids: Sources in order of precedence: of equal rows the first is kept.
        mirror: Folder of upstream files; ``None`` where only the authored corpus is used.
        required: Stop when a source is missing from the mirror; else leave it out and say so in the manifest.
        unlawful_limit: Highest share of flagged rows a source of ordinary text may hold.
        permissive_only: Stop at a licence that does not allow commercial use.
        evaluation: Texts that must not train; the committed digests of all suites by default.
        judge: Flags rows of a sample of each ordinary source; without it the rows' own labels count, which for
            ordinary text are all 0.
        progress: Show progress on stderr.

    Returns:
        Rows of the splits ``train`` and ``dev``, and the manifest.

    Raises:
        DataError: A source is unknown, a file is missing or altered, or a gate is not passed.
    """
    sources, missing = _available(source_ids, mirror, required)
    evaluation = evaluation or load_digests()
    passed = [gates.check_licences(sources, "train", permissive_only=permissive_only)]
    if mirror is not None:
        passed.append(gates.check_provenance(sources, mirror))
    drops: Drops = defaultdict(Counter)
    rows: list[Record] = []
    with Progress(console=Console(stderr=True), disable=not progress) as bars:
        bar = bars.add_task("reading", total=len(sources))
        for source in sources:
            bars.update(bar, description=f"reading {source.id}")
            for row in read_use(source, mirror, "train"):
                reason = row.reason if isinstance(row, Dropped) else _drop_row(row, evaluation)
                if reason:
                    drops[source.id][reason] += 1
                elif isinstance(row, Record):
                    rows.append(row)
            bars.advance(bar)
        bars.update(bar, description="removing equal rows, checking gates")
        rows = _drop_equal(rows, drops)
        passed += [
            gates.check_personal_data(rows),
            gates.check_leakage(rows, evaluation),
            gates.check_unlawful_share(_shares(sources, rows, judge), unlawful_limit, judged=judge is not None),
        ]
    by_source: dict[str, list[Record]] = defaultdict(list)
    for record in rows:
        by_source[record.source].append(record)
    reports = tuple(report(source, by_source[source.id], drops[source.id]) for source in sources)
    return Dataset(records=tuple(rows), manifest=Manifest(sources=reports, missing=missing, gates=tuple(passed)))
