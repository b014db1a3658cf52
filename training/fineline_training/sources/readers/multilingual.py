"""Hate and offence sets in other languages: MLMA, GermEval 2018, OffensEval Turkish and ViHOS."""

from pathlib import Path

from fineline_training.records import Record
from fineline_training.sources.readers.base import EMPTY, Dropped, Rows, clean, read_csv, read_text, read_tsv, reader
from fineline_training.sources.readers.grounds import (
    ETHNICITY,
    HEALTH,
    NATIONALITY,
    ORIGIN,
    OTHER,
    REGION,
    RELIGION,
    SEX,
    any_of,
    grounds,
    no_group_hate,
    positive,
)

_MLMA_GROUPS = {
    **dict.fromkeys(("african_descent", "arabs", "asians", "hispanics"), (ETHNICITY,)),
    "indian/hindu": (*ORIGIN, RELIGION),
    **dict.fromkeys(("immigrants", "refugees"), (NATIONALITY,)),
    **dict.fromkeys(("muslims", "jews", "christian"), (RELIGION,)),
    "women": (SEX,),
    "gay": (OTHER,),
    "special_needs": (HEALTH,),
}
# Where the group is unclear ("other", "individual"), the attribute that upstream calls target still narrows it.
_MLMA_TARGETS = {
    "origin": (*ORIGIN, REGION),
    "religion": (RELIGION,),
    "gender": (SEX, OTHER),
    "sexual_orientation": (OTHER,),
    "disability": (HEALTH,),
}


@reader("mlma")
def read_mlma(folder: Path) -> Rows:
    """English, French and Arabic tweets with several sentiments; only pure ``normal`` and ``hateful`` are clear."""
    for lang in ("en", "fr", "ar"):
        for row in read_csv(folder / f"x_hate_speech_mlma/hate_speech_mlma/{lang}_dataset.csv"):
            text, sentiments = clean(row["tweet"]), set(row["sentiment"].split("_"))
            if not text:
                yield EMPTY
            elif "normal" in sentiments and len(sentiments) > 1:
                yield Dropped("mixes normal with other sentiments")
            elif sentiments == {"normal"}:
                yield Record(text=text, lang=lang, labels=no_group_hate(), source="mlma")
            elif "hateful" not in sentiments:
                yield Dropped("offensive or fearful, not hateful: no label of ours follows")
            else:
                labels, meta = positive(_MLMA_GROUPS.get(row["group"], _MLMA_TARGETS.get(row["target"], ())))
                meta |= {"target": row["group"], "topic": row["target"]}
                yield Record(text=text, lang=lang, labels=labels, source="mlma", meta=meta)


@reader("germeval2018")
def read_germeval(folder: Path) -> Rows:
    """German tweets: ABUSE demeans a group (ground unknown), INSULT a person, PROFANITY nobody."""
    for split, name in (("train", "training"), ("test", "test")):
        for raw, _, kind in read_tsv(folder / f"germeval2018.{name}.txt", 3):
            if not (text := clean(raw.replace("|LBR|", "\n"))):
                yield EMPTY
                continue
            meta = {"fine": kind}
            if kind == "ABUSE":
                labels: dict[str, int] = {}
                meta |= any_of(grounds())
            elif kind == "INSULT":
                labels = {"insult": 1}
            else:
                labels = no_group_hate() | ({"insult": 0} if kind == "OTHER" else {})
            yield Record(text=text, lang="de", labels=labels, source="germeval2018", split=split, meta=meta)


def _turkish(raw: str, kind: str, split: str) -> Record | Dropped:
    if not (text := clean(raw)):
        return EMPTY
    offensive = kind == "OFF"
    return Record(
        text=text,
        lang="tr",
        labels={} if offensive else no_group_hate() | {"insult": 0},
        source="offenseval_tr",
        split=split,
        meta={"fine": kind} | (any_of(("insult", *grounds())) if offensive else {}),
    )


@reader("offenseval_tr")
def read_offenseval_tr(folder: Path) -> Rows:
    """Turkish tweets, OFF or NOT without a target; the test labels stand in a second file, joined by id."""
    for _, text, kind in read_tsv(folder / "offenseval-tr-training-v1.tsv", 3):
        yield _turkish(text, kind, "train")
    lines = read_text(folder / "offenseval-tr-labela-v1.tsv").split()
    kinds = dict(line.split(",") for line in lines)
    for key, text in read_tsv(folder / "offenseval-tr-testset-v1.tsv", 2):
        yield _turkish(text, kinds[key], "test")


@reader("vihos")
def read_vihos(folder: Path) -> Rows:
    """Vietnamese comments with spans of hateful or rude words; only a comment without spans is clear.

    A span may be a mere swear word, and profanity that attacks nobody is lawful here, so marked comments are left out.
    """
    spans = "Span_Extraction_based_version"
    for split, name in (("train", f"{spans}/train"), ("dev", f"{spans}/dev"), ("test", "Test_data/test")):
        for row in read_csv(folder / f"data/{name}.csv"):
            if row["index_spans"] != "[]":
                yield Dropped("marked spans do not tell hate from profanity", split)
            elif not (text := clean(row["content"])):
                yield EMPTY
            else:
                labels = no_group_hate() | {"insult": 0}
                yield Record(text=text, lang="vi", labels=labels, source="vihos", split=split)
