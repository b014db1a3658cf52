"""The file of a team's label before it is filled in: every key, what it is for, and for a label of ours what we say."""

import json
import textwrap
from string import Template

from fineline.own_labels import check_own_id
from fineline.taxonomy import CROSSWALKS, OPENAI_CATEGORIES, OWN_GROUP, Label, load_taxonomy

_NEW = 'A label of your own. Each empty "" waits for a text on one line; the file is read once none is left.'
_OURS = """A label of Fineline that you define anew: narrow it, or word it otherwise. The model keeps its output and
# learns the new meaning from your rows; the file is read once it says something else than Fineline does."""
_CATEGORIES = "\n# ".join(textwrap.wrap(", ".join(OPENAI_CATEGORIES), 110, break_on_hyphens=False))
_WIDE = 110
"""Characters of a list that stands on one line."""

_TEMPLATE = Template("""\
# $head
#
# Define an act, not a topic: what a writer does in their own voice, whatever the words. Rows on both sides of the line
# teach it best: texts that do it, and texts with the same words that do not.

id = $id

# own, or one of Fineline's groups that it belongs to: prohibited, discrimination, rights.
group = $group

name.en = $name_en
name.zh = $name_zh

# What policies do with a flagged text if their file does not name the label: review (a person decides) or block.
action = $action

# One sentence. It stands with the name in every verdict that flags the label, as the rule behind it.
definition = $definition
definition_zh = $definition_zh

# What is flagged: the acts, one a line. Annotators decide by these.
flag = $flag
flag_zh = $flag_zh

# What is never flagged: the lawful texts that come closest.
never_flag = $never_flag
never_flag_zh = $never_flag_zh

# Clauses of a law or of your rules that it comes from, as "text article"; none is all right.
clauses = $clauses

# Ids of labels that often hold together with it: where a row states only this one, those are unknown, not absent.
overlaps = $overlaps

# Categories of other taxonomies, "=x" close to x and "~x" partly: ail = MLCommons AILuminate, lg3 = Llama Guard 3,
# openai = a category of its moderation API, which the endpoint then answers with:
# $categories
crosswalk = $crosswalk
""")


def _empty(label_id: str) -> Label:
    return Label(
        id=label_id,
        group=OWN_GROUP,
        name_en="",
        name_zh="",
        clauses=(),
        definition="",
        definition_zh="",
        flag=("",),
        flag_zh=("",),
        never_flag=("",),
        never_flag_zh=("",),
        overlaps=(),
        crosswalk=dict.fromkeys(CROSSWALKS, ()),
    )


def _toml(value: str | tuple[str, ...]) -> str:
    """A value in TOML, whose strings are written like JSON's; a long list has one entry a line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    line = f"[{', '.join(map(_toml, value))}]"
    return line if len(line) <= _WIDE else "".join(["[\n", *(f"  {_toml(entry)},\n" for entry in value), "]"])


def own_label_template(label_id: str) -> str:
    """The text of a label file to fill in; of a label of ours it holds our definition, to be changed.

    Raises:
        ConfigError: A label may not be called so.
    """
    check_own_id(label_id, "ID")
    ours = next((label for label in load_taxonomy() if label.id == label_id), None)
    label = ours or _empty(label_id)
    texts = {name: _toml(value) for name, value in vars(label).items() if isinstance(value, str | tuple)}
    crosswalk = ", ".join(f"{name} = {_toml(entries)}" for name, entries in label.crosswalk.items())
    return _TEMPLATE.substitute(
        texts,
        head=_OURS if ours else _NEW,
        action=_toml("review"),
        crosswalk=f"{{{crosswalk}}}",
        categories=_CATEGORIES,
    )
