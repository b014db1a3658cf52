"""Independent labelling of a sample of the corpus: the sheet, the passes, and how far they agree."""

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import krippendorff
import numpy as np
from numpy.typing import NDArray

from fineline.errors import DataError
from fineline.files import write_text
from fineline.taxonomy import load_taxonomy
from fineline_training.corpus import Item

_RESAMPLES = 500
AGREEMENT_COLUMNS = ("label", "items", "positive", "alpha", "95 % interval", "as corpus")


def item_id(item: Item) -> str:
    """Stable id of an item: a digest of language, prompt and text."""
    return hashlib.sha256("\x1f".join((item.lang, item.context or "", item.text)).encode()).hexdigest()[:12]


def corpus_labels(items: Iterable[Item]) -> dict[str, frozenset[str]]:
    """The writers' labels by item id; inciting ethnic hatred always discriminates by ethnicity as well."""
    found = {}
    for item in items:
        implied = {"discrimination/ethnicity"} if "ethnic_hatred" in item.labels else set()
        found[item_id(item)] = frozenset({*item.labels, *implied})
    return found


def draw_sample(items: Iterable[Item], per_label: int, seed: int) -> list[Item]:
    """Draw a sample to label anew.

    Half of each topic's items are flagged, half lawful; of each half a quarter is Chinese, a quarter English and the
    rest in other languages. One item a frame at most, so that a twin does not give its partner away, and no slot
    expansions.

    Args:
        items: The corpus.
        per_label: Items a topic.
        seed: Seed of the draw.

    Returns:
        Items in random order.
    """
    pools: dict[tuple[str, bool, str], list[Item]] = defaultdict(list)
    for item in items:
        if item.pair == item.frame:
            pools[(item.topic, item.flagged, item.lang if item.lang in ("zh", "en") else "other")].append(item)
    rng = random.Random(seed)
    chosen: list[Item] = []
    frames: set[str] = set()
    for topic in load_taxonomy().ids:
        for flagged, half in ((True, (per_label + 1) // 2), (False, per_label // 2)):
            quotas = {"zh": half // 4, "en": half // 4}
            quotas["other"] = half - sum(quotas.values())
            for part, wanted in quotas.items():
                pool = sorted(pools[(topic, flagged, part)], key=item_id)
                rng.shuffle(pool)
                fresh = [item for item in pool if item.frame not in frames][:wanted]
                frames |= {item.frame for item in fresh}
                chosen += fresh
    rng.shuffle(chosen)
    return chosen


def write_sheet(items: Sequence[Item], path: Path) -> None:
    """Write the sheet that an annotator fills: id, language, prompt and text, no act and no label."""
    rows = [{"id": item_id(item), "lang": item.lang, "context": item.context, "text": item.text} for item in items]
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_pass(path: Path) -> dict[str, frozenset[str]]:
    """Read one annotator's labels.

    Args:
        path: JSONL with ``id`` and ``labels``; an empty list says that the text is lawful.

    Raises:
        DataError: A line is malformed, an id stands twice, or a label is unknown.
    """
    ids = set(load_taxonomy().ids)
    found: dict[str, frozenset[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path.name} line {number}"
        try:
            row = json.loads(line)
            key, labels = str(row["id"]), frozenset(row["labels"])
        except (ValueError, KeyError, TypeError):
            raise DataError("pass_row", f"{where}: each line needs 'id' and a list 'labels'.") from None
        if key in found:
            raise DataError("pass_twice", f"{where}: id {key} stands twice.")
        if unknown := labels - ids:
            raise DataError("pass_label", f"{where}: '{min(map(str, unknown))}' is no label of the taxonomy.")
        found[key] = labels
    return found


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement on one label.

    Attributes:
        label: Label id, or ``any`` for flagged against lawful.
        n: Items both passes labelled.
        positives: Items that either pass gave the label.
        alpha: Krippendorff's alpha, nominal; ``nan`` where neither pass used the label.
        low: Lower end of its 95 % bootstrap interval over items.
        high: Upper end.
        corpus: Share of the items on which both passes agree with the corpus.
    """

    label: str
    n: int
    positives: int
    alpha: float
    low: float
    high: float
    corpus: float

    def cells(self) -> tuple[str, ...]:
        """Its row of a table with ``AGREEMENT_COLUMNS``."""
        interval = f"{self.low:.2f} to {self.high:.2f}"
        return (self.label, str(self.n), str(self.positives), f"{self.alpha:.2f}", interval, f"{self.corpus:.1%}")


def _alpha(votes: NDArray[np.int64]) -> float:
    """Nominal alpha of votes shaped (annotators, items), 0 or 1 (Krippendorff 2004); ``nan`` without variation."""
    if votes.min() == votes.max():
        return float("nan")
    return float(krippendorff.alpha(reliability_data=votes, level_of_measurement="nominal"))


def agreement(
    first: Mapping[str, frozenset[str]],
    second: Mapping[str, frozenset[str]],
    corpus: Mapping[str, frozenset[str]],
    seed: int = 0,
) -> list[Agreement]:
    """Agreement of two passes on flagged against lawful, then on each label.

    Args:
        first: Labels by item id.
        second: The other annotator's.
        corpus: The writers' labels of the same items.
        seed: Seed of the bootstrap.

    Raises:
        DataError: The passes have no item in common, or an item is not in the corpus.
    """
    shared = sorted(set(first) & set(second))
    if not shared:
        raise DataError("pass_items", "The two passes have no item in common.")
    if missing := [key for key in shared if key not in corpus]:
        raise DataError("pass_items", f"Item {missing[0]} is not in the corpus any more: draw a new sample.")
    picks = np.random.default_rng(seed).integers(len(shared), size=(_RESAMPLES, len(shared)))
    results = []
    for label in ("any", *load_taxonomy().ids):
        votes = np.array(
            [[bool(p[key]) if label == "any" else label in p[key] for key in shared] for p in (first, second, corpus)],
            dtype=np.int64,
        )
        passes = votes[:2]
        drawn = [_alpha(passes[:, pick]) for pick in picks] if passes.any() else []
        kept = [value for value in drawn if value == value]
        low, high = np.percentile(kept, [2.5, 97.5]) if kept else (float("nan"), float("nan"))
        results.append(
            Agreement(
                label=label,
                n=len(shared),
                positives=int(passes.any(axis=0).sum()),
                alpha=_alpha(passes),
                low=float(low),
                high=float(high),
                corpus=float((votes == votes[2]).all(axis=0).mean()),
            )
        )
    return results


def as_markdown(results: Sequence[Agreement]) -> str:
    """The table as a document of its own."""
    lines = ["| " + " | ".join(AGREEMENT_COLUMNS) + " |", "| --- |" + " ---: |" * (len(AGREEMENT_COLUMNS) - 1)]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in results]
    return "# Agreement of two independent passes\n\n" + "\n".join(lines) + "\n"


def differences(
    first: Mapping[str, frozenset[str]], second: Mapping[str, frozenset[str]], corpus: Mapping[str, frozenset[str]]
) -> list[str]:
    """Ids on which the passes and the corpus do not all agree, those with a different verdict first."""
    shared = sorted(set(first) & set(second) & set(corpus))
    unlike = [key for key in shared if not first[key] == second[key] == corpus[key]]
    return sorted(unlike, key=lambda key: len({bool(p[key]) for p in (first, second, corpus)}) == 1)
