"""The normaliser: total, idempotent, exact in its offsets, linear in time; what it folds and what it leaves alone."""

import json
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineline import text as module
from fineline.text import View, match_key, normalise

# Pieces that the rules react to, so that random texts reach rules on top of rules.
PIECES = (
    *"abcdeAZ0134579@$! \n\t.-_*|/~+·",
    *"ａＢ１　！ﬁ①㍿ｶﾞ",
    *"а е о р с х В Н қ α ο".split(),
    *"é e\u0301 \u0344 \u0300 \u0316 \u0323 ᄀ ᅡ ᆨ 가 が か\u3099 क\u093c".split(),
    *"\u200b \u200d \u202e \u00ad \ufe0f \ufeff \U000e0041 \x00 \x1b \x85 \u2028 \u3164".split(" "),
    *"乾干國国說说丟並 \uf900 \U0002f800 東京 のアㄅ".split(),
    *"\ud800 \udfff 😀 👩‍👩‍👧 \U0010ffff".split(),
    *"aaaa !!!! a.b.c.d h3ll0 w0rld p@y 哈哈哈哈 乾乾干干 f r e e".split(" "),
)
texts = st.one_of(
    st.text(st.characters(exclude_categories=())),
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join),
    st.lists(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=())), max_size=12).map("".join),
)
views = st.sampled_from(list(View))
many = settings(max_examples=400, deadline=None)


@many
@given(texts, views)
def test_any_string_gives_an_encodable_view(text, view):
    aligned = normalise(text, view)
    aligned.text.encode()
    assert aligned.source_length == len(text)


@many
@given(texts, views)
def test_normalising_twice_changes_nothing_more(text, view):
    once = normalise(text, view).text
    assert normalise(once, view).text == once


@pytest.mark.parametrize(
    "text", ["乾乾干干", "ＡＡＡＡ", "f\u200br\u200be e e e", "ｈ３ｌｌ０", "ᄀ\u200bᅡ 國國国国", "\u0344" * 40]
)
def test_normalising_twice_changes_nothing_more_where_one_fold_uncovers_another(text):
    once = normalise(text).text
    assert normalise(once).text == once


@many
@given(texts, views)
def test_offsets_lie_in_the_source_in_order(text, view):
    aligned = normalise(text, view)
    assert len(aligned.starts) == len(aligned.ends) == len(aligned.text)
    assert all(0 <= low < high <= len(text) for low, high in zip(aligned.starts, aligned.ends, strict=True))
    assert list(aligned.starts) == sorted(aligned.starts)
    assert list(aligned.ends) == sorted(aligned.ends)


@many
@given(texts)
def test_the_raw_view_is_the_text_itself(text):
    aligned = normalise(text, View.RAW)
    assert len(aligned.text) == len(text)
    assert all(
        new == old or (new, "\ud800" <= old <= "\udfff") == ("\ufffd", True)
        for new, old in zip(aligned.text, text, strict=True)
    )
    assert list(aligned.starts) == list(range(len(text)))
    assert list(aligned.ends) == list(range(1, len(text) + 1))


@many
@given(st.text("abcdefg XYZ,中文字符", max_size=30).filter(lambda t: normalise(t).text == t))
def test_unchanged_text_maps_onto_itself(text):
    aligned = normalise(text)
    assert list(aligned.starts) == list(range(len(text)))
    assert list(aligned.ends) == list(range(1, len(text) + 1))


@pytest.mark.parametrize(
    ("text", "found", "source"),
    [
        ("say \u202eb\u200ba\u200bd now", "bad", "b\u200ba\u200bd"),
        ("x ﬁne y", "fi", "ﬁ"),
        ("x 說話 y", "说", "說"),
        ("do k.i.l.l it", "kill", "k.i.l.l"),
        ("nooooooo way", "ooo", "ooooooo"),
        ("cafe\u0301 now", "é", "e\u0301"),
        ("pаy me", "pay", "pаy"),
    ],
)
def test_a_span_of_the_view_points_at_what_was_written(text, found, source):
    aligned = normalise(text)
    at = aligned.text.index(found)
    low, high = aligned.span(at, at + len(found))
    assert text[low:high] == source


@pytest.mark.parametrize(("start", "expected"), [(0, (4, 4)), (2, (6, 6)), (99, (8, 8))])
def test_an_empty_span_stays_empty(start, expected):
    aligned = normalise("\u200b\u200b\u200b\u200bab\u200bc")
    assert aligned.span(start, start) == ((7, 7) if start == 2 else expected)


@many
@given(texts)
def test_the_compatibility_step_equals_unicodes_own(text):
    raw = normalise(text, View.RAW)
    assert module._nfkc(raw).text == unicodedata.normalize("NFKC", raw.text)


