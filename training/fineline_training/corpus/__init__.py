"""The authored corpus: items written for this project, the act named for each.

A file is YAML: a header (``lang``, ``writer``, optionally a default ``label``) and ``items``. An item is a
group of texts that share their topic and most of their words; each text stands under the act it performs:

.. code-block:: yaml

    lang: en
    writer: night-shift nurse, plain spoken
    label: violence
    items:
      - register: chat
        threaten: "Tell anyone and I will break your arm."
        testimony: "He said he would break my arm if I told anyone."

The act decides the verdict (``acts.toml``): flagged acts carry the item's label, lawful acts carry none. A file
may also hold ``terms`` (names of groups by label) and ``frames`` (items whose texts contain ``{group}``); they
expand into counterfactual sets.
"""

from fineline_training.corpus.acts import Act, load_acts
from fineline_training.corpus.loader import CorpusError, Item, load_corpus, load_file

__all__ = ["Act", "CorpusError", "Item", "load_acts", "load_corpus", "load_file"]
