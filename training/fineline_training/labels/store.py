"""A team's label store: a folder with its good rows, its own labels, and a dated record of everything done to them.

``rows.jsonl`` holds the rows, ``store.json`` the own labels, ``imports/`` a record an import, ``records/`` the records
of assignment, agreement, spot checks and cleaning, ``tasks/`` the annotators' files. Records hold ids, counts, names of
files and annotators, and never a text.
"""

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fineline.errors import ConfigError, DataError
from fineline.files import replacing, sha256_of, write_text
from fineline.own_labels import own_label
from fineline.taxonomy import Label, Taxonomy, load_taxonomy
from fineline_training.labels.votes import LabelledRow, as_labelled, parse_labelled

ROWS, SETTINGS, LOCK = "rows.jsonl", "store.json", ".lock"
IMPORTS, RECORDS, TASKS = "imports", "records", "tasks"
_SCHEMA = 1


class LabelStore:
    """The store in a folder; make one with ``open``."""

    def __init__(self, path: Path, own_labels: Sequence[Label]) -> None:
        self.path = path
        self._own = tuple(own_labels)
        self._held = False

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> "LabelStore":
        """Open a store.

        Args:
            path: Its folder.
            create: Whether to give an empty one where there is none; its folder is made by the first change.

        Raises:
            DataError: There is none, or the folder holds something else.
        """
        settings = path / SETTINGS
        if not settings.exists():
            if not create:
                raise DataError("store_missing", f"{path}: no label store; make it with 'fineline labels import'.")
            if path.exists() and (not path.is_dir() or not all(entry.name.startswith(".") for entry in path.iterdir())):
                raise DataError("store_taken", f"{path}: holds something else than a label store; name a new folder.")
            return cls(path, ())
        try:
            content = json.loads(settings.read_text(encoding="utf-8"))
            if content["schema"] != _SCHEMA:
                raise DataError("store_schema", f"{settings}: schema {content['schema']} is not {_SCHEMA}.")
            return cls(path, [own_label(table, SETTINGS) for table in content["own_labels"]])
        except (OSError, ValueError, KeyError, TypeError, ConfigError):
            raise DataError("store_damaged", f"{settings}: cannot be read; restore it from a copy.") from None

    @property
    def own_labels(self) -> tuple[Label, ...]:
        """The team's own labels, in the order they came."""
        return self._own

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """Our labels and the team's."""
        return load_taxonomy().extended(self._own)

    @property
    def tasks(self) -> Path:
        """Folder of the annotators' task files."""
        return self.path / TASKS

    def define(self, labels: Iterable[Label]) -> tuple[str, ...]:
        """Add own labels, or define those anew that are here.

        Returns:
            Ids whose definition changed.

        Raises:
            ConfigError: An overlap names no label.
        """
        before = {label.id: label for label in self._own}
        after = before | {label.id: label for label in labels}
        load_taxonomy().extended(after.values())
        self._own = tuple(after.values())
        self.__dict__.pop("taxonomy", None)
        self._save()
        return tuple(name for name in before if before[name] != after[name])

    def rows(self) -> list[LabelledRow]:
        """All rows, in the order they came.

        Raises:
            DataError: A row cannot be read.
        """
        file = self.path / ROWS
        if not file.exists():
            return []
        rows = []
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    rows.append(parse_labelled(json.loads(line), ids=self.taxonomy.ids))
                except ValueError as error:
                    # A JSON error quotes nothing but its place; a row error never holds the text.
                    raise DataError("store_row", f"{file}: line {number}: {error}.") from None
        return rows

    def add(self, rows: Iterable[LabelledRow], record: Mapping[str, Any]) -> Path:
        """Add rows, and leave the dated record of it.

        A row of an id that is here takes the place of the one here and keeps its origin: it is the same text with more
        votes. The record is written first, so that no row can stand here without one.

        Args:
            rows: Rows, each id once.
            record: What the record says besides its date.

        Returns:
            The record's file.
        """
        with self.locked():
            if not (self.path / SETTINGS).exists():
                self._save()
            held = {row.id: row for row in self.rows()}
            path, name = self._next(IMPORTS, "")
            for row in rows:
                before = held.get(row.id)
                held[row.id] = replace(row, origin=before.origin if before else f"{name} {row.origin}".strip())
            self._write(path, {"import": name, **record})
            self.replace_rows(held.values())
        return path

    def replace_rows(self, rows: Iterable[LabelledRow]) -> None:
        """Replace all rows; whoever calls it holds the store (``locked``) since reading them, and leaves a record."""
        with replacing(self.path / ROWS) as file:
            for row in rows:
                file.write(json.dumps(as_labelled(row), ensure_ascii=False).encode() + b"\n")

    def write_record(self, kind: str, content: Mapping[str, Any]) -> Path:
        """Leave a dated record.

        Args:
            kind: What was done: ``assign``, ``agreement``, ``spotcheck``, ``clean``.
            content: Plain data without texts.

        Returns:
            The file.
        """
        path, name = self._next(RECORDS, f"{kind}-")
        self._write(path, {"record": name, "kind": kind, **content})
        return path

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The records of a kind, oldest first."""
        files = sorted((self.path / RECORDS).glob(f"{kind}-*.json"), key=_order)
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def imports(self) -> list[dict[str, Any]]:
        """The records of the imports, oldest first."""
        files = sorted((self.path / IMPORTS).glob("*.json"), key=_order)
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]

    def digest(self) -> str:
        """Hex sha256 of the rows, for records and manifests; empty where there are none."""
        return sha256_of(self.path / ROWS) if (self.path / ROWS).exists() else ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store while it changes: two changes at once would lose the rows of one; a killed one lets go.

        Raises:
            DataError: Another command is changing it.
        """
        if self._held:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError("store_locked", f"{self.path}: another command changes this store; wait.") from None
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def _next(self, folder: str, prefix: str) -> tuple[Path, str]:
        day = datetime.now(UTC).date().isoformat()
        taken = [_order(file)[-1] for file in (self.path / folder).glob(f"{prefix}{day}-*.json")]
        name = f"{prefix}{day}-{max(taken, default=0) + 1}"
        return self.path / folder / f"{name}.json", name

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        dated = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **content}
        write_text(path, json.dumps(dated, ensure_ascii=False, indent=2) + "\n")

    def _save(self) -> None:
        content = {"schema": _SCHEMA, "own_labels": [label.as_table() for label in self._own]}
        write_text(self.path / SETTINGS, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


def _order(file: Path) -> tuple[str, int]:
    """Date and number of a record: the tenth comes after the ninth."""
    dated, _, number = file.stem.rpartition("-")
    return dated, int(number) if number.isdigit() else 0
