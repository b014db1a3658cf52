"""What is replayed: every cell has its turn, twins stay together, narrowed labels lose their yes."""

import dataclasses
from collections import Counter

from fineline_training.records import Record
from fineline_training.replay import draw_replay, narrowed


def row(
    text: str, lang: str = "en", source: str = "authored", pair: str = "", frame: str = "", **labels: int
) -> Record:
    meta = {"frame": frame} if frame else {}
    return Record(text=text, lang=lang, labels=labels, source=source, pair=pair, meta=meta)


def test_small_cells_give_all_they_have_and_large_ones_the_rest():
    rows = [row(f"a{i}", insult=1) for i in range(900)]
    rows += [row(f"b{i}", lang="th", insult=1) for i in range(20)]
    rows += [row(f"c{i}", privacy=1, insult=1) for i in range(20)]
    rows += [row(f"d{i}", source="cold", insult=0) for i in range(20)]
    drawn = Counter(record.text[0] for record in draw_replay(rows, 120, 1))
    assert drawn == {"a": 60, "b": 20, "c": 20, "d": 20}
    assert Counter(record.text[0] for record in draw_replay(rows, 40, 1)) == dict.fromkeys("abcd", 10)


def test_twins_come_together_and_frames_in_turn():
    rows = [
        row(f"{frame}{number}{mark}", pair=f"{frame}{number}", frame=frame, insult=mark)
        for frame, count in (("x", 30), ("y", 3), ("z", 3))
        for number in range(count)
        for mark in (0, 1)
    ]
    drawn = draw_replay(rows, 18, 1)
    assert Counter(Counter(record.pair for record in drawn).values()) == {2: 9}
    assert Counter(record.meta["frame"] for record in drawn) == {"x": 6, "y": 6, "z": 6}


def test_the_same_seed_draws_the_same_and_more_than_there_is_draws_all():
    rows = [row(f"t{i}", lang="en" if i % 2 else "zh", insult=i % 3 == 0) for i in range(60)]
    assert draw_replay(rows, 30, 1) == draw_replay(rows, 30, 1)
    assert draw_replay(rows, 30, 1) != draw_replay(rows, 30, 2)
    assert sorted(r.text for r in draw_replay(rows, 999, 1)) == sorted(r.text for r in rows)
    assert draw_replay(rows, 0, 1) == []
    assert draw_replay([], 5, 1) == []


def test_a_narrowed_label_keeps_its_no_and_loses_its_yes():
    rows = [row("a", insult=1, privacy=1), row("b", insult=0)]
    assert [dict(record.labels) for record in narrowed(rows, ["insult"])] == [{"privacy": 1}, {"insult": 0}]
    assert narrowed(rows, []) == rows


def test_a_set_with_a_narrowed_label_is_not_known_any_more():
    rows = [dataclasses.replace(row("a"), meta={"any_of": "insult,privacy", "frame": "f"})] * 2
    assert [record.any_of for record in narrowed(rows, ["violence"])] == [("insult", "privacy")] * 2
    [left, _] = narrowed(rows, ["insult"])
    assert left.any_of == ()
    assert left.meta == {"frame": "f"}
