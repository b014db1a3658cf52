"""The evaluation suites: what is read, what counts as positive, how it is sliced."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fineline.config import build, read_toml
from fineline.errors import ConfigError, DataError
from fineline.taxonomy import load_taxonomy
from fineline_training.records import Record
from fineline_training.sources.mirror import State, source_status
from fineline_training.sources.readers import read_use
from fineline_training.sources.registry import find_source

SUITES_FILE = Path(__file__).with_name("suites.toml")


def _targets() -> dict[str, tuple[str, ...]]:
    grounds = load_taxonomy().group("discrimination")
    return {
        "all": load_taxonomy().ids,
        "hate": ("ethnic_hatred", *grounds),
        "abuse": ("ethnic_hatred", "insult", *grounds),
        "sex": ("discrimination/sex",),
    }


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One suite.

    Attributes:
        id: Id in reports.
        title: Name for people.
        source: Source id in the registry.
        target: Name of a label set: all, hate, abuse or sex.
        headline: Metrics shown first.
        slices: Field of ``meta`` to slice by, or ``""``.
        lawful: Slice values whose negative rows are the over-blocking test; ``*`` for all negative rows.
    """

    id: str
    title: str
    source: str
    target: str
    headline: tuple[str, ...]
    slices: str = ""
    lawful: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Label ids of the target set."""
        return _targets()[self.target]

    def truth(self, record: Record) -> bool:
        """Whether a row is positive for the target set."""
        wanted = set(self.labels)
        return any(value and label in wanted for label, value in record.labels.items()) or bool(
            wanted & set(record.any_of)
        )

    def is_lawful_case(self, record: Record) -> bool:
        """Whether a row belongs to the over-blocking test."""
        if self.truth(record):
            return False
        return "*" in self.lawful or record.meta.get(self.slices, "") in self.lawful


@cache
def load_suites() -> tuple[Suite, ...]:
    """All suites, in report order.

    Raises:
        ConfigError: A key or target is unknown.
    """
    suites = []
    for name, table in read_toml(SUITES_FILE).items():
        suite = build(Suite, {"id": name, **table}, f"{SUITES_FILE.name}: [{name}]")
        if suite.target not in _targets():
            raise ConfigError("suite_target", f"{SUITES_FILE.name}: [{name}]: target '{suite.target}' is unknown.")
        suites.append(suite)
    return tuple(suites)


def read_suite(suite: Suite, mirror: Path) -> list[Record]:
    """Rows of a suite.

    Raises:
        DataError: The mirror lacks the source, or a file was altered.
    """
    source = find_source(suite.source)
    state = source_status(source, mirror).state
    if state is State.MISSING:
        raise DataError("source_missing", f"{source.id}: not in the mirror {mirror}; run 'fineline data pull'.")
    if state is State.MISMATCH:
        raise DataError("provenance_hash", f"{source.id}: a file is not the pinned one; run 'fineline data pull'.")
    return [row for row in read_use(source, mirror, "eval") if isinstance(row, Record)]
