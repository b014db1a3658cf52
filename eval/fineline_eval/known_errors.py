"""Known errors: texts the shipped classifier judges wrongly, and texts it once did, each kept with its expected labels.

``current_errors.jsonl`` holds what is wrong now, so that nobody is surprised; ``fixed_errors.jsonl`` holds what was put
right and must stay right. A row moves from one to the other and is never trained on.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from fineline import Classifier
from fineline.config import build
from fineline.errors import ConfigError
from fineline.taxonomy import load_taxonomy

CURRENT, FIXED = "current_errors.jsonl", "fixed_errors.jsonl"


@dataclass(frozen=True, kw_only=True)
class KnownError:
    """One text.

    Attributes:
        text: The text that is judged.
        lang: Language code.
        labels: The labels it should be flagged with; empty for lawful text.
        note: What is or was wrong, for people.
        context: What the text answers.
    """

    text: str
    lang: str
    labels: tuple[str, ...]
    note: str
    context: str | None = None


def read_known_errors(file: Path) -> list[tuple[int, KnownError]]:
    """Read a file of known errors, one JSON object a line, each with its line number; blank lines are skipped.

    Raises:
        ConfigError: The file is missing, or a line breaks the schema; the message names file and line.
    """
    try:
        # Not splitlines(): a text may hold other line separators.
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise ConfigError("known_errors_missing", f"{file}: no such file; add it, empty or with rows.") from None
    errors = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file.name} line {number}"
        try:
            row = json.loads(line)
        except ValueError:
            raise ConfigError("known_errors_syntax", f"{where}: not valid JSON; write one object a line.") from None
        error = build(KnownError, row, where)
        if unknown := sorted(set(error.labels) - set(load_taxonomy().ids)):
            raise ConfigError("known_errors_label", f"{where}: '{unknown[0]}' is no label of the taxonomy.")
        errors.append((number, error))
    return errors


def _named(labels: set[str]) -> str:
    return ", ".join(sorted(labels)) or "none"


def check_known_errors(folder: Path, classifier: Classifier) -> list[str]:
    """Judge the known errors again: one model call a row.

    A row is right when exactly its expected labels are flagged.

    Args:
        folder: Holds both files.
        classifier: The shipped classifier.

    Returns:
        A sentence for each row that stands in the wrong file; it names file and line and holds no text.

    Raises:
        ConfigError: A file is missing or breaks its schema.
    """
    sentences = []
    for name in (CURRENT, FIXED):
        errors = read_known_errors(folder / name)
        verdicts = classifier.classify([error.text for _, error in errors], [error.context for _, error in errors])
        for (number, error), verdict in zip(errors, verdicts, strict=True):
            expected, flagged = set(error.labels), set(verdict.flagged)
            if name == CURRENT and flagged == expected:
                sentences.append(f"{CURRENT} line {number}: the text is judged right now; move the row to {FIXED}.")
            if name == FIXED and flagged != expected:
                sentences.append(
                    f"{FIXED} line {number}: the text is judged wrong again (expected {_named(expected)}, flagged "
                    f"{_named(flagged)}); mend the model, or move the row back to {CURRENT} and say why."
                )
    return sentences
