"""The annotation guide: which examples are chosen, that it names only what exists, and that the files are fresh."""

import re
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fineline.taxonomy import load_taxonomy
from fineline_training.commands import data as commands
from fineline_training.corpus import Item, load_acts, load_corpus
from fineline_training.guide import GUIDES, context_pairs, label_pairs, render_guide

FOLDER = Path(__file__).parents[2] / "training" / "annotation"
LONG = "And nobody in this street will come to help. " * 2
CORPUS = """
lang: en
writer: a tester
label: violence
items:
  - threaten: "I will break your arm tonight, tomorrow or any other night that suits me. LONG"
    testimony: "He said he would break my arm tonight, tomorrow or any other night that suited him. LONG"
  - threaten: ["I will break your *left* arm.", "See you at the gate."]
    testimony: ["Thank you for the lift to the hospital.", "He said he will break my left arm."]
  - threaten: "I will burn your shed."
    report: "Somebody will burn your shed, police say."
  - incite: "Beat them at the gate on Monday."
    political: "Outvote them at the gate on Monday."
  - celebrate: "So he broke his leg. Good."
    everyday: "A parcel came."
  - incite: {text: "Do it at once, my friend.", context: "Shall I hit him?"}
    advice: {text: "Do it at once, my friend.", context: "Shall I see a doctor?"}
  - report: "A man was hit."
  - labels: [insult, violence]
    abuse: "You worm, I will flatten you."
    testimony: "You worm, he said, I will flatten you."
terms:
  violence: [the neighbours]
frames:
  - {threaten: "I will hurt {group}.", report: "They hurt {group}."}
""".replace("LONG", LONG)
WORDS_OF_THE_FORM = set(
    "decisions.md known labels note sure leaning open voice act target context language rule".split()
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.yaml").write_text(CORPUS, encoding="utf-8")
    return tmp_path / "corpus"


@pytest.fixture
def items(folder: Path) -> list[Item]:
    return load_corpus(folder)


def texts(pairs) -> list[tuple[str, str]]:
    return [(pair.flagged.text, pair.lawful.text) for pair in pairs]


def test_examples_are_the_most_alike_short_texts_of_a_group_each_act_in_turn(items):
    assert texts(label_pairs(items, "violence", "en")) == [
        ("I will break your *left* arm.", "He said he will break my left arm."),
        ("Beat them at the gate on Monday.", "Outvote them at the gate on Monday."),
        ("I will burn your shed.", "Somebody will burn your shed, police say."),
    ]


def test_as_many_examples_as_asked_for_and_none_invented(items):
    assert len(label_pairs(items, "violence", "en", count=1)) == 1
    assert len(label_pairs(items, "violence", "en", count=9)) == 3
    assert texts(label_pairs(items, "insult", "en")) == [
        ("You worm, I will flatten you.", "You worm, he said, I will flatten you.")
    ]
    assert label_pairs(items, "violence", "zh") == []


def test_a_context_pair_has_equal_texts_and_two_verdicts(items):
    (pair,) = context_pairs(items, "en")
    assert pair.flagged.text == pair.lawful.text
    assert (pair.flagged.context, pair.lawful.context) == ("Shall I hit him?", "Shall I see a doctor?")


@pytest.mark.parametrize("lang", GUIDES)
def test_a_guide_names_every_label_and_act_and_nothing_that_does_not_exist(items, lang):
    guide = render_guide(lang, items)
    known = {*load_taxonomy().ids, *load_acts()}
    named = set(re.findall(r"`([a-z_/.]+)`", guide))
    assert known <= named
    assert named - known <= WORDS_OF_THE_FORM
    for label in load_taxonomy():
        rules = (*label.flag, *label.never_flag) if lang == "en" else (*label.flag_zh, *label.never_flag_zh)
        assert all(rule in guide for rule in (label.definition if lang == "en" else label.definition_zh, *rules))


def test_the_two_guides_have_the_same_sections():
    english, chinese = (render_guide(lang, []) for lang in ("en", "zh"))
    for heading in ("## ", "### "):
        count = [sum(line.startswith(heading) for line in guide.splitlines()) for guide in (english, chinese)]
        assert count[0] == count[1] > 5


def test_a_text_cannot_break_the_layout(items):
    assert r": I will break your \*left\* arm." in render_guide("en", items)
    tables = re.findall(r"(?:^\|.*\n)+", render_guide("en", items), re.MULTILINE)
    assert len(tables) == 5
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)


def test_the_command_writes_both_guides(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(commands, "load_corpus", partial(load_corpus, folder))
    result = CliRunner().invoke(commands.app, ["guide", "--out", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    for lang, name in GUIDES.items():
        written = (tmp_path / "new" / name).read_text(encoding="utf-8")
        assert written == render_guide(lang, load_corpus(folder))


@pytest.mark.parametrize("lang", GUIDES)
def test_the_committed_guides_are_fresh(lang):
    """The taxonomy, the acts, a template or the corpus changed: run ``fineline data guide``."""
    fresh = render_guide(lang, load_corpus())
    assert (FOLDER / GUIDES[lang]).read_text(encoding="utf-8") == fresh, "run 'fineline data guide'"
