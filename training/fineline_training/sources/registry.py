"""What each source is: origin, licence, files with hashes, use, and how its labels map, as data (``registry.toml``).

The upstream rows never enter the repository. This file does, so that anyone can fetch the same bytes, check them,
and see why a row says what it says about our labels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from urllib.parse import quote

from fineline.config import build, read_toml
from fineline.errors import DataError
from fineline.taxonomy import load_taxonomy
from fineline_training.records import SPLITS

REGISTRY_FILE = Path(__file__).with_name("registry.toml")
USES = ("train", "eval")
KINDS = ("labelled", "ordinary")
AUTHORED = "authored"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: Path inside the source's folder of the mirror.
        upstream: Path inside the repository; ``archive.zip!member`` for a file that upstream ships zipped.
        sha256: Hash of the file as read (after unzipping).
    """

    name: str
    upstream: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source.

    Attributes:
        id: Stable id, and the name of its folder in a mirror.
        kind: ``labelled`` (its rows were judged) or ``ordinary`` (its rows are taken as lawful).
        title: What it is, in words.
        repository: ``owner/name`` on GitHub; empty for the authored corpus.
        commit: Revision the files come from; empty for the authored corpus.
        licence: Licence on the rows, by SPDX id where it has one.
        permissive: Whether it allows commercial use and derived models.
        licence_note: What a reader of the licence should know besides, or ``""``.
        languages: Language codes of its rows.
        use: What each split may be used for, ``train`` or ``eval``.
        knows: Labels it can say something about.
        mapping: How its own labels become ours, in words.
        dropped: What is left out, and why.
        attribution: The line to print where the rows or a model made from them are published.
        files: Its files with hashes.
    """

    id: str
    kind: str
    title: str
    repository: str
    commit: str
    licence: str
    permissive: bool
    languages: tuple[str, ...]
    use: dict[str, str]
    knows: tuple[str, ...]
    mapping: str
    dropped: str
    attribution: str
    licence_note: str = ""
    files: tuple[SourceFile, ...] = ()

    def splits(self, use: str) -> frozenset[str]:
        """Names of the splits that may be used for ``use``."""
        return frozenset(split for split, allowed in self.use.items() if allowed == use)

    def url(self, file: SourceFile) -> str:
        """Raw address of a file (or of the archive that holds it) at the pinned commit."""
        path = file.upstream.partition("!")[0]
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quote(path)}"


def _expand(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Expand ``*`` (all labels) and ``group:<name>``; every other entry must be a label id."""
    taxonomy = load_taxonomy()
    ids: list[str] = []
    for name in names:
        found = taxonomy.ids if name == "*" else taxonomy.group(name.removeprefix("group:"))
        ids += found or (name,)
    if unknown := set(ids) - set(taxonomy.ids):
        raise DataError("registry_label", f"{where}: knows names '{min(unknown)}', which is no label of the taxonomy.")
    return tuple(dict.fromkeys(ids))


def read_registry(path: Path) -> Mapping[str, Source]:
    """Read a registry file into sources by id.

    Raises:
        ConfigError: The file is not valid TOML, or a key is unknown, missing or of another type.
        DataError: A kind, split, use or label is none of ours.
    """
    sources = {}
    for name, row in read_toml(path).items():
        where = f"{path.name}: [{name}]"
        source = build(Source, {"id": name} | row, where)
        if source.kind not in KINDS or not set(source.use) <= set(SPLITS) or not set(source.use.values()) <= set(USES):
            raise DataError("registry_use", f"{where}: kinds are {KINDS}; use maps splits {SPLITS} to {USES}.")
        sources[name] = replace(source, knows=_expand(source.knows, where))
    return sources


@cache
def load_registry() -> Mapping[str, Source]:
    """The registry that ships with the package, in its own order."""
    return read_registry(REGISTRY_FILE)


def find_source(source_id: str) -> Source:
    """Look a source up.

    Raises:
        DataError: No source has that id.
    """
    registry = load_registry()
    if source_id not in registry:
        raise DataError("source_unknown", f"No source is called '{source_id}'; known are {', '.join(registry)}.")
    return registry[source_id]
