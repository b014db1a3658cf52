"""The authored corpus: whole, free of duplicates, personal data and evaluation texts; and how bad files are refused."""

import re
from collections import Counter
from pathlib import Path

import pytest

from fineline.taxonomy import load_taxonomy
from fineline_training.composition import FRAME_LIMIT
from fineline_training.corpus import CorpusError, load_acts, load_corpus, load_file
from fineline_training.corpus.loader import CORPUS_DIR, FRAMES_PER_TERM
from fineline_training.leakage import cached_key, load_digests
from fineline_training.personal import find_personal

IDS = load_taxonomy().ids
LANGS = "zh en es fr de pt it nl pl ru tr ar hi ja ko vi id th".split()
FILES = sorted(CORPUS_DIR.rglob("*.yaml"))
LAWFUL = (
    *("report", "criticism", "history", "scholarship", "fiction", "satire", "law", "testimony", "counter_speech"),
    *("quote", "question", "advice", "figurative"),
)
"""Lawful acts that every topic has; a word of one's own to reclaim, say, exists on few."""
LONG_NUMBER = re.compile(r"(?<!\d)\+?\(?\d(?:[ ().·/-]{0,2}\d){8,}")
"""Nine digits or more, however they are grouped: phone, identity, card and account numbers of any country."""
FICTIONAL = re.compile(r"0{7}\d?$|55501\d\d$|^(?:44|0)?7700900\d{3}$")
"""Zeros for a filler, and the ranges that regulators keep for fiction."""


def real_looking(text: str) -> list[str]:
    """Long numbers in a text that could be somebody's."""
    found = LONG_NUMBER.findall(text)
    return [number for number in found if not FICTIONAL.search(re.sub(r"\D", "", number))]


@pytest.fixture(scope="module")
def items():
    return load_corpus()


def test_every_file_gives_items_with_known_acts_and_labels(items):
    assert {item.file for item in items} == {path.relative_to(CORPUS_DIR).as_posix() for path in FILES}
    assert len(items) > 5000
    for item in items:
        assert item.act in load_acts(), item.file
        assert item.topic in IDS, item.file
        assert set(item.labels) <= set(IDS), item.file
        assert bool(item.labels) is item.flagged is load_acts()[item.act].flagged, item.file
        assert len(set(item.labels)) == len(item.labels), item.file
        assert item.lang == item.file.split("/")[0], item.file
        assert "{group}" not in item.text + (item.context or ""), item.file
        assert item.text == item.text.strip(), item.file


def test_every_language_and_label_is_written_for(items):
    flagged = Counter((item.lang, label) for item in items for label in item.labels)
    lawful = Counter((item.lang, item.topic) for item in items if not item.flagged)
    assert set(LANGS) == {item.lang for item in items}
    assert not [(lang, label) for lang in LANGS for label in IDS if not flagged[lang, label]]
    assert not [
        (lang, label) for lang in ("zh", "en") for label in IDS if flagged[lang, label] < 20 or lawful[lang, label] < 20
    ]


def test_no_text_stands_twice(items):
    seen = Counter((cached_key(item.text), cached_key(item.context or "")) for item in items)
    files = {(cached_key(item.text), cached_key(item.context or "")): item.file for item in items}
    assert not {files[key]: count for key, count in seen.items() if count > 1}


def test_no_text_holds_personal_data(items):
    found = [
        (item.file, find_personal(part))
        for item in items
        for part in (item.text, item.context or "")
        if find_personal(part)
    ]
    assert not found


def test_a_long_number_is_plainly_made_up(items):
    found = [(item.file, real_looking(f"{item.text}\n{item.context or ''}")) for item in items]
    assert not [(file, numbers) for file, numbers in found if numbers]


@pytest.mark.parametrize(
    "number",
    [
        "13800138000", "110101199003077758", "0151 2345 6789", "06 12 34 56 78", "612 345 678", "+48 612-345-678",
        "123.456.789-09", "(11) 91234-5678", "12345678901", "8 (912) 345-67-89", "900101-1234567", "010-1234-5678",
        "090-1234-5678", "98765 43210", "1234 5678 9012", "0912345678", "1-2345-67890-12-1", "4929 1234 5678 9012",
    ],
)  # fmt: skip
def test_numbers_of_many_countries_look_real(number):
    assert real_looking(f"call {number} now") == [number]


