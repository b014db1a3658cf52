"""A team's rows: what is held back, what is refused, what the report says."""

import dataclasses
from collections import Counter
from pathlib import Path

import pytest

from fineline.errors import ConfigError, DataError
from fineline.own_labels import own_label
from fineline.taxonomy import Label
from fineline_training.labels.store import LabelStore
from fineline_training.labels.votes import SET_ASIDE, LabelledRow
from fineline_training.recipe import StartSpec
from fineline_training.records import Record
from fineline_training.team import HELD, assign_splits, open_labels, read_team

SPEC = StartSpec(held=0.1, dev=0.2)


def record(number: int, lang: str = "en", pair: str = "", text: str = "", **labels: int) -> Record:
    return Record(text=text or f"text number {number}", lang=lang, labels=labels, source="team", pair=pair)


def test_every_stratum_gives_its_share():
    rows = [record(i, lang="en" if i < 700 else "zh", insult=int(i % 10 == 0)) for i in range(1000)]
    split = assign_splits(rows, [""] * len(rows), SPEC)
    assert split == assign_splits(rows, [""] * len(rows), SPEC)
    counts = Counter((row.lang, row.labels["insult"], row.split) for row in split)
    for (lang, insult, kind), count in counts.items():
        whole = sum(row.lang == lang and row.labels["insult"] == insult for row in rows)
        share = {HELD: 0.1, "dev": 0.2, "train": 0.7}[kind]
        assert abs(count - share * whole) <= 2
    assert [row.text for row in split] == [row.text for row in rows]


def test_twins_and_equal_texts_are_not_parted():
    rows = [record(i, pair=f"p{i // 2}", insult=i % 2) for i in range(200)]
    rows += [record(i, text=f"the same, {i // 4}" + "!" * (i % 2), insult=1) for i in range(1000, 1100)]
    split = assign_splits(rows, [""] * len(rows), SPEC)
    for key in ({row.pair for row in split} - {""}) | {row.text.rstrip("!") for row in split[200:]}:
        assert len({row.split for row in split if key in (row.pair, row.text.rstrip("!"))}) == 1


def test_a_split_that_the_team_names_is_kept_and_not_added_to():
    rows = [record(i, insult=i % 2) for i in range(100)]
    given = [HELD if i < 7 else "" for i in range(100)]
    split = assign_splits(rows, given, SPEC)
    assert [i for i, row in enumerate(split) if row.split == HELD] == list(range(7))
    assert sum(row.split == "dev" for row in split) in (18, 19)
    twins = [record(1, pair="p", insult=1), record(2, pair="p", insult=0)]
    assert [row.split for row in assign_splits(twins, ["", "dev"], SPEC)] == ["dev", "dev"]


@pytest.fixture
def store(tmp_path: Path, own_table) -> LabelStore:
    made = LabelStore.open(tmp_path / "store", create=True)
    made.define([own_label(own_table, "own")])
    return made


def labelled(number: int, **votes: dict[str, int]) -> LabelledRow:
    text = f"A remedy that heals everything, number {number}" if number % 2 else f"A recipe for soup, number {number}"
    return LabelledRow(id=f"r{number}", text=text, lang="en", source="ads", votes=votes)


def test_the_report_counts_and_names_rights_and_holds_no_text(store):
    rows = [labelled(i, ann={"miracle_cure": i % 2}) for i in range(60)]
    rows.append(labelled(60, ann={"miracle_cure": 1}, ben={"miracle_cure": 0}))
    aside = dataclasses.replace(labelled(62, ann={"miracle_cure": 1}), meta={SET_ASIDE: "miracle_cure"})
    rows.append(aside)
    store.add(rows, {"licence": "own work", "basis": "contract", "files": [{"name": "secret.csv"}], "new": 62})
    found = read_team(store, SPEC, learned=("miracle_cure",))
    assert found.report["rows"] == 62
    assert found.report["undecided"] == 1
    assert found.report["disagreed"] == 1
    assert found.report["labels"]["miracle_cure"] == {"positive": 30, "negative": 30}
    assert found.report["imports"][0]["licence"] == "own work"
    assert found.report["digest"] == store.digest()
    told = str(found.report)
    assert "remedy" not in told and "secret" not in told and "ann" not in told.replace("annot", "")
    assert {row.source for row in found.records} == {"team"}


@pytest.mark.parametrize(
    ("count", "match"), [(30, "'miracle_cure' has 15 flagged and 15 other rows"), (0, "0 flagged")]
)
def test_a_new_label_needs_rows_of_both_verdicts(store, count, match):
    rows = [labelled(i, ann={"miracle_cure": i % 2}) for i in range(count)]
    store.add(rows, {"files": [], "new": count})
    with pytest.raises(DataError, match=match) as caught:
        read_team(store, SPEC, learned=("miracle_cure",))
    assert caught.value.code == "team_too_few"


def test_rows_that_could_show_no_gain_are_refused(store):
    store.add([labelled(i, ann={"insult": 0}) for i in range(60)], {"files": [], "new": 60})
    with pytest.raises(DataError, match="no gain could be seen"):
        read_team(store, SPEC, learned=())


