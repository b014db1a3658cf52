"""The closed list of acts an authored text can perform."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Act:
    """One act.

    Attributes:
        id: Name used as a key in corpus files.
        flagged: Whether a text that performs it is flagged.
        meaning: One plain sentence.
        meaning_zh: The same in Chinese.
    """

    id: str
    flagged: bool
    meaning: str
    meaning_zh: str


@cache
def load_acts() -> dict[str, Act]:
    """Read ``acts.toml`` into acts by id."""
    tables = tomllib.loads(Path(__file__).with_name("acts.toml").read_text(encoding="utf-8"))
    return {
        name: Act(id=name, flagged=kind == "flagged", meaning=meaning, meaning_zh=tables["zh"][name])
        for kind in ("flagged", "lawful")
        for name, meaning in tables[kind].items()
    }
