"""The composition: what is counted once, what is a share of what, and that the tables fit."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline_training.commands import data as commands
from fineline_training.composition import NOT_STATED, Tally, count_rows, measure_corpus
from fineline_training.corpus import Item, load_acts, load_corpus
from fineline_training.records import Record
from fineline_training.sources import readers

CORPUS = {
    "en/a.yaml": """
lang: en
writer: a tester
label: violence
items:
  - {register: chat, threaten: "I will break your arm tonight.", testimony: "He said he would break my arm tonight."}
  - {register: news, report: "Two quiet people were hurt near the harbour."}
  - {labels: [violence, insult], abuse: "Come here, you worm, and I will flatten you."}
terms:
  discrimination/age: [the old, the young, pensioners]
frames:
  - {demean: "Nobody needs {group} here.", counter_speech: "Whoever says nobody needs {group} here is wrong."}
""",
    "zh/b.yaml": """
lang: zh
writer: 测试者
label: insult
items:
  - {register: chat, abuse: "你这个废物。", testimony: "他骂我废物。"}
""",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in CORPUS.items():
        file = tmp_path / "corpus" / name
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "corpus"


def item(
    text: str, act: str = "everyday", *, pair: str = "", lang: str = "en", label: str = "violence", **other
) -> Item:
    flagged = load_acts()[act].flagged
    pair = pair or text
    fields = {"labels": (label,) if flagged else (), "pair": pair, "frame": pair, "wording": text} | other
    return Item(text=text, act=act, flagged=flagged, topic=label, lang=lang, **fields)


def row(
    text: str, *, split: str = "train", source: str = "one", meta: dict[str, str] | None = None, **labels: int
) -> Record:
    return Record(text=text, lang="en", labels=labels, source=source, split=split, meta=meta or {})


# --- rows


def test_only_training_rows_are_counted_and_held_back_ones_are_said():
    counted = count_rows([row("a", insult=1), row("b", insult=0), row("c", split="dev", insult=1)])
    assert counted.all == Tally(flagged=1, lawful=1)
    assert counted.held_back == 1


def test_a_label_counts_rows_that_know_it_and_lawful_means_that_nothing_is_broken():
    rows = [
        row("a", insult=1, violence=0),
        row("b", insult=0),
        row("c", privacy=0, meta={"any_of": "violence,insult"}),
        row("d", violence=0, insult=0),
    ]
    counted = count_rows(rows)
    assert counted.labels["insult"] == Tally(flagged=1, lawful=2)
    assert counted.labels["violence"] == Tally(flagged=0, lawful=1)
    assert counted.labels["privacy"] == Tally(flagged=0, lawful=0)
    assert counted.all == Tally(flagged=2, lawful=2)


def test_every_way_of_counting_adds_up_to_all_rows():
    rows = [
        row("a", source="one", meta={"act": "report", "register": "news"}, insult=0),
        row("b", source="two", meta={"act": "abuse", "register": "chat"}, insult=1),
        row("c", source="two", insult=1),
    ]
    counted = count_rows(rows)
    for tallies in (counted.languages, counted.acts, counted.registers, counted.sources):
        assert sum(tally.flagged for tally in tallies.values()) == 2
        assert sum(tally.lawful for tally in tallies.values()) == 1
    assert counted.acts[NOT_STATED] == Tally(flagged=1, lawful=0)
    assert list(counted.sources) == ["two", "one"], "the biggest comes first"


# --- variety


def test_expansions_are_one_frame_and_many_rows(folder: Path):
    age = measure_corpus(load_corpus(folder)).labels["discrimination/age"]
    assert (age.flagged, age.lawful, age.frames) == (3, 3, 2)
    assert age.biggest == pytest.approx(1 / 2)
    assert age.paired == 1


def test_a_row_counts_under_each_of_its_labels_and_once_in_its_language(folder: Path):
    corpus = measure_corpus(load_corpus(folder))
    assert (corpus.labels["violence"].flagged, corpus.labels["violence"].lawful) == (2, 2)
    assert (corpus.labels["insult"].flagged, corpus.labels["insult"].lawful) == (2, 1)
    assert corpus.cells["insult"].keys() == {"en", "zh"}
    assert corpus.languages["en"].flagged + corpus.languages["en"].lawful == 10
    assert list(corpus.languages) == ["en", "zh"], "the biggest comes first"


def test_a_group_is_a_pair_only_with_both_verdicts():
    rows = [
        item("a a a", "threaten", pair="1"),
        item("b b b", "report", pair="1"),
        item("c c c", "report", pair="2"),
        item("d d d", "everyday", pair="2"),
    ]
    assert measure_corpus(rows).labels["violence"].paired == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("lang", "text", "register", "counts"),
    [
        ("en", "word " * 39, "answer", False),
        ("en", "word " * 40, "answer", True),
        ("en", "word " * 150, "answer", True),
        ("en", "word " * 151, "answer", False),
        ("en", "word " * 80, "essay", False),
        ("zh", "字" * 59, "answer", False),
        ("zh", "字" * 60, "answer", True),
        ("ja", "字" * 260, "answer", True),
        ("zh", "字" * 261, "answer", False),
        ("th", "ก" * 159, "answer", False),
        ("th", "ก" * 160, "answer", True),
        ("th", "ก" * 761, "answer", False),
    ],
)
def test_an_answer_has_the_length_that_generators_write(lang, text, register, counts):
    found = measure_corpus([item(text, lang=lang, register=register)]).languages[lang].answers
    assert found == float(counts)


def test_answers_are_a_share_of_frames_and_contexts_a_share_of_rows():
    slot = [item(f"x {n}", wording="x {group}", pair=str(n), context="why?") for n in range(3)]
    found = measure_corpus([*slot, item("word " * 60, register="answer")]).labels["violence"]
    assert found.answers == pytest.approx(1 / 2)
    assert found.context == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([item("one two three"), item("one two three", pair="other", context="why?")], None),
        ([item("abcdef"), item("ghijkl")], 0.0),
        ([item("abcdef ghi"), item("abcdef ghi!")], 0.75),
        ([item("abcdef ghi", pair="1"), item("abcdef ghi!", pair="1")], None),
        ([item("abcdef", wording="{group} abcdef"), item("ghijkl", wording="{group} ghijkl")], 0.0),
        ([item("a"), item("b")], 0.0),
        ([item("abcdef", lang="en"), item("abcdef", lang="de", pair="2")], None),
        ([item("abcdef", label="violence"), item("abcdef", label="insult", pair="2")], None),
    ],
)
def test_similarity_compares_frames_of_one_label_and_language_in_other_groups(rows, expected):
    found = [cell.similarity for cells in measure_corpus(rows).cells.values() for cell in cells.values()]
    assert found == [None] * len(found) if expected is None else found == [pytest.approx(expected, abs=0.15)]


def test_similarity_of_a_label_is_the_mean_over_the_frames_of_its_cells():
    near = [item("the same words here", pair="1"), item("the same words here!", pair="2")]
    far = [item(text, lang="de", pair=text) for text in ("abc", "def", "ghi", "jkl")]
    corpus = measure_corpus([*near, *far])
    cells = corpus.cells["violence"]
    assert cells["de"].similarity == 0
    assert corpus.labels["violence"].similarity == pytest.approx(cells["en"].similarity * 2 / 6)
    assert corpus.languages["en"].similarity == cells["en"].similarity


# --- the command


@pytest.fixture
def stats(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run ``fineline data stats`` on the small corpus and return what it prints."""
    monkeypatch.delenv("FINELINE_MIRROR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(readers, "CORPUS_DIR", folder)
    monkeypatch.setattr(commands, "load_corpus", partial(load_corpus, folder))

    def run(*words: str) -> str:
        result = CliRunner().invoke(commands.app, ["stats", *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_the_command_needs_no_mirror_and_says_what_is_missing(stats):
    shown = stats()
    assert "Not in the mirror, not counted: cold" in shown
    assert all(part in shown for part in ("Rows by act", "discrimination/age", "counter_speech", "authored"))


def test_the_tables_fit_a_hundred_columns_and_cut_nothing(stats):
    shown = stats("--sources", "authored")
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_the_numbers_are_written_as_json(stats, tmp_path: Path):
    stats("--sources", "authored", "--json", str(tmp_path / "new" / "stats.json"))
    found = json.loads((tmp_path / "new" / "stats.json").read_text(encoding="utf-8"))
    rows, held_back = found["rows"]["all"], found["rows"]["held_back"]
    assert rows["flagged"] + rows["lawful"] + held_back == 12
    assert found["corpus"]["cells"]["discrimination/age"]["en"]["frames"] == 2
    assert found["missing"] == []