def test_a_row_that_slipped_past_the_gates_stops_the_run(store):
    rows = [labelled(i, ann={"miracle_cure": i % 2}) for i in range(60)]
    rows.append(
        LabelledRow(id="x", text="write to anna@company.org", lang="en", source="ads", votes={"a": {"insult": 0}})
    )
    store.replace_rows(rows)
    with pytest.raises(DataError, match="e-mail") as caught:
        read_team(store, SPEC, learned=("miracle_cure",))
    assert "anna" not in caught.value.message


def test_a_file_is_imported_once_and_needs_its_rights(tmp_path, own_table):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A remedy", "labels": {"miracle_cure": 1}}\n{"text": "Soup", "labels": {"insult": 0}}\n')
    told: list[str] = []
    own = [own_label(own_table, "own")]
    with pytest.raises(DataError, match="licence"):
        open_labels(file, tmp_path / "run", licence="", basis="", own=own, tell=told.append)
    for _ in range(2):
        made = open_labels(file, tmp_path / "run", licence="own work", basis="contract", own=own, tell=told.append)
        assert len(made.rows()) == 2
        assert len(made.imports()) == 1
        assert [label.id for label in made.own_labels] == ["miracle_cure"]
    assert (
        open_labels(made.path, tmp_path / "run", licence="", basis="", own=own, tell=told.append).digest()
        == made.digest()
    )
    with pytest.raises(ConfigError, match="for a file"):
        open_labels(made.path, tmp_path / "run", licence="own work", basis="", own=own, tell=told.append)


def test_rows_of_one_pair_or_one_text_stay_together_however_they_are_linked():
    rows = [record(i, text=f"the same, {i // 2}", pair=f"p{(i + 1) // 2}", insult=1) for i in range(40)]
    rows += [record(i, insult=i % 2) for i in range(40, 200)]
    assert len({row.split for row in assign_splits(rows, [""] * len(rows), SPEC)[:40]}) == 1


def test_rows_named_train_give_the_splits_that_nobody_named():
    rows = [record(i, insult=i % 2) for i in range(200)]
    for given in (["train"] * 200, [HELD] * 20 + ["train"] * 180):
        counts = Counter(row.split for row in assign_splits(rows, given, SPEC))
        assert counts[HELD] == 20
        assert 30 < counts["dev"] < 45


def test_a_split_without_rows_is_an_error(store):
    rows = [dataclasses.replace(labelled(i, ann={"miracle_cure": i % 2}), split="dev") for i in range(60)]
    store.add(rows, {"files": [], "new": 60})
    with pytest.raises(DataError, match="No row is left for 'train'"):
        read_team(store, SPEC, learned=("miracle_cure",))


def test_a_changed_file_is_another_store_and_refusals_are_told(tmp_path, own_table):
    file = tmp_path / "rows.jsonl"
    lines = ['{"text": "Soup", "labels": {"insult": 1}}', '{"text": "Bread", "labels": {"no_such": 1}}']
    told: list[str] = []

    def opened() -> LabelStore:
        file.write_text("\n".join(lines))
        return open_labels(file, tmp_path / "run", licence="own work", basis="b", own=(), tell=told.append)

    assert [dict(row.labels) for row in opened().rows()] == [{"insult": 1}]
    assert len(told) == 1 and "rows.jsonl line 2" in told[0] and "Bread" not in told[0]
    lines[0] = lines[0].replace("1", "0")
    made = opened()
    assert [dict(row.labels) for row in made.rows()] == [{"insult": 0}]
    # As after a kill between the record and the rows, and one while the first file was written.
    (made.path / "rows.jsonl").unlink()
    (made.path / ".rows.jsonl.7.tmp").touch()
    assert len(opened().rows()) == 1
    assert len(opened().imports()) == 1, "as if nothing had happened"


def test_other_rights_or_labels_import_a_file_again(tmp_path, own_table):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A remedy", "labels": {"miracle_cure": 1}}\n{"text": "Soup", "labels": {"insult": 0}}\n')

    def opened(licence: str, *own: Label) -> LabelStore:
        return open_labels(file, tmp_path / "run", licence=licence, basis="b", own=own, tell=told.append)

    told: list[str] = []
    assert len(opened("own work").rows()) == 1
    assert len(told) == 1 and "taxonomy" in told[0]
    made = opened("own work", own_label(own_table, "own"))
    assert (len(made.rows()), len(told)) == (2, 1)
    assert [entry["licence"] for entry in opened("CC0-1.0").imports()] == ["CC0-1.0"]


@pytest.mark.parametrize("split", ["dev", HELD])
def test_a_split_on_which_a_label_could_show_no_gain_is_an_error(store, split):
    rows = [labelled(i, ann={"miracle_cure": i % 2, "insult": int(i % 3 == 0)}) for i in range(120)]
    rows = [dataclasses.replace(row, split=split) if place % 6 == 0 else row for place, row in enumerate(rows)]
    store.add(rows, {"files": [], "new": len(rows)})
    with pytest.raises(DataError, match=f"'{split}' has no flagged or no other row of 'miracle_cure'") as caught:
        read_team(store, SPEC, learned=("miracle_cure",))
    assert caught.value.code == "team_split"
    with pytest.raises(DataError, match=f"'{split}' has no label with a flagged and another row"):
        read_team(store, SPEC, learned=())
