"""The sheet of a manual review: a CSV file that reviewers fill in with a spreadsheet, and what it is checked by.

The sheet does not show what the classifier said, which would sway reviewers. It is the one file of a scan that holds
text of the corpus. What was drawn stands beside it in ``review_sample.json``, without text, so that a sheet that lost
rows or whose columns were sorted apart is noticed.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fineline.errors import InputError
from fineline.taxonomy import Label, Taxonomy

COLUMNS = ("number", "place", "lang", "context", "text", "verdict", "risks", "reviewer", "note")
_FILLED = ("verdict", "risks", "reviewer")
PASS, FAIL = "pass", "fail"
_VERDICTS = {"pass": PASS, "合格": PASS, "fail": FAIL, "不合格": FAIL}
_APPENDIX = {"A.1": "abcdefgh", "A.2": "abcdefghi", "A.3": "abcde", "A.4": "abcdefg", "A.5": "ab"}
"""GB/T 45654-2025, Appendix A: 31 risks in five groups."""
RISKS = tuple(f"{group}.{letter}" for group, letters in _APPENDIX.items() for letter in letters)
_CLAUSE = "gbt45654-A "
_MOST_CHARACTERS = 30_000
"""A spreadsheet cuts a cell at 32,767 characters without a word."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_SEPARATORS = re.compile(r"[\s,;，；、]+")
_SHOWN = 5

_GUIDE = """# How to fill in review_sheet.csv

Judge each text by itself, by the act and not by the topic, and without asking the classifier. `verdict`: `pass` (合格)
or `fail` (不合格). A text that fails also needs `risks`: one or more entries of GB/T 45654-2025, Appendix A ({first} to
{last}), or labels of the table below, with `;` between them. `reviewer` and `note` are yours. Change nothing else, keep
all rows, and save as CSV in UTF-8. Texts start with an apostrophe so that a spreadsheet leaves them as they are; one
that is cut says so in its `place`.

| label | name | 名称 | risks |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a reviewer said of one row.

    ``risks`` are entries of Appendix A, or ids of labels that come from none of them; a text that passes has none.
    """

    number: int
    passed: bool
    risks: tuple[str, ...]
    reviewer: str


def label_risks(label: Label) -> tuple[str, ...]:
    """Entries of Appendix A that a label comes from."""
    return tuple(clause.removeprefix(_CLAUSE) for clause in label.clauses if clause.startswith(_CLAUSE))


def guide(taxonomy: Taxonomy) -> str:
    """Text of ``review_guide.md``."""
    rows = [f"| {x.id} | {x.name_en} | {x.name_zh} | {', '.join(label_risks(x))} |\n" for x in taxonomy]
    return _GUIDE.format(first=RISKS[0], last=RISKS[-1]) + "".join(rows)


def cell(text: str) -> str:
    """A text as a cell: no control characters, not too long, and never read as a formula, number or date."""
    lines = text[:_MOST_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")
    return "'" + _UNPRINTABLE.sub("\ufffd", lines)


def is_cut(text: str) -> bool:
    """Whether the cell holds the beginning of the text only."""
    return len(text) > _MOST_CHARACTERS


def row_digest(row: Mapping[str, str]) -> str:
    """Digest of what a reviewer read, the same after a spreadsheet changed line ends or dropped the apostrophe."""
    shown = "\x00".join(" ".join(row[name].lstrip("'").split()) for name in ("context", "text"))
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


def write_sheet(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The sheet as a file; the mark at its start makes spreadsheets read it as UTF-8."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8-sig")


def read_sheet(content: bytes, digests: Sequence[str], taxonomy: Taxonomy) -> tuple[Judgement, ...]:
    """Check a filled sheet and read it.

    Args:
        content: The file.
        digests: Of each row that was drawn; row 1 comes first.
        taxonomy: Labels that a row may name.

    Raises:
        InputError: The sheet is not whole, not finished, or not as it was drawn; the message names rows, never text.
    """
    rows: dict[str, dict[str, str]] = {}
    twice = []
    for row in _parse(content):
        number = row["number"].strip()
        if number in rows:
            twice.append(number)
        rows[number] = row
    numbers = [str(number) for number in range(1, len(digests) + 1)]
    _refuse("sheet_rows", "stand twice", twice)
    _refuse("sheet_rows", "were not drawn", sorted(set(rows) - set(numbers)))
    _refuse("sheet_rows", "are missing", [number for number in numbers if number not in rows])
    altered = [n for n, digest in zip(numbers, digests, strict=True) if row_digest(rows[n]) != digest]
    _refuse("sheet_altered", "hold another text than was drawn", altered)
    verdicts = {number: rows[number]["verdict"].strip().lower() for number in numbers}
    _refuse("sheet_unfinished", "have no verdict", [n for n in numbers if not verdicts[n]])
    _refuse(
        "sheet_verdict", "have a verdict other than pass or fail", [n for n in numbers if verdicts[n] not in _VERDICTS]
    )
    named = {number: [name for name in _SEPARATORS.split(rows[number]["risks"]) if name] for number in numbers}
    known = {
        **{risk.lower(): (risk,) for risk in RISKS},
        **{label.id: label_risks(label) or (label.id,) for label in taxonomy},
    }
    _refuse("sheet_risk", "name a risk that is neither in Appendix A nor a label",
            [n for n in numbers if any(name.lower() not in known for name in named[n])])  # fmt: skip
    failed = {n: _VERDICTS[verdicts[n]] == FAIL for n in numbers}
    _refuse("sheet_risk", "fail without a risk, or pass with one", [n for n in numbers if failed[n] != bool(named[n])])
    return tuple(
        Judgement(
            number=int(n),
            passed=not failed[n],
            risks=tuple(dict.fromkeys(risk for name in named[n] for risk in known[name.lower()])),
            reviewer=rows[n]["reviewer"].strip(),
        )
        for n in numbers
    )


def _parse(content: bytes) -> list[dict[str, str]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("sheet_encoding", "The sheet is not in UTF-8; save it as CSV UTF-8.") from None
    head = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=head.count), restval="")
    needed = {"number", "context", "text", *_FILLED}
    if missing := needed - set(reader.fieldnames or ()):
        raise InputError(
            "sheet_columns", f"The sheet lacks the column '{min(missing)}'; fill in the sheet as it was drawn."
        )
    try:
        rows = [{name: row[name] for name in needed} for row in reader]
    except csv.Error as error:
        raise InputError("sheet_columns", f"The sheet is no CSV file ({error}); save it as CSV UTF-8.") from None
    return [row for row in rows if any(value.strip() for value in row.values())]


def _refuse(code: str, what: str, numbers: Sequence[str]) -> None:
    if numbers:
        shown = ", ".join(numbers[:_SHOWN]) + (", …" if len(numbers) > _SHOWN else "")
        raise InputError(
            code, f"{len(numbers)} rows of the sheet {what} (numbers {shown}); correct them and try again."
        )
