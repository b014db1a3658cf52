"""``fineline score``: JSONL in, JSONL out, order kept, every row accounted for."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fineline.classifier import Classifier
from fineline.errors import InputError
from fineline.files import replacing

_CHUNK_ROWS, _CHUNK_BYTES = 512, 4_000_000


@dataclass(kw_only=True)
class ScoreResult:
    """What a scoring run did.

    Attributes:
        scored: Rows with a verdict.
        refused: Line number and reason of each row without one.
    """

    scored: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)


def _parse(line: bytes, text_field: str, context_field: str) -> dict[str, Any] | str:
    """A row, or the reason why it is none; the reason never quotes the row."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # also numbers of thousands of digits and nesting without end
        return "not valid JSON"
    if not isinstance(row, dict):
        return "not a JSON object"
    if not isinstance(row.get(text_field), str):
        return f"no string field '{text_field}'"
    if not isinstance(row.get(context_field), str | None):
        return f"field '{context_field}' is neither a string nor null"
    return row


def _chunks(path: Path) -> Iterator[list[tuple[int, bytes]]]:
    chunk: list[tuple[int, bytes]] = []
    size = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    chunk.append((number, line))
                    size += len(line)
                if len(chunk) == _CHUNK_ROWS or size > _CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
    except OSError as error:
        raise InputError("input_file", f"{path}: cannot be read ({error.strerror}); give a JSONL file.") from None
    if chunk:
        yield chunk


def score_file(
    classifier: Classifier,
    source: Path,
    target: Path,
    *,
    text_field: str = "text",
    context_field: str = "context",
    on_rows: Callable[[int], None] = lambda count: None,
) -> ScoreResult:
    """Score a JSONL file.

    Each row keeps its own fields and gains ``scores``, ``flagged`` and ``action``. A row that cannot be judged stays in
    its place and gains ``error`` instead (a line that is no JSON object becomes ``{"error", "line"}``), so no row is
    lost and their order is kept.

    Args:
        classifier: A loaded classifier.
        source: JSONL file; blank lines are skipped.
        target: File to write; it appears only when all rows are done.
        text_field: Field that is judged.
        context_field: Field with what the text answers.
        on_rows: Told the number of rows after each chunk.

    Raises:
        InputError: The source cannot be read, or the target not written.
    """
    try:
        return _score(classifier, source, target, text_field, context_field, on_rows)
    except OSError as error:
        raise InputError("output_file", f"{target}: cannot be written ({error.strerror}); give another path.") from None


def _score(
    classifier: Classifier,
    source: Path,
    target: Path,
    text_field: str,
    context_field: str,
    on_rows: Callable[[int], None],
) -> ScoreResult:
    result = ScoreResult()
    with replacing(target) as out:
        for chunk in _chunks(source):
            parsed = [_parse(line, text_field, context_field) for _, line in chunk]
            good = [row for row in parsed if isinstance(row, dict)]
            verdicts = iter(
                classifier.classify([row[text_field] for row in good], [row.get(context_field) for row in good])
            )
            for (number, _), row in zip(chunk, parsed, strict=True):
                if isinstance(row, str):
                    result.refused.append((number, row))
                    written: dict[str, Any] = {"error": row, "line": number}
                else:
                    verdict = next(verdicts).as_dict()
                    written = {**row, **{name: verdict[name] for name in ("scores", "flagged", "action")}}
                    result.scored += 1
                # ASCII output, because a text may hold a lone surrogate that UTF-8 cannot carry.
                out.write(json.dumps(written).encode() + b"\n")
            on_rows(len(chunk))
    return result
