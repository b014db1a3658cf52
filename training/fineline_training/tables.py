"""Build the character tables of the normaliser from OpenCC and Unicode's confusables data.

Run ``python -m fineline_training.tables`` after a new release of either; a test fails when the committed file is stale.
"""

import json
from pathlib import Path

import fineline
from fineline.files import write_text

TABLES_FILE = Path(fineline.__file__).with_name("data") / "tables.json"
_FOLDED_SCRIPTS = ("CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU")


def build_tables() -> dict[str, str]:
    """Return the tables as aligned strings.

    Keys ``confusable``/``latin``: letters of other scripts and the ASCII letter they look like (Unicode Technical
    Standard 39). Keys ``traditional``/``simplified``: characters that OpenCC's ``t2s`` maps to one other character.
    """
    from confusable_homoglyphs import confusables
    from opencc import OpenCC

    folds: dict[str, str] = {}
    for ascii_letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ":
        for found in confusables.confusables_data.get(ascii_letter, []):
            char, name = found["c"], found["n"]
            if len(char) == 1 and name.startswith(_FOLDED_SCRIPTS) and " LETTER " in name:
                same_case = char if char.isupper() == ascii_letter.isupper() else ""
                if same_case:
                    folds[same_case] = ascii_letter
    converter = OpenCC("t2s")
    han = [chr(code) for code in [*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)]]
    simplified = {char: converter.convert(char) for char in han}
    moved = {old: new for old, new in simplified.items() if new != old and len(new) == 1 and simplified.get(new) == new}
    return {
        "confusable": "".join(sorted(folds)),
        "latin": "".join(folds[char] for char in sorted(folds)),
        "traditional": "".join(sorted(moved)),
        "simplified": "".join(moved[char] for char in sorted(moved)),
    }


def main() -> None:
    """Write the tables beside the normaliser."""
    write_text(TABLES_FILE, json.dumps(build_tables(), ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
