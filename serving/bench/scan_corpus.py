"""Corpora for the scan benchmark: sampled with replacement from the lawful public sets of a mirror."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

SOURCES = ("belle", "chinese-safetyqa", "cvalues", "gaokao", "lawbench", "tatoeba_laser", "wisesight_th")
LENGTHS = ((1, 40, 0.7), (41, 120, 0.25), (121, 300, 0.05))
"""Characters from, to, share of the short documents: chat lines, sentences and posts, paragraphs."""

LONG_CHARACTERS = (600, 1_800)
"""Long documents are joined texts of one language; their lengths are uniform on a log scale."""

_FILE_ROWS = 100_000


def pool(mirror: Path) -> dict[str, list[str]]:
    """Lawful texts of the mirror by language, in a fixed order, none twice."""
    from fineline_training.sources.readers import READERS, Dropped

    found: dict[str, dict[str, None]] = {}
    for source in SOURCES:
        for row in READERS[source](mirror / source):
            if not isinstance(row, Dropped):
                found.setdefault(row.lang, {})[row.text] = None
    return {lang: list(found[lang]) for lang in sorted(found)}


def short_documents(texts: dict[str, list[str]], count: int, seed: int) -> Iterator[dict[str, str]]:
    """Sample short documents: a length class by its share, then any text of that class."""
    rng = random.Random(seed)
    classes = [
        [(lang, text) for lang, known in texts.items() for text in known if low <= len(text) <= high]
        for low, high, _ in LENGTHS
    ]
    filled = [(rows, share) for rows, (*_, share) in zip(classes, LENGTHS, strict=True) if rows]
    for _ in range(count):
        rows = rng.choices([rows for rows, _ in filled], [share for _, share in filled])[0]
        lang, text = rng.choice(rows)
        yield {"text": text, "lang": lang}


def long_documents(texts: dict[str, list[str]], count: int, seed: int) -> Iterator[dict[str, str]]:
    """Join sampled texts of one language up to a sampled length."""
    rng = random.Random(seed)
    low, high = LONG_CHARACTERS
    for _ in range(count):
        lang = rng.choice(list(texts))
        wanted = int(low * (high / low) ** rng.random())
        parts: list[str] = []
        while sum(map(len, parts)) < wanted:
            parts.append(rng.choice(texts[lang]))
        yield {"text": "\n".join(parts)[:wanted], "lang": lang}


def write_corpus(folder: Path, rows: Iterator[dict[str, str]]) -> int:
    """Write JSONL files of at most 100,000 rows and return the number of rows."""
    folder.mkdir(parents=True)
    written = 0
    file = None
    for row in rows:
        if written % _FILE_ROWS == 0:
            if file:
                file.close()
            file = (folder / f"{written // _FILE_ROWS:05d}.jsonl").open("w", encoding="utf-8")
        assert file is not None
        file.write(json.dumps({"id": written, **row}, ensure_ascii=False) + "\n")
        written += 1
    if file:
        file.close()
    return written


def read_texts(folder: Path, count: int) -> list[str]:
    found: list[str] = []
    for path in sorted(folder.glob("*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for line in file:
                if len(found) == count:
                    return found
                found.append(json.loads(line)["text"])
    return found
