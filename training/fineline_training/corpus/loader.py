"""Read corpus files into items; every fault is named with its file and item."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fineline.errors import DataError
from fineline_training.corpus.acts import load_acts

CORPUS_DIR = Path(__file__).parent
REGISTERS = frozenset(
    "chat comment post headline news ad notice slogan question answer essay story dialogue review letter".split()
)
_GROUP_KEYS = frozenset({"label", "labels", "register", "context", "form", "target"})
_TEXT_KEYS = frozenset({"text", "label", "labels", "register", "context", "form", "target"})
_FILE_KEYS = frozenset({"lang", "writer", "label", "items", "terms", "frames", "frames_per_term", "version", "aimed"})
FRAMES_PER_TERM = 4
"""Frames a term is set into, unless the file's ``frames_per_term`` says otherwise."""


class CorpusError(DataError):
    """A corpus file breaks a rule; the message names file, item and remedy."""

    def __init__(self, message: str) -> None:
        super().__init__("corpus", message)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One authored text.

    Attributes:
        text: The text that is judged.
        act: Id of the act it performs.
        flagged: Whether that act is a flagged one.
        labels: Label ids that are positive; empty for lawful acts.
        topic: Label whose topic the text touches, also for lawful acts.
        lang: Language code.
        register: Kind of text (chat, news, answer, ...), or ``""``.
        context: The prompt the text answers, or ``None``.
        pair: Id shared by the texts of one group.
        frame: Id shared by all expansions of one written group; the unit of the held-back split.
        wording: The text as written: with the slot ``{group}`` where the text is an expansion.
        writer: Persona of the writing pass.
        target: Name of the group the text is about, where a slot filled it or the writer named it.
        file: Path relative to the corpus folder.
        form: Functional form (derogation, negated hate, spelling, ...) where the writer named one.
        aimed: Whether the file was written at what a model got wrong, and so is harder than ordinary text.
    """

    text: str
    act: str
    flagged: bool
    labels: tuple[str, ...]
    topic: str
    lang: str
    register: str = ""
    context: str | None = None
    pair: str = ""
    frame: str = ""
    wording: str = ""
    writer: str = ""
    target: str = ""
    file: str = ""
    form: str = ""
    aimed: bool = False


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _texts(where: str, group: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (act, fields) of one group; a list under an act holds several texts of that act."""
    for key, value in group.items():
        if key in _GROUP_KEYS:
            continue
        if key not in load_acts():
            raise CorpusError(f"{where}: '{key}' is neither an act nor a field; acts are listed in acts.toml.")
        for entry in value if isinstance(value, list) else [value]:
            fields = {"text": entry} if isinstance(entry, str) else entry
            if not isinstance(fields, dict) or not isinstance(fields.get("text"), str) or not fields["text"].strip():
                raise CorpusError(f"{where}: '{key}' needs a text in quotes, or a mapping with 'text'.")
            if unknown := set(fields) - _TEXT_KEYS:
                raise CorpusError(f"{where}: unknown field '{sorted(unknown)[0]}' under '{key}'.")
            yield key, fields


def _label_list(fields: Mapping[str, Any]) -> tuple[str, ...]:
    value = fields.get("labels", fields.get("label"))
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (str(value),)


def _group_items(
    where: str, file: str, lang: str, writer: str, group: Mapping[str, Any], default: str | None, target: str = ""
) -> list[Item]:
    texts = list(_texts(where, group))
    if not texts:
        raise CorpusError(f"{where}: the item holds no text; put each text under its act.")
    group_labels = _label_list(group) or ((default,) if default else ())
    if not group_labels:
        raise CorpusError(f"{where}: no label; name one on the item or as the file's default.")
    frame = _digest(lang, texts[0][1]["text"])
    items = []
    for act, fields in texts:
        labels = _label_list(fields) or group_labels
        register = fields.get("register", group.get("register", ""))
        if register and register not in REGISTERS:
            raise CorpusError(f"{where}: unknown register '{register}'; use one of {', '.join(sorted(REGISTERS))}.")
        flagged = load_acts()[act].flagged
        items.append(
            Item(
                text=fields["text"].strip(),
                act=act,
                flagged=flagged,
                labels=labels if flagged else (),
                topic=labels[0],
                lang=lang,
                register=register,
                context=fields.get("context", group.get("context")),
                pair=frame,
                frame=frame,
                wording=fields["text"].strip(),
                writer=writer,
                target=target or fields.get("target", group.get("target", "")),
                file=file,
                form=fields.get("form", group.get("form", "")),
            )
        )
    return items


def _expand(file: str, head: Mapping[str, Any]) -> Iterator[Item]:
    """Fill each ``{group}`` term into a few frames, chosen by a seed that depends on the term alone."""
    frames = head.get("frames") or []
    lang, writer = head["lang"], head.get("writer", "")
    wanted = min(head.get("frames_per_term", FRAMES_PER_TERM), len(frames))
    for label, terms in (head.get("terms") or {}).items():
        for term in terms:
            picks = random.Random(f"{lang}/{label}/{term}").sample(range(len(frames)), wanted)
            for index in sorted(picks):
                where = f"{file} frame {index + 1}"
                for item in _group_items(where, file, lang, writer, frames[index], label, target=term):
                    if "{group}" not in item.text and "{group}" not in (item.context or ""):
                        raise CorpusError(f"{where}: a frame's text needs the slot {{group}}.")
                    yield replace(
                        item,
                        text=item.text.replace("{group}", term),
                        context=item.context.replace("{group}", term) if item.context else None,
                        pair=_digest(item.frame, term),
                    )


def load_file(path: Path, root: Path = CORPUS_DIR) -> list[Item]:
    """Read one corpus file.

    Args:
        path: YAML file.
        root: Folder that item file names are relative to.

    Returns:
        Items in file order, slots expanded.

    Raises:
        CorpusError: The file breaks a rule of the format.
    """
    file = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    try:
        head = yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" line {mark.line + 1}" if mark else ""
        raise CorpusError(f"{file}{at}: not valid YAML; put every text in double quotes.") from None
    if not isinstance(head, dict) or "lang" not in head:
        raise CorpusError(f"{file}: the header needs 'lang'.")
    if unknown := set(head) - _FILE_KEYS:
        raise CorpusError(f"{file}: unknown header field '{sorted(unknown)[0]}'.")
    items: list[Item] = []
    for number, group in enumerate(head.get("items") or [], 1):
        items += _group_items(
            f"{file} item {number}", file, head["lang"], head.get("writer", ""), group, head.get("label")
        )
    items += _expand(file, head)
    aimed = head.get("aimed", False)
    if not isinstance(aimed, bool):
        raise CorpusError(f"{file}: 'aimed' must be true or false.")
    return [replace(item, aimed=aimed) for item in items]


def load_corpus(root: Path = CORPUS_DIR) -> list[Item]:
    """Read every ``*.yaml`` file under ``root``, sorted by path."""
    return [item for path in sorted(root.rglob("*.yaml")) for item in load_file(path, root)]
