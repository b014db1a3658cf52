"""Text normalisation with an exact map back to the caller's offsets; the same code in training and serving.

Evasions change how a text is written, not what it does, so the model reads a normalised view: compatibility forms
folded (NFKC), invisible and bidirectional controls removed, stretched and spaced-out letters joined, look-alike letters
of other scripts folded inside a word, and, as a further view, traditional characters turned into simplified ones.
Verdicts point into the text as it was sent, so every view carries, for each of its characters, the span it came from.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NORMALISER_VERSION = "2"
_MAX_ROUNDS = 6
_MAX_MARKS = 30
"""Marks kept in a row, as in Unicode's stream-safe format: sorting an endless row of them takes quadratic time."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]+"
)
_SPACES = re.compile(r"[^\S\n]*\n[^\S\n]*(?:\n\s*)?|[^\S\n]{2,}|[^\S\n ]")
_STRETCHED = re.compile(r"([^\W\d]|[^\w\s])\1{3,}")
_LETTER = "[A-Za-z\u00c0-\u024f\u0400-\u04ff\u0620-\u064a\u4e00-\u9fff\uac00-\ud7a3]"
_SPACED_OUT = re.compile(rf"(?<!\w){_LETTER}([ .\-_*\u00b7|/~+]){_LETTER}(?:\1{_LETTER}){{2,}}(?!\w)")
_WORD = re.compile(r"[^\W_]+")
_LEET = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i"}
_LEET_IN_WORD = re.compile(r"(?<![^\W_])(?=[A-Za-z0-9@$!]{4})[A-Za-z]+(?:[013457@$!][A-Za-z]+)+(?!\w)")
_KANA_OR_HANGUL = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uac00-\ud7a3]")
_HAN = re.compile("[\u3400-\u9fff\U00020000-\U0002fa1f]")


class View(StrEnum):
    """How much of the writing is folded away."""

    RAW = "raw"
    NORMALISED = "normalised"
    SIMPLIFIED = "simplified"


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedText:
    """A view of a text with the source span of each of its characters.

    Attributes:
        text: The view; always encodable as UTF-8.
        starts: int64, shape (len(text),); offset of the first source character behind each character.
        ends: int64, shape (len(text),); offset after the last one.
        source_length: Length of the text the offsets point into, in characters.
    """

    text: str
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    source_length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Source span of ``text[start:end]``; an empty slice maps to an empty span."""
        if start >= end:
            at = int(self.starts[start]) if start < len(self.text) else self.source_length
            return at, at
        return int(self.starts[start:end].min()), int(self.ends[start:end].max())

    def rewrite(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> "AlignedText":
        """Replace matches; replaced characters map one to one where lengths agree, else to the whole match."""
        texts: list[str] = []
        starts: list[NDArray[np.int64]] = []
        ends: list[NDArray[np.int64]] = []
        done = 0
        for match in pattern.finditer(self.text):
            new, (low, high) = replace(match), match.span()
            if new == match.group():
                continue
            texts += [self.text[done:low], new]
            starts.append(self.starts[done:low])
            ends.append(self.ends[done:low])
            if len(new) == high - low:
                starts.append(self.starts[low:high])
                ends.append(self.ends[low:high])
            else:
                starts.append(np.full(len(new), self.starts[low:high].min()))
                ends.append(np.full(len(new), self.ends[low:high].max()))
            done = high
        if not texts:
            return self
        texts.append(self.text[done:])
        return AlignedText(
            text="".join(texts),
            starts=np.concatenate([*starts, self.starts[done:]]),
            ends=np.concatenate([*ends, self.ends[done:]]),
            source_length=self.source_length,
        )


class CharacterTables(NamedTuple):
    """Foldings of single characters.

    Attributes:
        latin: Letter of another script to the Latin letter it looks like.
        cyrillic: Latin letter to the Cyrillic letter it looks like.
        simplified: Code point of a traditional Chinese character to the simplified one, for ``str.translate``.
    """

    latin: dict[str, str]
    cyrillic: dict[str, str]
    simplified: dict[int, str]


@cache
def character_tables() -> CharacterTables:
    """The tables beside this module, built by ``fineline_training.tables``."""
    raw = json.loads(Path(__file__).with_name("data").joinpath("tables.json").read_text(encoding="utf-8"))
    to_latin = dict(zip(raw["confusable"], raw["latin"], strict=True))
    to_cyrillic = {latin: other for other, latin in reversed(to_latin.items()) if "\u0400" <= other <= "\u04ff"}
    simplified = {ord(old): new for old, new in zip(raw["traditional"], raw["simplified"], strict=True)}
    return CharacterTables(latin=to_latin, cyrillic=to_cyrillic, simplified=simplified)


@cache
def _nfkc_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Stretches that NFKC may change, cut where no composition can cross; and rows of too many marks.

    A character *continues* a segment if it, or the first character it decomposes to, is a combining mark or can be
    the second half of a canonical composition. Planes above the first two hold no such characters, only the
    compatibility ideographs, which change alone.
    """
    seconds = set()
    for code in range(0x20000):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
    seconds |= {chr(code) for code in [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]}
    continuing, changing = [], []
    for code in [*range(0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20)]:
        char = chr(code)
        first = unicodedata.normalize("NFKD", char)[0]
        if unicodedata.combining(char) or unicodedata.combining(first) or first in seconds or char in seconds:
            continuing.append(re.escape(char))
        elif unicodedata.normalize("NFKC", char) != char:
            changing.append(re.escape(char))
    marks, changed = "".join(continuing), "".join(changing)
    segments = re.compile(f"[{changed}][{marks}]*|[^{marks}][{marks}]+|[{marks}]+")
    return segments, re.compile(f"[{marks}]{{{_MAX_MARKS + 1},}}")