@pytest.mark.parametrize(
    "number",
    ["000-0000-0000", "0900-000-000", "0-0000-00000-00-0", "(212) 555-0142", "07700 900123", "12,500", "2026-11-22"],
)
def test_made_up_numbers_and_other_figures_pass(number):
    assert real_looking(f"call {number} now") == []


def test_no_text_is_an_evaluation_text(items):
    known = load_digests()
    assert not [item.file for item in items if item.text in known or (item.context and item.context in known)]


def test_four_in_ten_texts_stand_in_contrasting_pairs(items):
    verdicts: dict[str, set[bool]] = {}
    for item in items:
        verdicts.setdefault(item.pair, set()).add(item.flagged)
    contrasting = sum(len(verdicts[item.pair]) == 2 for item in items)
    assert contrasting / len(items) >= 0.4


def test_expansions_of_one_frame_share_its_frame_and_not_their_pair(items):
    filled = [item for item in items if item.target and item.pair != item.frame]
    assert len(filled) > 500
    frames_of = {}
    for item in filled:
        assert frames_of.setdefault(item.pair, item.frame) == item.frame
    per_term: dict[tuple[str, str, str], set[str]] = {}
    for item in filled:
        per_term.setdefault((item.file, item.topic, item.target), set()).add(item.frame)
    assert min(len(frames) for frames in per_term.values()) >= FRAMES_PER_TERM


def test_no_frame_gives_more_than_its_share_of_a_labels_rows(items):
    rows = Counter(label for item in items for label in item.labels or (item.topic,))
    frames = Counter((label, item.lang, item.wording) for item in items for label in item.labels or (item.topic,))
    too_big = {frame: count for frame, count in frames.items() if count > FRAME_LIMIT * rows[frame[0]]}
    assert not too_big


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_every_label_has_every_lawful_act(items, lang):
    written = {(item.topic, item.act) for item in items if item.lang == lang}
    assert not [(label, act) for label in IDS for act in LAWFUL if (label, act) not in written]


def test_loading_twice_gives_the_same_items(items):
    path = next(path for path in FILES if "identity" in path.name)
    again = load_file(path)
    assert again == [item for item in items if item.file == path.relative_to(CORPUS_DIR).as_posix()]


# --- files that break a rule

GOOD = """
lang: en
writer: a tester
label: violence
items:
  - register: chat
    threaten: "Tell anyone and I will break your arm."
    testimony: ["He said he would break my arm.", {text: "She said so too.", context: "What happened?"}]
terms:
  discrimination/age: [the old, the young]
frames:
  - threaten: "I will hurt {group}."
    testimony: "They hurt {group}."
"""


def load(tmp_path: Path, text: str):
    file = tmp_path / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return load_file(file, tmp_path)


def test_a_file_becomes_items(tmp_path):
    items = load(tmp_path, GOOD)
    assert [item.flagged for item in items] == [True, False, False] + [True, False] * 2
    assert len({item.pair for item in items[:3]}) == 1
    assert items[2].context == "What happened?"
    assert [item.text for item in items[3:5]] == ["I will hurt the old.", "They hurt the old."]
    assert items[3].labels == ("discrimination/age",)
    assert items[4].labels == ()
    assert items[3].pair != items[5].pair
    assert items[3].frame == items[5].frame


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('threaten: "Tell', 'shout: "Tell', "'shout' is neither an act nor a field"),
        ("register: chat", "register: tweet", "unknown register 'tweet'"),
        ("lang: en\n", "", "needs 'lang'"),
        ("writer:", "author:", "unknown header field 'author'"),
        ("writer:", "aimed: 1\nwriter:", "'aimed' must be true or false"),
        ("label: violence\n", "", "no label"),
        ('{text: "She said so too.", ', '{text: "", ', "needs a text"),
        ('context: "What happened?"', 'why: "x"', "unknown field 'why'"),
        ('threaten: "I will hurt {group}."', 'threaten: "I will hurt you."', "needs the slot"),
        ('"Tell anyone', '"Tell "anyone', "line 7: not valid YAML"),
        ('"He said he would break my arm."', "3", "needs a text in quotes"),
    ],
)
def test_a_file_that_breaks_a_rule_is_named_with_the_remedy(tmp_path, old, new, said):
    assert old in GOOD
    with pytest.raises(CorpusError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(caught.value).startswith("mine.yaml")
