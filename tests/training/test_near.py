"""Near copies of evaluation texts: what is found, what is not, and that the committed file is whole."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline.errors import DataError
from fineline_training.corpus.loader import CORPUS_DIR, load_file
from fineline_training.labels.near import (
    FEWEST,
    NEAR,
    SKETCHES_FILE,
    NearIndex,
    load_sketches,
    shingles,
    sketch,
    write_sketches,
)
from fineline_training.leakage import bank_texts
from fineline_training.records import Record

NOTHING = NearIndex([])
ENGLISH = "The quick committee met on Tuesday to talk about the new playground behind the old library."
CHINESE = "委员会星期二开会讨论旧图书馆后面新建的儿童游乐场应该由谁来维护和出资。"
MEGABYTES = 3
_HAN = re.compile("[\u3040-\u9fff\uac00-\ud7a3]")
_FILLERS = {"": ("可能", "大家", "今天"), " ": ("really", "maybe", "today", "people")}


def words(text: str) -> tuple[list[str], str]:
    """Words and what joins them; two characters count as a word where no spaces are written."""
    if len(_HAN.findall(text)) > len(text) / 3:
        return [text[at : at + 2] for at in range(0, len(text), 2)], ""
    return text.split(), " "


def replaced(text: str, rng: random.Random) -> str:
    found, space = words(text)
    found[rng.randrange(len(found))] = rng.choice(_FILLERS[space])
    return space.join(found)


def inserted(text: str, rng: random.Random) -> str:
    found, space = words(text)
    found.insert(rng.randrange(len(found) + 1), rng.choice(_FILLERS[space]))
    return space.join(found)


def dropped(text: str, rng: random.Random) -> str:
    found, space = words(text)
    found.pop(rng.randrange(len(found)))
    return space.join(found)


def quoted(text: str, rng: random.Random) -> str:
    return f"Somebody wrote this to me last night: {text} What should I answer to that? 你怎么看？"


def cut(text: str, rng: random.Random) -> str:
    found, space = words(text)
    return space.join(found[: round(len(found) * 0.7)])


def turned(text: str, rng: random.Random) -> str:
    found, space = words(text)
    return space.join(found[len(found) // 2 :] + found[: len(found) // 2])


def mistyped(text: str, rng: random.Random) -> str:
    return "".join("e" if char.isalpha() and rng.random() < 0.05 else char for char in text)


@pytest.fixture(scope="module")
def committed() -> NearIndex:
    return load_sketches()


@pytest.fixture(scope="module")
def banks() -> list[str]:
    """Bank texts of 24 shingles or more, 300 of all languages."""
    return random.Random(3).sample([text for text in bank_texts() if len(shingles(text)) >= 24], 300)


@pytest.mark.parametrize(
    ("edit", "recall"),
    [(replaced, 0.95), (inserted, 0.97), (dropped, 0.95), (quoted, 0.99), (cut, 0.93), (turned, 0.97), (mistyped, 0.9)],
)
def test_edited_copies_of_evaluation_texts_are_found(
    committed: NearIndex, banks: list[str], edit: Callable[[str, random.Random], str], recall: float
) -> None:
    rng = random.Random(7)
    found = [committed.overlap(edit(text, rng)) >= NEAR for text in banks]
    assert np.mean(found) >= recall


def test_the_training_corpus_raises_few_false_alarms(committed: NearIndex) -> None:
    files = sorted(CORPUS_DIR.glob("*/violence*.yaml"))
    texts = [item.text for file in files for item in load_file(file)]
    assert len(texts) > 500
    assert sum(committed.overlap(text) >= NEAR for text in texts) <= 0.003 * len(texts)


def test_committed_file_holds_every_bank_text_and_stays_small(committed: NearIndex) -> None:
    assert len(committed) > 30_000
    assert SKETCHES_FILE.stat().st_size < MEGABYTES * 1_000_000
    long_enough = [text for text in bank_texts() if len(shingles(text)) >= FEWEST]
    # A bank that changed wants `python -m fineline_training.labels.near`.
    assert [text for text in long_enough if committed.overlap(text) < 1] == []


def test_what_normalisation_folds_is_the_same_text() -> None:
    index = NOTHING.with_texts([ENGLISH, CHINESE])
    assert index.overlap(ENGLISH.upper().replace("o", "о")) == 1  # a Cyrillic o
    assert index.overlap("委員會星期二開會討論舊圖書館後面新建的兒童遊樂場應該由誰來維護和出資") == 1


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_text_and_context_count(text: str) -> None:
    index = NOTHING.with_texts([text])
    other = "Something else altogether, long enough to be compared with."
    assert index.holds(Record(text=f"{text} Thanks!", lang="und", labels={}, source="s"))
    assert index.holds(Record(text=other, context=f"Hello. {text}", lang="und", labels={}, source="s"))
    assert not index.holds(Record(text=other, lang="und", labels={}, source="s"))


def test_short_texts_have_no_near_copies() -> None:
    index = NOTHING.with_texts(["I hate you", "Yes, of course I will."])
    assert len(index) == 1
    assert index.overlap("I hate you so") == 0
    assert index.overlap("Yes, of course I will!!") == 1
    assert index.overlap("I told her that yes, of course I will come, and bring the children along too.") < NEAR


def test_a_long_document_is_no_near_copy_by_chance(committed: NearIndex, rng: np.random.Generator) -> None:
    words_of_nobody = ("".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(20_000))
    assert committed.overlap(" ".join(words_of_nobody)) < NEAR


def test_file_does_not_depend_on_the_order_of_texts(tmp_path: Path) -> None:
    texts = [f"Sentence number {number} of a suite, {number * 7} words on." for number in range(60)]
    assert write_sketches(texts, tmp_path / "a.bin") == 60
    write_sketches([*reversed(texts), texts[0]], tmp_path / "b.bin")
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.bin").read_bytes()
    read = load_sketches(tmp_path / "a.bin")
    assert [read.overlap(text) for text in texts] == [NOTHING.with_texts(texts).overlap(text) for text in texts]
    assert min(read.overlap(text) for text in texts) == 1


def test_damaged_and_stale_files_are_refused(tmp_path: Path) -> None:
    write_sketches([ENGLISH], tmp_path / "good.bin")
    good = (tmp_path / "good.bin").read_bytes()
    without_canary = sketch(ENGLISH)
    stale = (1).to_bytes(4, "little") + without_canary.size.to_bytes(2, "little")
    stale += b"".join(value.to_bytes(3, "little") for value in without_canary.hashes)
    bad = {"cut": good[:-3], "torn": good[:-1], "empty": b"", "header": good[:4], "stale": stale}
    for name, content in bad.items():
        (tmp_path / f"{name}.bin").write_bytes(content)
        with pytest.raises(DataError) as caught:
            load_sketches(tmp_path / f"{name}.bin")
        assert caught.value.code == ("sketches_stale" if name == "stale" else "sketches_missing")
    with pytest.raises(DataError) as caught:
        load_sketches(tmp_path / "none.bin")
    assert caught.value.code == "sketches_missing"


def test_a_folder_without_banks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(bank_texts(tmp_path))
    assert caught.value.code == "banks_missing"


@given(st.text())
def test_any_text_has_shingles_and_an_overlap(text: str) -> None:
    hashes = shingles(text)
    assert (np.diff(hashes.astype(np.int64)) > 0).all()
    assert NOTHING.with_texts([text]).overlap(text) == (1 if len(hashes) >= FEWEST else 0)
