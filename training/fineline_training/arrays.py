"""Records to label matrices; free of torch, so that evaluation can use it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fineline_training.records import Record


def label_arrays(records: Sequence[Record], ids: Sequence[str]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """What records know, columns in the order of ``ids``.

    Returns:
        int8 labels of shape (rows, labels): 1, 0, or -1 for unknown; and bool sets of the same shape: labels of which
        at least one holds, where that is all a row knows.
    """
    column = {label: index for index, label in enumerate(ids)}
    labels = np.full((len(records), len(ids)), -1, dtype=np.int8)
    any_of = np.zeros((len(records), len(ids)), dtype=np.bool_)
    for row, record in enumerate(records):
        for label, value in record.labels.items():
            labels[row, column[label]] = value
        for label in record.any_of:
            any_of[row, column[label]] = True
    return labels, any_of


def targets(records: Sequence[Record], ids: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What records train on: as ``label_arrays``, with the share of annotators who said yes where they disagreed.

    Returns:
        float32 targets of shape (rows, labels): between 0 and 1, or -1 for unknown; and the bool sets.
    """
    labels, any_of = label_arrays(records, ids)
    column = {label: index for index, label in enumerate(ids)}
    wanted = labels.astype(np.float32)
    for row, record in enumerate(records):
        for label, share in record.soft.items():
            wanted[row, column[label]] = share
    return wanted, any_of