def _nfkc(view: AlignedText) -> AlignedText:
    if view.text.isascii():
        return view
    segments, mark_rows = _nfkc_patterns()
    view = view.rewrite(mark_rows, lambda match: match.group()[:_MAX_MARKS])
    if unicodedata.is_normalized("NFKC", view.text):
        return view
    return view.rewrite(segments, lambda match: unicodedata.normalize("NFKC", match.group()))


def _is_latin(char: str) -> bool:
    return char.isascii() or "\u00c0" <= char <= "\u024f"


def _unmix(match: re.Match[str]) -> str:
    """Fold look-alikes in a word that mixes scripts towards the script it is written in."""
    word = match.group()
    if word.isascii():
        return word
    tables = character_tables()
    letters = [c for c in word if c.isalpha()]
    latin = [c for c in letters if _is_latin(c)]
    if not latin or len(latin) == len(letters):
        return word
    cyrillic = [c for c in letters if "\u0400" <= c <= "\u04ff"]
    # Letters without a double in the other script show whose word it is; only without any does the majority.
    own_latin = sum(c not in tables.cyrillic for c in latin)
    own_cyrillic = sum(c not in tables.latin for c in cyrillic)
    if (own_cyrillic, len(cyrillic)) > (own_latin, len(latin)):
        return "".join(tables.cyrillic.get(c, c) for c in word)
    return "".join(tables.latin.get(c, c) for c in word)


def _join(match: re.Match[str]) -> str:
    return match.group()[::2]


def _unleet(match: re.Match[str]) -> str:
    return "".join(_LEET.get(c, c) for c in match.group())


def _spaces(match: re.Match[str]) -> str:
    newlines = match.group().count("\n")
    return "\n" * min(newlines, 2) if newlines else " "


def _once(view: AlignedText) -> AlignedText:
    view = _nfkc(view)
    view = view.rewrite(_INVISIBLE, lambda _: "")
    view = view.rewrite(_SPACES, _spaces)
    view = view.rewrite(_STRETCHED, lambda match: match.group(1) * 3)
    view = view.rewrite(_SPACED_OUT, _join)
    view = view.rewrite(_WORD, _unmix) if not view.text.isascii() else view
    return view.rewrite(_LEET_IN_WORD, _unleet)


def _settled(view: AlignedText) -> AlignedText:
    for _ in range(_MAX_ROUNDS):
        before = view.text
        view = _once(view)
        if view.text == before:
            break
    return view


def normalise(text: str, view: View = View.SIMPLIFIED) -> AlignedText:
    """Normalise a text.

    Total (any string, lone surrogates included), idempotent, and deterministic. Rewriting repeats until nothing
    changes, because one fold can uncover another (full-width letters spaced out, for example).

    Args:
        text: Any string.
        view: ``RAW`` only makes the text encodable; ``NORMALISED`` folds evasions; ``SIMPLIFIED`` also maps traditional
            Chinese characters, unless kana or hangul show that the text is Japanese or Korean.

    Returns:
        The view, with offsets into ``text``.
    """
    offsets = np.arange(len(text) + 1, dtype=np.int64)
    result = AlignedText(
        text=_SURROGATE.sub("\ufffd", text), starts=offsets[:-1], ends=offsets[1:], source_length=len(text)
    )
    if view is View.RAW:
        return result
    result = _settled(result)
    if view is View.SIMPLIFIED and _HAN.search(result.text) and not _KANA_OR_HANGUL.search(result.text):
        mapped = result.text.translate(character_tables().simplified)
        result = AlignedText(text=mapped, starts=result.starts, ends=result.ends, source_length=len(text))
        # Simplifying can make neighbours equal, which the folds above would have joined.
        result = _settled(result)
    return result


def match_key(text: str) -> str:
    """Key under which two texts count as the same in duplicate and leakage checks.

    Normalised and simplified, case folded, letters and digits only; a text without any keeps its symbols.
    """
    folded = normalise(text).text.casefold()
    letters = "".join(c for c in folded if c.isalnum() or unicodedata.category(c).startswith("M"))
    return letters or "".join(folded.split())
