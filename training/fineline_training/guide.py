"""The annotation guide: rules from the taxonomy and the acts, examples from the corpus, prose from a template."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fineline.taxonomy import load_taxonomy
from fineline_training.corpus import Item, load_acts

GUIDES = {"en": "guide.md", "zh": "guide.zh.md"}
"""Language of a guide to its file name."""
PAIRS_PER_LABEL = 3
CONTEXT_PAIRS = 2
LONGEST = {"en": 120, "zh": 45}
"""Characters of an example; a longer one is not read."""
_ALIKE = 0.4
"""Least share of equal characters (difflib's ratio) for two texts to show that the act, not the words, decides."""
_MARKUP = str.maketrans({char: f"\\{char}" for char in "\\`*_<>[]|"} | {"\n": " "})


class Pair(NamedTuple):
    """Two texts of one written group: nearly the same words, another act, another verdict."""

    flagged: Item
    lawful: Item


def _groups(items: Iterable[Item], lang: str) -> list[list[Item]]:
    """Groups of one language in file order, without those made from a slot."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.lang == lang and item.text == item.wording:
            groups[item.pair].append(item)
    return list(groups.values())


def _short(item: Item) -> bool:
    return max(len(item.text), len(item.context or "")) <= LONGEST[item.lang]


def _alike(pair: Pair) -> float:
    return SequenceMatcher(None, pair.flagged.text, pair.lawful.text, autojunk=False).ratio()


def _acts_in_turn(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """The first pairs in file order, each flagged act once before any comes again."""
    first = {pair.flagged.act: pair for pair in reversed(pairs)}
    return sorted(pairs, key=lambda pair: first[pair.flagged.act] is not pair)[:count]


def label_pairs(items: Iterable[Item], label: str, lang: str, count: int = PAIRS_PER_LABEL) -> list[Pair]:
    """Choose the examples of a label: short texts without a context, the most alike two of each group.

    Args:
        items: The corpus, in file order; the same corpus gives the same pairs.
        label: Id of the first label that the flagged text carries.
        lang: Language of the texts, a key of ``GUIDES``.
        count: Most pairs to choose.
    """
    pairs = []
    for group in _groups(items, lang):
        texts = [item for item in group if item.topic == label and item.context is None and _short(item)]
        twins = [Pair(one, other) for one in texts for other in texts if one.flagged and not other.flagged]
        if twins and _alike(closest := max(twins, key=_alike)) >= _ALIKE:
            pairs.append(closest)
    return _acts_in_turn(pairs, count)


def context_pairs(items: Iterable[Item], lang: str, count: int = CONTEXT_PAIRS) -> list[Pair]:
    """Choose short equal texts of one group on which only the context decides."""
    pairs = [
        Pair(one, other)
        for group in _groups(items, lang)
        for one in group
        for other in group
        if one.flagged and not other.flagged and one.text == other.text and _short(one) and _short(other)
    ]
    return _acts_in_turn(pairs, count)


def _escape(text: str) -> str:
    """Text as it is, on one line, where Markdown would read markup."""
    return text.translate(_MARKUP)


def render_template(name: str, **values: Any) -> str:
    """Render a template of this package as Markdown; ``|escape`` makes a text safe in it."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["escape"] = _escape
    return f"{templates.get_template(name).render(values).rstrip()}\n"


def render_guide(lang: str, items: Sequence[Item]) -> str:
    """Render the guide of one language (a key of ``GUIDES``) as Markdown."""
    taxonomy = load_taxonomy()
    return render_template(
        f"guide.{lang}.md.j2",
        taxonomy=taxonomy,
        acts=load_acts().values(),
        pairs={label.id: label_pairs(items, label.id, lang) for label in taxonomy},
        context_pairs=context_pairs(items, lang),
    )
