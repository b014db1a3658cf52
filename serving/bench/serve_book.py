"""The benchmark's JSON: every value is in the file as soon as it is measured, and a later call goes on from there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fineline.files import write_text


class Book:
    """Values by place.

    Args:
        path: The file; what it holds is kept if it was measured for the same ``asked``.
        asked: What identifies the measurement: bundle, sample, sizes.
        about: What is written beside it when the file is begun, such as the machine.
    """

    def __init__(self, path: Path, asked: dict[str, Any], about: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        asked = json.loads(json.dumps(asked))
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        same = found.get("asked") == asked
        self.values: dict[str, Any] = found if same else {"asked": asked, **about()}

    def put(self, value: Any, *place: str) -> None:
        """Write a value."""
        inner = self.values
        for name in place[:-1]:
            inner = inner.setdefault(name, {})
        inner[place[-1]] = value
        write_text(self._path, json.dumps(self.values, indent=1) + "\n")

    def get(self, *place: str) -> Any:
        """The value there, or ``None``."""
        inner: Any = self.values
        for name in place:
            inner = inner.get(name) if isinstance(inner, dict) else None
        return inner

    def once(self, measure: Callable[[], Any], *place: str) -> None:
        """Measure what is not there yet."""
        if self.get(*place) is None:
            self.put(measure(), *place)

    def repeat(self, number: int, measure: Callable[[], Any], *place: str) -> None:
        """Measure the ``number``-th of a list of values (from 0) if it is not there yet."""
        found = self.get(*place) or []
        if len(found) == number:
            self.put([*found, measure()], *place)
