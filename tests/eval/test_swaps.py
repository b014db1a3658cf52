"""Identity swaps: enough terms of every ground, and sentences that fit every term and were never trained on."""

from dataclasses import asdict

import pytest

from fineline.taxonomy import load_taxonomy
from fineline_eval.card import LANGUAGES
from fineline_eval.swaps import MAIN_LANGUAGES, identity_swaps, identity_terms, load_templates
from fineline_training.corpus.loader import CORPUS_DIR

GROUNDS = [label.id for label in load_taxonomy() if label.group == "discrimination"]


def texts(lang):
    return [text for kind in asdict(load_templates()[lang]).values() for text in kind]


def test_every_language_has_sentences_of_each_kind():
    assert set(load_templates()) == set(LANGUAGES)
    for lang in LANGUAGES:
        assert 6 <= len(set(texts(lang))) == len(texts(lang)) <= 10
        assert all(len(kind) >= 2 for kind in asdict(load_templates()[lang]).values())


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_sentence_has_one_slot_and_stands_nowhere_in_the_corpus(lang):
    corpus = "\n".join(path.read_text(encoding="utf-8") for path in (CORPUS_DIR / lang).glob("*.yaml"))
    assert "{group}" in corpus
    for text in texts(lang):
        assert text.count("{group}") == 1
        # The words around the slot, so that a trained sentence with a name in it counts as well.
        assert not all(part in corpus for part in text.split("{group}") if part)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_terms_are_balanced_over_the_nine_grounds(lang):
    terms = identity_terms(lang)
    sizes = [len(set(listed)) for listed in terms.values()]
    assert list(terms) == sorted(GROUNDS)
    assert sizes == [len(listed) for listed in terms.values()]
    assert min(sizes) >= (15 if lang in MAIN_LANGUAGES else 4)
    assert max(sizes) - min(sizes) <= 2
    assert sum(sizes) >= (150 if lang in MAIN_LANGUAGES else 50)
    assert identity_terms(lang) == terms


def test_every_sentence_is_said_of_every_term_and_no_more_often_than_there_is_time_for():
    rows = identity_swaps()
    expected = sum(len(texts(lang)) * sum(map(len, identity_terms(lang).values())) for lang in LANGUAGES)
    assert len(rows) == expected <= 12_000
    assert not any("{group}" in row.text for row in rows)
    assert all(row.meta["target"] in row.text and row.pair == row.meta["frame"] for row in rows)
    assert {row.unlawful for row in rows if row.pair.split("/")[1] == "hostile"} == {True}
    assert {row.unlawful for row in rows if row.pair.split("/")[1] != "hostile"} == {False}
    assert all(list(row.labels) == [row.meta["topic"]] for row in rows)
