"""Texts of the serving benchmark: Chinese and English in equal parts, their tokens uniform on a log scale."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

LANGUAGES = ("zh", "en")
_SHORT = "你今天过得怎么样？我们晚上一起去吃饭吧。"
SHORT = (_SHORT, "How was your day? Let us have dinner together tonight.")
"""One short text a language, written for this benchmark."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Texts, none twice, with their tokens (no markers)."""

    texts: tuple[str, ...]
    tokens: tuple[int, ...]


def mixed_texts(
    pool: Mapping[str, Sequence[str]], tokenizer: Tokenizer, count: int, seed: int, lengths: tuple[int, int] = (5, 400)
) -> Sample:
    """Sample texts: texts of one language are joined up to a sampled number of tokens and cut there.

    Args:
        pool: Lawful texts by language.
        tokenizer: The model's.
        count: Texts wanted.
        seed: Of the sample.
        lengths: Fewest and most tokens.
    """
    rng = random.Random(seed)
    low, high = lengths
    found: dict[str, int] = {}
    while len(found) < count:
        lang = LANGUAGES[len(found) % len(LANGUAGES)]
        wanted = round(low * (high / low) ** rng.random())
        joined, ends = rng.choice(pool[lang]), [0]
        while True:
            ends = [end for _, end in tokenizer.encode(joined, add_special_tokens=False).offsets]
            if len(ends) >= wanted:
                break
            joined = f"{joined}\n{rng.choice(pool[lang])}"
        text = joined[: ends[wanted - 1]]
        found.setdefault(text, len(tokenizer.encode(text, add_special_tokens=False).ids))
    return Sample(texts=tuple(found), tokens=tuple(found.values()))
