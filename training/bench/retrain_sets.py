"""The rows of the retraining benchmark: a label that the shipped model does not have, with the votes of its annotators.

Davidson et al. 2017, "Automated Hate Speech Detection and the Problem of Offensive Language" (MIT), the repository
t-davidson/hate-speech-and-offensive-language at cb50f7e9 as the mirror's folder ``davidson``: posts that three or more
people called hateful, offensive or neither. Rows without a vote for hateful make the label ``vulgar``: as many that
most called offensive as others. No source of the shipped model and no suite holds them.
"""

import csv
import html
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fineline.files import write_text

SOURCE = "davidson/data/labeled_data.csv"
LICENCE, BASIS = "MIT", "published for research, authors' licence"
LABEL = "vulgar"
HELD = 1500
"""Rows that judge every size; they are the same for all."""
CASES = ("as labelled", "turned", "cleaned")
"""What the part with wrong labels trains on; cleaned is what is left when the likely errors are set aside."""


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yes, no = int(row["offensive_language"]), int(row["neither"])
            if int(row["hate_speech"]) or yes == no:
                continue
            votes = {f"p{place}": {LABEL: int(place < yes)} for place in range(yes + no)}
            text = " ".join(html.unescape(row["tweet"]).split())
            yield {"id": f"d{row['']}", "text": text, "lang": "en", "source": "davidson", "votes": votes}


def vulgar_rows(mirror: Path, count: int, seed: int = 7) -> list[dict[str, Any]]:
    """The held-back rows and ``count`` others, half of each vulgar; a smaller count is a part of a larger one.

    Args:
        mirror: Folder of the public sources.
        count: Rows to train on.
        seed: Of the draw.
    """
    sides: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    seen: set[str] = set()
    for row in _read(mirror / SOURCE):
        if row["text"] not in seen:
            seen.add(row["text"])
            marks = [mark[LABEL] for mark in row["votes"].values()]
            sides[sum(marks) * 2 > len(marks)].append(row)
    rng = random.Random(seed)
    for side in sides.values():
        rng.shuffle(side)
    pairs = list(zip(sides[True], sides[False], strict=False))
    rows = [row for pair in pairs for row in pair]
    if len(rows) < HELD + count:
        raise SystemExit(f"{SOURCE} gives {len(rows)} rows, {HELD + count} are asked for")
    return [row | {"split": "test"} for row in rows[:HELD]] + rows[HELD : HELD + count]


def flipped(rows: Iterable[dict[str, Any]], share: float, seed: int = 7) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows with a share of the marks of those that train turned round, and the ids of these.

    Every vote of a chosen row is turned, as by somebody who took yes for no.
    """
    listed = list(rows)
    trained = [row["id"] for row in listed if row.get("split") != "test"]
    chosen = set(random.Random(seed).sample(trained, round(share * len(trained))))
    turned = [
        row | {"votes": {name: {LABEL: 1 - mark[LABEL]} for name, mark in row["votes"].items()}}
        if row["id"] in chosen
        else row
        for row in listed
    ]
    return turned, sorted(chosen)


def write_file(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write a label file as a team would bring it."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
