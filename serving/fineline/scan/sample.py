"""Samples for the assessment of a corpus under GB/T 45654-2025: one for reviewers, one for technical checks.

The manual sample is stratified by source and by whether anything was flagged, each stratum in proportion to its size.
Every document has exactly the same chance, so a plain share of the sample estimates the corpus. The technical sample
takes the same share of every part of the scan. Both depend on the scan and the seed alone.
"""

import io
import json
import math
import posixpath
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fineline.errors import InputError
from fineline.policy import DEFAULT_POLICY
from fineline.scan.decide import Rule, read_decided, read_manifest, read_rule
from fineline.scan.documents import Document, Fields, read_documents
from fineline.scan.filtering import scanned_inputs
from fineline.scan.groups import Groups
from fineline.scan.inputs import InputFile
from fineline.scan.manifest import taxonomy_of
from fineline.scan.sheet import cell, guide, is_cut, row_digest, write_sheet
from fineline.scan.store import Store

SCHEMA = 1
SIZE, SHARE = 4000, 0.10
"""Least sizes that the standard recommends: documents for reviewers, share of the corpus for technical checks."""
_KEPT = ["file", "row", "id", "source", "characters"]
SHEET, DRAWN, GUIDE = "review_sheet.csv", "review_sample.json", "review_guide.md"


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What ``review_sample`` drew.

    Attributes:
        documents: Documents of the corpus.
        manual: Rows of the sheet.
        technical: Documents of the technical sample.
        technical_passed: Those of them that were not flagged.
    """

    documents: int
    manual: int
    technical: int
    technical_passed: int


def review_sample(
    output: str,
    inputs: str | None = None,
    *,
    decisions: str = DEFAULT_POLICY,
    size: int = SIZE,
    share: float = SHARE,
    seed: int = 0,
) -> Drawn:
    """Draw both samples and write the sheet to fill in.

    Writes ``review_sheet.csv`` (with the texts), ``review_sample.json`` (what was drawn, without text),
    ``review_guide.md`` and ``technical_sample/``, the documents to run a keyword library on.

    Args:
        output: Output folder of a finished scan with decisions.
        inputs: Where the inputs stand now, if they were moved.
        decisions: Name of the decisions.
        size: Documents for reviewers; all of them if there are fewer.
        share: Share of the documents for technical checks.
        seed: Another one draws another sample.

    Raises:
        InputError: There are no such decisions, the inputs are not those that were scanned, or a size is wrong.
    """
    if size < 1 or not 0 < share <= 1 or seed < 0:
        raise InputError(
            "sample_size", "A sample has at least 1 document, a share between 0 and 1, and no negative seed."
        )
    store = Store(output)
    manifest, rule, files = read_manifest(store), read_rule(store, decisions), scanned_inputs(store, inputs)
    strata = _strata(store, rule)
    documents = int(strata.counts[:, 0].sum())
    if not documents:
        raise InputError("sample_empty", f"{output}: no document was judged, so there is nothing to draw from.")
    allotted = _allot(strata, min(size, documents), seed)
    chosen, technical = _draw(store, rule, strata, allotted, share, seed)
    texts = _texts(chosen, files, Fields(**manifest["settings"]["fields"]))
    drawn = [texts[entry["file"], entry["row"]] for entry in chosen]
    rows = [_sheet_row(number, document, files[document.file]) for number, document in enumerate(drawn, 1)]
    checked, flagged = map(int, technical.counts[:, :2].sum(axis=0))
    taxonomy = taxonomy_of(manifest)
    record = {
        "schema": SCHEMA,
        "seed": seed,
        "model": rule.model,
        "decisions": rule.name,
        "rule": rule.digest,
        "own_labels": [label.as_table() for label in taxonomy.own],
        "documents": documents,
        "technical": [
            {"source": name, "documents": int(technical.counts[row, 0]), "flagged": int(technical.counts[row, 1])}
            for name, row in technical.names.items()
        ],
        "rows": [
            {name: entry[name] for name in (*_KEPT[:4], "flagged")} | {"digest": row_digest(row)}
            for entry, row in zip(chosen, rows, strict=True)
        ],
    }
    store.put(DRAWN, (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
    store.put(GUIDE, guide(taxonomy).encode())
    store.put(SHEET, write_sheet(rows))
    return Drawn(documents=documents, manual=len(rows), technical=checked, technical_passed=checked - flagged)


def _strata(store: Store, rule: Rule) -> Groups:
    """Documents and flagged documents by source."""
    found = Groups(1)
    for scores, decisions in read_decided(store, rule):
        found.add(scores["source"], _any(decisions)[:, None])
    return found


def _any(decisions: pa.Table) -> NDArray[np.bool_]:
    return np.asarray(pc.list_value_length(decisions["flagged"]).to_numpy() > 0)


def _allot(strata: Groups, size: int, seed: int) -> NDArray[np.int64]:
    """Sizes of the strata's samples (two a source: nothing flagged, something flagged), by systematic sampling.

    The strata stand in a row and every ``documents / size``-th place is drawn from a random start. So fractions are
    rounded at random, with chances that give a document of a small stratum the chance of all others.
    """
    documents, flagged = strata.counts[:, 0], strata.counts[:, 1]
    ends = np.cumsum(np.column_stack([documents - flagged, flagged]).ravel())
    # A third entry keeps this stream apart from those of the parts.
    start = int(np.random.default_rng([seed, 0, 1]).integers(ends[-1]))
    return np.asarray(np.diff((ends * size + start) // ends[-1], prepend=0))


def _draw(
    store: Store, rule: Rule, strata: Groups, allotted: NDArray[np.int64], share: float, seed: int
) -> tuple[list[dict[str, Any]], Groups]:
    """The manual sample in its order, and the technical sample, written on the way, counted by source.

    Every document gets a random key; a stratum's sample are its smallest ones, so that no more is held than is drawn.
    """
    held: list[pa.Table] = []
    technical = Groups(1)
    for number, (scores, decisions) in enumerate(read_decided(store, rule)):
        flagged = _any(decisions)
        keys, others = np.random.default_rng([seed, number]).random((2, len(flagged)))
        table = scores.select(_KEPT).append_column("flagged", decisions["flagged"])
        part = np.sort(np.argsort(others, kind="stable")[: math.ceil(round(share * len(flagged), 6))])
        technical.add(scores["source"].take(part), flagged[part][:, None])
        _write(store, f"technical_sample/part-{number:05d}.parquet", table.take(part))
        table = table.append_column("stratum", pa.array(2 * strata.rows(scores["source"]) + flagged))
        table = table.append_column("key", pa.array(keys))
        held = [_smallest(pa.concat_tables([*held, table]), allotted)]
    return pa.concat_tables(held).sort_by("key").to_pylist(), technical


def _smallest(table: pa.Table, allotted: NDArray[np.int64]) -> pa.Table:
    strata = table["stratum"].to_numpy()
    order = np.lexsort((table["key"].to_numpy(), strata))
    ordered = strata[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return table.take(pa.array(order[rank < allotted[ordered]])).combine_chunks()


def _write(store: Store, name: str, table: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.put(name, buffer.getvalue())


def _texts(
    chosen: list[dict[str, Any]], files: tuple[InputFile, ...], fields: Fields
) -> dict[tuple[int, int], Document]:
    """The documents drawn, read again from the inputs."""
    characters = {(entry["file"], entry["row"]): entry["characters"] for entry in chosen}
    last = {file: max(row for number, row in characters if number == file) for file, _ in characters}
    found = {}
    for number in sorted(last):
        for document in read_documents(files[number], number, fields):
            if isinstance(document, Document) and characters.get((number, document.row)) == len(document.text):
                found[number, document.row] = document
            if document.row >= last[number]:
                break
    if len(found) < len(characters):
        raise InputError("inputs_changed", "The inputs hold other texts than were scanned; scan them again.")
    return found


def _sheet_row(number: int, document: Document, file: InputFile) -> dict[str, str]:
    cut = ", cut: read the whole text there" if is_cut(document.text) else ""
    return {
        "number": str(number),
        "place": cell(f"{posixpath.basename(file.url)} row {document.row + 1}{cut}"),
        "lang": cell(document.lang) if document.lang else "",
        "context": cell(document.context) if document.context else "",
        "text": cell(document.text),
    }
