"""The mixture: twins stay twins, every row has its turn, and what a context decides is left alone."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from fineline_training import mixture as module
from fineline_training.evasion import Evasion
from fineline_training.mixture import Mixture
from fineline_training.recipe import DataSpec, SourceSpec
from fineline_training.records import Record
from fineline_training.sources.registry import AUTHORED

WORDS = "harbour bread window garden letter evening market teacher river winter".split()


def row(
    number: int, *, flagged: bool = False, pair: str = "", context: str | None = None, source: str = AUTHORED
) -> Record:
    words = random.Random(number).choices(WORDS, k=6)
    text = f"{'Threat' if flagged else 'Plain'} {number} {' '.join(words)}."
    return Record(text=text, context=context, lang="en", labels={"insult": int(flagged)}, source=source, pair=pair)


def pairs(count: int) -> list[Record]:
    return [row(2 * n + flagged, flagged=bool(flagged), pair=f"p{n}") for n in range(count) for flagged in (0, 1)]


def mixture(rows: list[Record], *, evade: float = 0.0, compose: float = 0.0, seed: int = 1, **share: float) -> Mixture:
    sources = {source: SourceSpec(**share) for source in {record.source for record in rows}}
    return Mixture(rows, DataSpec(sources=sources, evade=evade, compose=compose), seed)


def twins(rows: list[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in rows:
        found.setdefault(record.pair, []).append(record)
    return found


def test_the_rows_of_a_pair_are_hidden_in_the_same_way(monkeypatch: pytest.MonkeyPatch):
    def marked(text: str, kind: Evasion, rng: random.Random) -> str:
        return f"{text}|{kind}|{rng.random()}"

    monkeypatch.setattr(module, "evade", marked)
    drawn = twins(mixture(pairs(80), evade=1.0).epoch(0))
    marks = [{record.text.split("|", 1)[1] for record in unit} for unit in drawn.values()]
    assert len(marks) == 80
    assert all(len(mark) == 1 for mark in marks)
    assert len({next(iter(mark)).split("|")[0] for mark in marks}) > 3, "kinds differ from pair to pair"


def test_rows_of_late_files_wait_for_their_epoch_and_change_nothing_before_it():
    early, late = pairs(30), [replace(record, meta={"file": "en/new_m.yaml"}) for record in pairs(60)[60:]]
    spec = DataSpec(sources={AUTHORED: SourceSpec(weight=0.5)}, evade=0.2, compose=0.2, late={"*_m.yaml": 2})
    both, without = Mixture([*late, *early], spec, 1), Mixture(early, spec, 1)
    for epoch in (0, 1):
        assert both.epoch(epoch) == without.epoch(epoch)
    drawn = [record for epoch in (2, 3) for record in both.epoch(epoch)]
    assert {record.pair for record in drawn} == {record.pair for record in [*early, *late]}


def test_the_rows_of_a_pair_are_set_among_the_same_sentences():
    rows = pairs(60)
    own = twins(rows)
    drawn = twins(mixture(rows, compose=1.0).epoch(0))
    for pair, unit in drawn.items():
        lawful, flagged = sorted(unit, key=lambda record: record.labels["insult"])
        assert flagged.text.count("Threat") == 1, "no flagged sentence is a filler"
        assert flagged.text.replace(own[pair][1].text, own[pair][0].text) == lawful.text != own[pair][0].text
    places = [unit[0].text.index(own[pair][unit[0].labels["insult"]].text) for pair, unit in drawn.items()]
    assert 5 < sum(place == 0 for place in places) < 55, "the place differs from pair to pair"


def test_about_the_share_asked_for_is_changed():
    rows = pairs(300)
    plain = {record.text for record in rows}
    changed = sum(record.text not in plain for record in mixture(rows, evade=0.2, compose=0.1).epoch(0))
    assert 0.2 < changed / len(rows) < 0.4
    assert {record.text for record in mixture(rows).epoch(0)} == plain


@pytest.mark.parametrize("share", [{"weight": 0.3}, {"weight": 1.0, "cap": 12}, {"weight": 0.7}, {"weight": 1.6}])
def test_every_row_has_its_turn_before_any_comes_again(share):
    rows = [row(n) for n in range(40)]
    made, seen = mixture(rows, **share), Counter[str]()
    for number in range(7):
        seen.update(record.text for record in made.epoch(number))
        counts = [seen[record.text] for record in rows]
        assert max(counts) - min(counts) <= 1


def test_rows_that_fill_a_slot_can_be_drawn_less_often():
    written = [row(n) for n in range(40)]
    filled = [replace(row(n, pair=f"s{n}"), meta={"frame": "one"}) for n in range(100, 140)]
    drawn = mixture([*written, *filled], weight=1.0, expansions=0.25).epoch(0)
    assert Counter(bool(record.meta) for record in drawn) == {False: 40, True: 10}


def test_the_same_seed_and_epoch_give_the_same_rows():
    rows = [*pairs(60), *(row(n, source="other") for n in range(900, 960))]
    made = mixture(rows, evade=0.4, compose=0.4, weight=0.5)
    made.epoch(0)
    again = mixture(rows, evade=0.4, compose=0.4, weight=0.5)
    assert made.epoch(2) == again.epoch(2)
    assert made.epoch(2) != made.epoch(3)
    assert made.epoch(2) != mixture(rows, evade=0.4, compose=0.4, weight=0.5, seed=2).epoch(2)


def test_a_row_with_a_context_and_its_twins_are_never_changed():
    answered = [
        row(n, flagged=bool(n % 2), pair=f"c{n // 2}", context="Shall I?" if n % 4 else None) for n in range(1000, 1100)
    ]
    drawn = mixture([*pairs(40), *answered], evade=0.5, compose=0.5).epoch(0)
    found = [record for record in drawn if record.pair.startswith("c")]
    assert sorted(record.text for record in found) == sorted(record.text for record in answered)
    assert any(record.text not in {one.text for one in pairs(40)} for record in drawn if record.pair.startswith("p"))


def test_a_row_that_may_have_a_label_defined_anew_is_set_around_no_other():
    rows = pairs(60)
    doubtful = [
        replace(record, labels={"violence": 0}, pair="", text=f"Doubtful {record.text}") for record in rows[:60]
    ]
    known = [replace(record, labels={"violence": 0, "insult": 0}, pair="") for record in rows[60:]]
    spec = DataSpec(sources={AUTHORED: SourceSpec()}, compose=1.0)
    for never, found in (((), True), (("insult",), False)):
        drawn = Mixture([*doubtful, *known], spec, 1, never=never).epoch(0)
        assert any(record.text.count("Doubtful") > 1 for record in drawn) == found
