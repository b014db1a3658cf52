"""Counts of documents by language, source or any other column with names."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MAX_GROUPS = 10_000
"""Names told apart; further ones are counted together, so that memory stays bounded."""
OTHERS = "(others)"


class Groups:
    """Documents, flagged documents and flagged labels by group.

    Attributes:
        names: Group to its row in ``counts``; ``None`` stands for documents that state none.
        counts: int64, shape (groups, 2 + labels): documents, those with any label, and those with each.
    """

    def __init__(self, labels: int) -> None:
        self.names: dict[str | None, int] = {}
        self.counts = np.zeros((0, 2 + labels), dtype=np.int64)

    def rows(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """The row in ``counts`` of each document's group; new groups get one."""
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        rows = np.array([self._row(name) for name in encoded.dictionary.to_pylist()], dtype=np.int64)
        if missing := len(self.names) - len(self.counts):
            self.counts = np.pad(self.counts, ((0, missing), (0, 0)))
        return np.asarray(rows[encoded.indices.to_numpy()])

    def add(self, column: pa.ChunkedArray, hit: NDArray[np.bool_]) -> None:
        """Count documents.

        Args:
            column: Group of each document.
            hit: Whether a document is flagged with a label, shape (documents, labels).
        """
        cells = np.column_stack([np.ones(len(hit), dtype=np.int64), hit.any(axis=1), hit])
        rows = self.rows(column)  # first: it replaces the counts where a group is new
        np.add.at(self.counts, rows, cells)

    def _row(self, name: str | None) -> int:
        if name not in self.names and len(self.names) >= MAX_GROUPS:
            name = OTHERS
        return self.names.setdefault(name, len(self.names))


def flagged_matrix(decisions: pa.Table, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Whether a document is flagged with a label, shape (documents, labels)."""
    column = decisions["flagged"].combine_chunks()
    hit = np.zeros((len(column), len(labels)), dtype=np.bool_)
    places = pc.index_in(column.flatten(), value_set=pa.array(labels)).to_numpy(zero_copy_only=False)
    hit[pc.list_parent_indices(column).to_numpy(), places] = True
    return hit
