"""Whether a server that runs for long holds on to memory, files or threads, and whether every request was answered."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
from scipy import stats

from serve_asking import Record
from serve_sums import latencies

_WARM = 4
"""The first of so many parts of the samples is left out: caches and pools fill."""

_BLOCKS = 10
_LITTLE, _FLAT = 0.002, 0.1
"""Shares of its memory by which a server that is called flat grows in an hour: as shown, and as not excluded."""

FAULTS = ("mixed_up", "wrong", "lost", "unreachable")
"""Outcomes that must not be."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a process holds at one moment.

    Attributes:
        at: Seconds since the beginning.
        rss: Resident bytes.
        files: Open files and connections.
        threads: Threads.
    """

    at: float
    rss: int
    files: int
    threads: int


def sample(process: psutil.Process, at: float) -> Sample:
    """Look at a process."""
    with process.oneshot():
        return Sample(at=at, rss=process.memory_info().rss, files=process.num_fds(), threads=process.num_threads())


def trend(samples: Sequence[Sample]) -> dict[str, Any]:
    """Change of the resident memory in megabytes an hour.

    The first quarter is left out; the rest is cut into ten blocks, whose medians are fitted by least squares with a
    95 % interval by Student's t: neighbouring samples resemble each other, blocks hardly do, and a median does not see
    the second model of a reload.

    Returns:
        The slope with its interval (``None`` of fewer than ten samples), the medians, and whether it is flat: its
        growth is not shown to be more than little, and the interval is narrow enough to say so.
    """
    kept = samples[len(samples) // _WARM :]
    if len(kept) < _BLOCKS:
        return {"megabytes_an_hour": None, "low": None, "high": None, "blocks": [], "flat": None}
    cuts = [round(place * len(kept) / _BLOCKS) for place in range(_BLOCKS + 1)]
    blocks = [kept[low:high] for low, high in pairwise(cuts)]
    middles = [statistics.median(one.rss for one in block) / 1e6 for block in blocks]
    hours = [statistics.mean(one.at for one in block) / 3600 for block in blocks]
    line, covariance = np.polyfit(hours, middles, 1, cov=True)
    slope, half = float(line[0]), float(stats.t.ppf(0.975, _BLOCKS - 2) * np.sqrt(covariance[0, 0]))
    size = statistics.median(middles)
    return {
        "megabytes_an_hour": round(slope, 3),
        "low": round(slope - half, 3),
        "high": round(slope + half, 3),
        "blocks": [round(middle, 2) for middle in middles],
        "flat": slope - half <= _LITTLE * size and slope + half <= _FLAT * size,
    }


def held(samples: Sequence[Sample], name: str) -> dict[str, int]:
    """Most of ``files`` or ``threads`` in the first and second half of the samples without the first quarter."""
    kept = [getattr(one, name) for one in samples[len(samples) // _WARM :]]
    middle = len(kept) // 2
    return {"first_half": max(kept[:middle], default=0), "second_half": max(kept[middle:], default=0)}


def accounts(records: Sequence[Record]) -> dict[str, Any]:
    """What became of the requests: in all, and for each kind with its statuses and latencies."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record.kind, []).append(record)
    return {
        "sent": len(records),
        "outcomes": dict(sorted(Counter(record.outcome for record in records).items())),
        "kinds": {
            kind: {
                "sent": len(found),
                "statuses": dict(sorted(Counter(str(one.status) for one in found).items())),
                "outcomes": dict(sorted(Counter(one.outcome for one in found).items())),
                "right": latencies([one.seconds for one in found if one.outcome == "right"]),
            }
            for kind, found in sorted(kinds.items())
        },
        "errors": dict(sorted(Counter(one.error for one in records if one.error).items())),
    }


def judged(found: Mapping[str, Any]) -> dict[str, bool | None]:
    """The verdict on a soak: what of it held."""
    outcomes, files, threads = found["requests"]["outcomes"], found["files"], found["threads"]
    reloads, sent = found["reloads"], found["requests"]["sent"]
    return {
        "every_answer_right_or_asked_to_come_again": not any(outcomes.get(fault) for fault in FAULTS),
        # It may not have seen a request whose client left.
        "server_counted_the_same": sent - outcomes.get("left", 0) <= found["counted_by_server"] <= sent,
        "memory_flat": found["memory"]["trend"]["flat"],
        "files_held": files["second_half"] <= files["first_half"],
        "threads_held": threads["second_half"] <= threads["first_half"],
        "reloads_done": reloads["done"] == reloads["asked"],
        "nothing_left": not any(found["left_in_server"].values()),
    }


def minutes(samples: Sequence[Sample]) -> list[dict[str, int]]:
    """The samples, thinned to the first of each minute."""
    first = {int(one.at // 60): one for one in reversed(samples)}
    return [asdict(first[minute]) | {"at": 60 * minute} for minute in sorted(first)]
