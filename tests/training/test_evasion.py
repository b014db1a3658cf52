"""Hidden words: total, reproducible, felt in every language, and undone by the normaliser where it claims so."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline.text import normalise
from fineline_training.evasion import Evasion, evade, evasions_of

SENTENCES = {
    "zh": "他们昨天在学校门口说了很难听的话，我们都觉得应该把这件事情讲清楚。",
    "en": "Yesterday somebody shouted terrible things outside the school and nobody answered.",
    "es": "Ayer alguien gritó cosas terribles delante de la escuela y nadie contestó.",
    "fr": "Hier quelqu'un criait des choses terribles devant l'école et personne ne répondait.",
    "de": "Gestern schrie jemand schreckliche Dinge vor der Schule und niemand antwortete.",
    "pt": "Ontem alguém gritou coisas terríveis diante da escola e ninguém respondeu.",
    "it": "Ieri qualcuno gridava cose terribili davanti alla scuola e nessuno rispondeva.",
    "nl": "Gisteren schreeuwde iemand vreselijke dingen voor de school en niemand antwoordde.",
    "pl": "Wczoraj ktoś krzyczał straszne rzeczy przed szkołą i nikt nie odpowiedział.",
    "ru": "Вчера кто-то кричал ужасные вещи перед школой, и никто ничего не ответил.",
    "tr": "Dün birisi okulun önünde korkunç şeyler bağırdı ve kimse cevap vermedi.",
    "ar": "أمس صرخ أحدهم بكلمات فظيعة أمام المدرسة ولم يجبه أحد من الحاضرين.",
    "hi": "कल किसी ने विद्यालय के सामने भयानक बातें चिल्लाकर कहीं और किसीने उत्तर नहीं दिया।",
    "ja": "昨日、学校の前で誰かがひどいことを叫んだが、誰も答えなかった。",
    "ko": "어제누군가가 학교앞에서 끔찍한말을 외쳤지만 아무도대답하지 않았습니다.",
    "vi": "Hôm qua, trong khi đang xem phim, anh Thanh nghe thông báo loan tin sai cho nhanh.",
    "id": "Kemarin seseorang meneriakkan hal-hal mengerikan depan sekolah tetapi tidak ada yang menjawab.",
    "th": "เมื่อวานมีคนตะโกนคำพูดที่น่ากลัวหน้าโรงเรียนแต่ไม่มีใครตอบ",
}
ENGLISH = (
    SENTENCES["en"],
    "Tell the neighbours that their children played wonderfully.",
    "Please return the borrowed umbrella before Thursday evening.",
    "Everything about this restaurant is charming, especially the garden.",
)
LEET = "Children played behind paper boxed cinnamon one warm morning."
"""No digit of its words at an end or beside another: those the normaliser leaves alone, as "B2B" and "1984" are."""
CHINESE = (
    SENTENCES["zh"],
    "邻居家的孩子弹钢琴弹得真好，请替我转告他们。",
    "请在星期四晚上之前把借走的雨伞还给图书馆。",
    "这家饭馆后面的院子很漂亮，我们坐到很晚才回家。",
)
SEEDS = range(10)
kinds = st.sampled_from(list(Evasion))
seeds = st.integers(0, 10**6)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(), st.sampled_from(list(SENTENCES.values()))), kinds, seeds, st.floats(0, 1))
def test_any_text_survives_any_kind_and_a_seed_decides(text, kind, seed, share):
    changed = evade(text, kind, random.Random(seed), share)
    changed.encode()
    assert evade(text, kind, random.Random(seed), share) == changed


@pytest.mark.parametrize(("lang", "kind"), [(lang, kind) for lang in SENTENCES for kind in evasions_of(lang)])
def test_a_kind_changes_a_suitable_text_of_every_language_it_is_named_for(lang, kind):
    text = SENTENCES[lang]
    changed = [evade(text, kind, random.Random(seed)) != text for seed in SEEDS]
    assert sum(changed) >= 0.8 * len(SEEDS), "a rare letter or character has no double"


@pytest.mark.parametrize("lang", SENTENCES)
def test_every_language_has_kinds_and_no_kind_twice(lang):
    found = evasions_of(lang)
    assert len(found) >= 2
    assert len(set(found)) == len(found)


def test_a_script_without_the_kinds_letters_is_left_alone():
    assert evade(SENTENCES["ar"], Evasion.LEET, random.Random(1)) == SENTENCES["ar"]
    assert evade(SENTENCES["en"], Evasion.PINYIN, random.Random(1)) == SENTENCES["en"]


def test_a_larger_share_changes_more():
    def changed(share: float) -> int:
        hidden = evade(SENTENCES["zh"], Evasion.HOMOPHONE, random.Random(3), share)
        return sum(one != other for one, other in zip(SENTENCES["zh"], hidden, strict=True))

    assert 0 < changed(0.05) < changed(0.4) < changed(0.9)


@settings(deadline=None)
@given(
    st.sampled_from([Evasion.ZERO_WIDTH, Evasion.FULL_WIDTH, Evasion.SPACING, Evasion.LOOKALIKE]),
    st.sampled_from(ENGLISH),
    seeds,
)
def test_the_normaliser_undoes_what_it_claims_to_in_english(kind, text, seed):
    # One word at a time: of two neighbours spelled out, nobody can say where one ends.
    changed = evade(text, kind, random.Random(seed), share=0.0)
    assert normalise(changed).text == normalise(text).text


@settings(deadline=None)
@given(seeds, st.floats(0, 1))
def test_the_normaliser_undoes_digits_inside_words(seed, share):
    changed = evade(LEET, Evasion.LEET, random.Random(seed), share)
    assert changed.lower() != LEET.lower()
    assert normalise(changed).text.lower() == LEET.lower()


@pytest.mark.parametrize("text", CHINESE)
def test_the_normaliser_undoes_traditional_writing(text):
    changed = evade(text, Evasion.TRADITIONAL, random.Random(0))
    assert changed != text
    assert normalise(changed).text == normalise(text).text
