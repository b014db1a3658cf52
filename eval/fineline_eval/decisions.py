"""What was decided of each row, kept so that two bundles can be compared row by row: digests only, never text."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fineline.bundle import MODEL
from fineline.errors import ConfigError
from fineline.files import replacing
from fineline.taxonomy import load_taxonomy
from fineline_training.arrays import label_arrays
from fineline_training.records import Record

FILE = "decisions.parquet"
"""Name beside ``report.json``."""
_LABELS, _ORIGIN = b"labels", b"origin"
_SCHEMA = pa.schema(
    [
        ("part", pa.dictionary(pa.int32(), pa.string())),
        ("key", pa.uint64()),
        ("cluster", pa.int32()),
        ("slice", pa.dictionary(pa.int32(), pa.string())),
        ("lang", pa.dictionary(pa.int32(), pa.string())),
        ("truth", pa.bool_()),
        ("flagged", pa.bool_()),
        # One bit a label, in the order of the schema's metadata: known, known to hold, reached its threshold.
        ("known", pa.int64()),
        ("positive", pa.int64()),
        ("reached", pa.int64()),
    ]
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decisions:
    """Decisions on the rows of one part of an evaluation.

    Attributes:
        part: Id of a suite, or name of another part.
        keys: Digest of each row, unique within the part, shape (rows,).
        clusters: Number of the pair, template or frame a row is drawn with, shape (rows,).
        slices: Value each row is sliced by, ``""`` for none, shape (rows,).
        langs: Language of each row, shape (rows,).
        truth: Whether a row is positive for the part's target, shape (rows,).
        flagged: Whether it was flagged by any label of the target, shape (rows,).
        labels: Label to (known, positive, reached), each of shape (rows,).
    """

    part: str
    keys: NDArray[np.uint64]
    clusters: NDArray[np.int32]
    slices: NDArray[np.str_]
    langs: NDArray[np.str_]
    truth: NDArray[np.bool_]
    flagged: NDArray[np.bool_]
    labels: Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]


def _keys(rows: Sequence[Record]) -> NDArray[np.uint64]:
    seen: Counter[str] = Counter()
    keys = []
    for row in rows:
        content = f"{row.text}\x1f{row.context or ''}"
        seen[content] += 1
        # Equal rows of one part are told apart by their count, so that each is matched once.
        digest = hashlib.blake2b(f"{content}\x1f{seen[content]}".encode("utf-8", "replace"), digest_size=8)
        keys.append(int.from_bytes(digest.digest(), "little"))
    return np.array(keys, dtype=np.uint64)


def decide(
    part: str,
    rows: Sequence[Record],
    *,
    truth: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
    reached: NDArray[np.bool_],
    clusters: Sequence[str],
    slices: Sequence[str],
) -> Decisions:
    """Note the decisions on the rows of one part.

    Args:
        part: Its name.
        rows: What was judged.
        truth: Shape (rows,).
        flagged: Shape (rows,).
        reached: Flags of each label in the order of the taxonomy, shape (rows, labels).
        clusters: Names of pairs, templates or frames; rows with an empty one stand alone.
        slices: Value each row is sliced by.
    """
    table, _ = label_arrays(rows, load_taxonomy().ids)
    names = [name or f"#{row}" for row, name in enumerate(clusters)]
    return Decisions(
        part=part,
        keys=_keys(rows),
        clusters=np.unique(names, return_inverse=True)[1].astype(np.int32),
        slices=np.array(slices, dtype=np.str_),
        langs=np.array([row.lang for row in rows], dtype=np.str_),
        truth=truth,
        flagged=flagged,
        labels={
            label: (table[:, column] >= 0, table[:, column] == 1, reached[:, column])
            for column, label in enumerate(load_taxonomy().ids)
        },
    )


def origin(model: str, policy: str, files: Mapping[str, str], digest: str) -> str:
    """What ties decisions to the report of the same evaluation.

    Args:
        model: Model of the report.
        policy: Its policy.
        files: SHA-256 of each file of the bundle, by name.
        digest: That of ``bundle.json``, thresholds among it; empty in reports written before it was noted.
    """
    return f"{model} {policy} {digest or files.get(MODEL)}"


def write_decisions(parts: Sequence[Decisions], path: Path, of: str) -> None:
    """Write the decisions of all parts to one Parquet file that bears their ``origin``."""
    labels = load_taxonomy().ids
    bits = 1 << np.arange(len(labels), dtype=np.int64)

    def mask(part: Decisions, which: int) -> NDArray[np.int64]:
        return np.stack([part.labels[label][which] for label in labels], axis=1) @ bits

    tables = [
        pa.table(
            {
                "part": pa.array([part.part] * len(part.keys), pa.string()).dictionary_encode(),
                "key": part.keys,
                "cluster": part.clusters,
                "slice": pa.array(part.slices.tolist(), pa.string()).dictionary_encode(),
                "lang": pa.array(part.langs.tolist(), pa.string()).dictionary_encode(),
                "truth": part.truth,
                "flagged": part.flagged,
                "known": mask(part, 0),
                "positive": mask(part, 1),
                "reached": mask(part, 2),
            },
            schema=_SCHEMA,
        )
        for part in parts
    ]
    table = pa.concat_tables(tables).unify_dictionaries() if tables else _SCHEMA.empty_table()
    with replacing(path) as file:
        pq.write_table(
            table.replace_schema_metadata({_LABELS: " ".join(labels), _ORIGIN: of}), file, compression="zstd"
        )


def read_decisions(path: Path, of: str | None = None) -> dict[str, Decisions]:
    """Read the decisions of an evaluation, by part.

    Args:
        path: The file, or the folder it lies in.
        of: The ``origin`` they must have; any when ``None``.

    Raises:
        ConfigError: There is no such file, or it is truncated, of another form or of another origin.
    """
    file = path / FILE if path.is_dir() else path.with_name(FILE)
    try:
        table = pq.read_table(file)
        labels, given = (table.schema.metadata[key].decode() for key in (_LABELS, _ORIGIN))
        columns = {name: table[name].to_numpy(zero_copy_only=False) for name in _SCHEMA.names}
    except FileNotFoundError:
        raise ConfigError("decisions_missing", f"{file}: no decisions here; run 'fineline eval' first.") from None
    except (pa.ArrowException, OSError, KeyError, TypeError):
        raise ConfigError("decisions_syntax", f"{file}: not whole decisions; run 'fineline eval' again.") from None
    if of is not None and given != of:
        raise ConfigError(
            "decisions_other",
            f"{file}: of '{given}', but the report beside it is of '{of}'; run 'fineline eval' again.",
        )
    parts = {}
    for name in dict.fromkeys(columns["part"].tolist()):
        chosen = columns["part"] == name

        def column(key: str, chosen: NDArray[np.bool_] = chosen) -> NDArray[np.int64]:
            return np.asarray(columns[key][chosen])

        parts[name] = Decisions(
            part=name,
            keys=column("key").astype(np.uint64),
            clusters=column("cluster").astype(np.int32),
            slices=column("slice").astype(np.str_),
            langs=column("lang").astype(np.str_),
            truth=column("truth").astype(np.bool_),
            flagged=column("flagged").astype(np.bool_),
            labels={
                label: (
                    (column("known") >> bit & 1).astype(np.bool_),
                    (column("positive") >> bit & 1).astype(np.bool_),
                    (column("reached") >> bit & 1).astype(np.bool_),
                )
                for bit, label in enumerate(labels.split())
            },
        )
    return parts
