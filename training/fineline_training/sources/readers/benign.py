"""Lawful text: statutes and legal advice, exams, everyday instructions and sentences, sensitive but lawful questions.

Every label of such a row is 0. They teach that frightening words in lawful use are not flagged.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from fineline_training.records import Record
from fineline_training.sources.readers.base import (
    EMPTY,
    Dropped,
    Rows,
    clean,
    read_csv,
    read_json,
    read_jsonl,
    read_text,
    reader,
    tidy,
)
from fineline_training.sources.readers.grounds import grounds, lawful

_EXAMS = (
    "Objective_Questions_2010-2022_Biology_MCQs",
    "Objective_Questions_2010-2022_Geography_MCQs",
    "Objective_Questions_2010-2022_History_MCQs",
    "Objective_Questions_2010-2022_Political_Science_MCQs",
    "Subjective_Questions_2010-2022_History_Open-ended_Questions",
    "Subjective_Questions_2010-2022_Political_Science_Open-ended_Questions",
)
_EXAM_NUMBER = re.compile(r"^\s*\d+\s*[．.、]\s*(?:[（(]\s*\d+\s*分\s*[)）])?\s*")
_LANGUAGES = {
    "ara": "ar", "cmn": "zh", "deu": "de", "fra": "fr", "hin": "hi", "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko",
    "nld": "nl", "pol": "pl", "por": "pt", "rus": "ru", "spa": "es", "tha": "th", "tur": "tr", "vie": "vi",
}  # fmt: skip
# Nobody has judged Tatoeba's sentences. Where the English side hints at harm or abuse, "all labels 0" would be a guess.
_UNSURE = re.compile(
    r"\b(?:kill|murder|die\b|dead|death|suicid|hang(?:ed)?\b|shoot|shot|stab|bomb|beat|hit\b|rape|sex|naked|hate|stupid|idiot|fool"
    r"|moron|dumb|ugly|shut up|damn|hell\b|bitch|bastard|whore|coward|liar|pig\b|drunk|drug|steal|gun\b)",
    re.IGNORECASE,
)
# A complaint may insult, threaten or demean, so those labels stay unknown; the others are 0 in product talk.
_COMPLAINT_UNKNOWN = ("insult", "violence", "sexual", "self_harm", "ethnic_hatred", "privacy")


def _benign(source: str, rows: Iterable[tuple[str, str | None, str]], lang: str = "zh", act: str = "everyday") -> Rows:
    """Turn (text, context, topic) into lawful rows."""
    for raw, context, topic in rows:
        if text := tidy(raw):
            meta = {"topic": topic, "act": act}
            yield Record(text=text, context=context, lang=lang, labels=lawful(), source=source, meta=meta)
        else:
            yield EMPTY


@reader("lawbench")
def read_lawbench(folder: Path) -> Rows:
    """Statutes, bar exam questions, news on law, and legal consultation with its answer."""

    def load(task: str) -> list[tuple[str, str]]:
        rows = read_json(folder / f"data_zero_shot_{task}.json")
        return [(tidy(row["question"]), re.sub(r"^(?:答案|回答)[:：]", "", row["answer"])) for row in rows]

    yield from _benign("lawbench", ((answer, question, "statute") for question, answer in load("1-1")), act="law")
    yield from _benign("lawbench", ((question, None, "exam") for question, _ in load("1-2")), act="law")
    yield from _benign("lawbench", ((question, None, "news") for question, _ in load("2-7")), act="report")
    advice = load("3-8")
    yield from _benign("lawbench", ((question, None, "consultation") for question, _ in advice), act="question")
    yield from _benign("lawbench", ((answer, question, "consultation") for question, answer in advice), act="advice")


@reader("chinese-safetyqa")
def read_safetyqa(folder: Path) -> Rows:
    """Factual questions about law, rumour, health and discrimination."""
    rows = read_csv(folder / "data_chinese_safetyqa.csv")
    yield from _benign("chinese-safetyqa", ((row["question"], None, row["cate"]) for row in rows), act="question")


@reader("gaokao")
def read_gaokao(folder: Path) -> Rows:
    """School exam questions in an official register; the question number and its points are cut off."""
    for name in _EXAMS:
        rows = read_json(folder / f"Data_{name}.json")["example"]
        texts = (_EXAM_NUMBER.sub("", row["question"]) for row in rows)
        topic = name.removesuffix("_MCQs").removesuffix("_Open-ended_Questions").partition("2010-2022_")[2]
        yield from _benign("gaokao", ((text, None, topic) for text in texts), act="scholarship")


@reader("belle")
def read_belle(folder: Path) -> Rows:
    """Everyday instructions with their input."""
    seeds = read_jsonl(folder / "data_1.5M_zh_seed_tasks.json")
    yield from _benign(
        "belle", ((f"{row['instruction']}\n{row['instances'][0]['input']}", None, row["name"]) for row in seeds)
    )
    asked = read_jsonl(folder / "eval_eval_set.json")
    yield from _benign("belle", ((row["question"], None, row["class"]) for row in asked))


@reader("cvalues")
def read_cvalues(folder: Path) -> Rows:
    """Sensitive but lawful questions to an assistant."""
    rows = read_jsonl(folder / "dataset_cvalues_responsibility_prompts.jsonl")
    yield from _benign("cvalues", ((row["prompt"], None, row["domain_en"]) for row in rows), act="question")


@reader("tatoeba_laser")
def read_tatoeba(folder: Path) -> Rows:
    """Short parallel sentences; a sentence is left out where its English side hints at harm or abuse."""
    seen: set[str] = set()
    for code, lang in _LANGUAGES.items():
        stem = folder / f"data/tatoeba/v1/tatoeba.{code}-eng"
        sides = [read_text(stem.with_name(f"{stem.name}.{part}")).split("\n") for part in (code, "eng")]
        for local, english in zip(*sides, strict=True):
            if not english.strip():
                continue
            if _UNSURE.search(english):
                yield Dropped("English side hints at harm or abuse")
                yield Dropped("English side hints at harm or abuse")
                continue
            yield from _benign("tatoeba_laser", [(local, None, "sentence")], lang)
            if english in seen:
                yield Dropped("English sentence seen with another language")
            else:
                seen.add(english)
                yield from _benign("tatoeba_laser", [(english, None, "sentence")], "en")


@reader("wisesight_th")
def read_wisesight(folder: Path) -> Rows:
    """Thai social posts by sentiment; a negative post stays unknown on every label a rude complaint could break."""
    unknown = {*_COMPLAINT_UNKNOWN, *grounds()}
    complaint = {label: 0 for label in lawful() if label not in unknown}
    for sentiment in ("pos", "neu", "q", "neg"):
        labels = complaint if sentiment == "neg" else lawful()
        for line in read_text(folder / f"{sentiment}.txt").split("\n"):
            if not line.strip():
                continue
            if text := clean(line):
                meta = {"topic": sentiment, "act": "everyday"}
                yield Record(text=text, lang="th", labels=labels, source="wisesight_th", meta=meta)
            else:
                yield EMPTY