def test_every_character_alone_and_behind_a_letter_is_composed_as_unicode_does():
    wrong = []
    for code in [
        *range(0x3000),
        *range(0xA000, 0xD800),
        *range(0xF900, 0x11A00),
        *range(0x1D000, 0x1F200),
        *range(0x2F800, 0x2FA20),
    ]:
        text = f"a{chr(code)}\u0323{chr(code)}"
        if module._nfkc(normalise(text, View.RAW)).text != unicodedata.normalize("NFKC", text):
            wrong.append(hex(code))
    assert not wrong


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ｋｉｌｌ", "kill"),
        ("k\u200bi\u200cl\u200dl", "kill"),
        ("k\u00adill", "kill"),
        ("\u202ekill\u202c", "kill"),
        ("ki\ufe0fll", "kill"),
        ("\U000e006b\U000e0069kill", "kill"),
        ("k i l l him", "kill him"),
        ("k.i.l.l", "kill"),
        ("k-i-l-l", "kill"),
        ("k_i_l_l", "kill"),
        ("杀*人*放*火", "杀人放火"),
        ("kiiiiiiill", "kiiill"),
        ("滚滚滚滚滚滚", "滚滚滚"),
        ("stop!!!!!!!!!", "stop!!!"),
        ("kіll", "kill"),
        ("ρay", "pay"),
        ("привeт", "привет"),
        ("k1ll", "kill"),
        ("h4t3rs", "haters"),
        ("st4rving", "starving"),
        ("p@y m0ney", "p@y money"),
        ("a   b\t\tc", "a b c"),
        ("a \n\n\n\n b", "a\n\nb"),
        ("①②", "12"),
        ("𝖐𝖎𝖑𝖑", "kill"),
        ("ⓚⓘⓛⓛ", "kill"),
        ("ｶﾞ", "ガ"),
        ("a\ud800b", "a\ufffdb"),
        ("說國語", "说国语"),
        ("ـكـلام", "كلام"),
    ],
)
def test_an_evasion_is_folded(written, read):
    assert normalise(written).text == read


@pytest.mark.parametrize(
    "text",
    [
        "Meet me at 10:30, room 4b.",
        "It costs $5, or 3 for $10!",
        "A 5x5 grid and an mp3 file",
        "e.g. the U.S. economy",
        "aaa ... !!!",
        "100000000 people",
        "привет, как дела?",
        "Καλημέρα κόσμε",
        "e-mail_address v2.0",
        "नमस्ते दुनिया",
        "สวัสดีครับ",
        "안녕하세요",
        "हिन्दी में क़लम",
        "Ünïcödé",
        "😀👍🏽",
    ],
)
def test_ordinary_writing_is_left_alone(text):
    expected = unicodedata.normalize("NFKC", text)
    assert normalise(text).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("國語と學校", "國語と學校"),
        ("學校ｶﾅ", "學校カナ"),
        ("學校 한국", "學校 한국"),
        ("ᄒ\u200bᅡᆫ 國", "한 國"),
        ("國語學校", "国语学校"),
    ],
)
def test_chinese_is_simplified_and_japanese_and_korean_are_not(text, expected):
    assert normalise(text).text == expected
    assert normalise(text, View.NORMALISED).text == unicodedata.normalize("NFKC", text.replace("\u200b", ""))


@pytest.mark.parametrize(
    "unit",
    [
        "!@",
        "a!!",
        "a!2",
        "\u0300\u0316",
        " ",
        " \n",
        "a0",
        "a_b_",
        "乾干",
        "ｈ",
        "a.b ",
        "\u0344",
        "ᅡ",
        "\u200ba",
        "@a0",
    ],
)
def test_a_megabyte_of_a_hostile_pattern_takes_seconds(unit):
    text = unit * (1_000_000 // len(unit)) + "_"
    began = time.process_time()
    normalise(text)
    assert time.process_time() - began < 20


def test_rows_of_marks_are_cut_to_the_stream_safe_length():
    text = "a" + "\u0316\u0300" * 40 + "b"
    aligned = normalise(text, View.NORMALISED)
    assert len(aligned.text) <= 32
    assert aligned.text.endswith("b")
    assert (aligned.starts[-1], aligned.ends[-1]) == (81, 82)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Hello,  World!", "hello world", True),
        ("說話。", "说话", True),
        ("ＨＥＬＬＯ", "hello", True),
        ("hello", "hallo", False),
        ("!?", "!?", True),
        ("!?", "?!", False),
        ("नमस्ते", "नमसत", False),
        ("😀", "😡", False),
    ],
)
def test_match_keys_join_what_reads_the_same(one, other, same):
    assert (match_key(one) == match_key(other)) is same


def test_the_character_tables_are_those_of_the_installed_data():
    pytest.importorskip("opencc")
    pytest.importorskip("confusable_homoglyphs")
    from fineline_training.tables import TABLES_FILE, build_tables

    assert json.loads(TABLES_FILE.read_text(encoding="utf-8")) == build_tables()
