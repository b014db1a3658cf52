"""How far annotators agree: alpha of each label, kappa of each pair and of each person against the others."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from fineline_training.labels import tasks
from fineline_training.labels.reliability import RESAMPLES, Estimate, alpha, kappa
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import LabelledRow

RELIABLE, USABLE = 0.8, 0.667
"""Krippendorff's own limits (2004, chapter 11): from the first on a label is relied upon, from the second with care."""
OTHERS = "the others"

Answers = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class LabelAgreement:
    """Agreement on one label.

    Attributes:
        label: Its id.
        voted: Rows that anybody voted on.
        disputed: Rows on which votes differ.
        positive: Share of yes among all votes.
        alpha: Krippendorff's alpha over the rows with two votes or more.
    """

    label: str
    voted: int
    disputed: int
    positive: float
    alpha: Estimate

    @property
    def reading(self) -> str:
        """What alpha says of the label."""
        if self.alpha.value is None:
            return "not measured"
        if self.alpha.value >= RELIABLE:
            return "reliable"
        return "usable with care" if self.alpha.value >= USABLE else "sharpen the rule"


@dataclass(frozen=True, kw_only=True)
class PersonAgreement:
    """Agreement of two people, or of one with the others' majority, on one label.

    Attributes:
        label: Its id.
        person: Annotator.
        other: Another annotator, or ``OTHERS``.
        same: Share of rows with the same answer; ``None`` without rows.
        kappa: Cohen's kappa.
    """

    label: str
    person: str
    other: str
    same: float | None
    kappa: Estimate


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """All of it; labels and people in the order of the alphabet."""

    labels: tuple[LabelAgreement, ...]
    people: tuple[PersonAgreement, ...]


def _of_label(label: str, answers: Iterable[Answers], seed: int) -> LabelAgreement:
    votes = [list(given.values()) for given in answers]
    marks = [mark for given in votes for mark in given]
    return LabelAgreement(
        label=label,
        voted=len(votes),
        disputed=sum(len(set(given)) > 1 for given in votes),
        positive=sum(marks) / len(marks),
        alpha=alpha(votes, seed),
    )


def _majority(answers: Answers, without: str) -> int | None:
    """What the others say; ``None`` if nobody else voted or they are tied."""
    others = [mark for person, mark in answers.items() if person != without]
    return None if sum(others) * 2 == len(others) else int(sum(others) * 2 > len(others))


def _of_people(
    label: str, person: str, other: str, pairs: Sequence[tuple[int | None, int | None]], seed: int
) -> PersonAgreement:
    both = [(one, two) for one, two in pairs if one is not None and two is not None]
    return PersonAgreement(
        label=label,
        person=person,
        other=other,
        same=sum(one == two for one, two in both) / len(both) if both else None,
        kappa=kappa([one for one, _ in both], [two for _, two in both], seed),
    )


def measure(rows: Iterable[LabelledRow], labels: Sequence[str], seed: int = 0) -> Agreement:
    """Measure the agreement on labels.

    Args:
        rows: Rows with their votes; a label decided without a vote is nobody's answer and is left out.
        labels: Label ids; those without a vote are left out.
        seed: Seed of the bootstrap.
    """
    answers: dict[str, list[Answers]] = defaultdict(list)
    for row in rows:
        for label in labels:
            if given := {person: marks[label] for person, marks in row.votes.items() if label in marks}:
                answers[label].append(given)
    found, people = [], []
    for label in sorted(answers):
        votes = answers[label]
        found.append(_of_label(label, votes, seed))
        names = sorted({person for given in votes for person in given})
        pairs = [
            _of_people(label, one, two, [(given.get(one), given.get(two)) for given in votes], seed)
            for one, two in combinations(names, 2)
        ]
        # Of two people each one's others are the pair itself.
        if len(names) > 2:
            pairs += [
                _of_people(label, name, OTHERS, [(given.get(name), _majority(given, name)) for given in votes], seed)
                for name in names
            ]
        people += [pair for pair in pairs if pair.kappa.rows]
    return Agreement(labels=tuple(found), people=tuple(people))


def without_reviews(rows: Iterable[LabelledRow], reviews: Collection[tuple[str, str]]) -> list[LabelledRow]:
    """Rows without the votes that a review gave.

    A row is reviewed because it is doubtful, or because one person flagged it: people differ on such rows more than on
    others, and counting them would tell of the choice of rows instead of the people.
    """
    return [
        replace(row, votes={name: given for name, given in row.votes.items() if (row.id, name) not in reviews})
        for row in rows
    ]


def record_agreement(store: LabelStore, labels: Sequence[str], seed: int = 0) -> tuple[Agreement, Path]:
    """Measure a store, reviews left out, and leave the dated record."""
    rows, reviews = store.rows(), tasks.reviews(store)
    result = measure(without_reviews(rows, reviews), labels, seed)
    content: dict[str, Any] = {
        "rows": store.digest(),
        "method": f"nominal alpha, Cohen's kappa; 95 % percentile bootstrap over rows, {RESAMPLES} draws, seed {seed}",
        "reviews_left_out": sum((row.id, name) in reviews for row in rows for name in row.votes),
        "labels": [{**asdict(entry), "reading": entry.reading} for entry in result.labels],
        "people": [asdict(entry) for entry in result.people],
    }
    return result, store.write_record("agreement", content)
