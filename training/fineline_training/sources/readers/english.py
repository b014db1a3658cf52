"""English hate sets: EDOS, SafeNLP (ToxiGen and Implicit Hate) and Hatemoji (Build and Check)."""

import ast
import zlib
from pathlib import Path

from fineline_training.records import Record
from fineline_training.sources.readers.base import EMPTY, Dropped, Rows, clean, read_csv, read_json, reader, tidy
from fineline_training.sources.readers.grounds import (
    ETHNICITY,
    HEALTH,
    NATIONALITY,
    ORIGIN,
    OTHER,
    RELIGION,
    SEX,
    no_group_hate,
    options,
    positive,
)

_TOXIGEN = {
    **dict.fromkeys(("black", "asian", "chinese", "latino", "native-american", "middle-eastern"), (ETHNICITY,)),
    "mexican": ORIGIN,
    **dict.fromkeys(("muslim", "jewish"), (RELIGION,)),
    "women": (SEX,),
    "lgbtq": (OTHER,),
    **dict.fromkeys(("mental dis", "physical dis"), (HEALTH,)),
}
# Names where people and country coincide (Chinese, Indian, Mexican) may mean either ground.
_BUILD = {
    **dict.fromkeys(
        ("bla", "blaman", "african", "hisp", "arab", "mix.race", "ethmin", "indig", "abo", "trav"), (ETHNICITY,)
    ),
    **dict.fromkeys(("asi", "asi.east", "asi.south", "asiman"), (ETHNICITY,)),
    **dict.fromkeys(("asi.east.chin", "asi.south.pak", "asi.south.thai", "ind", "mex", "europe.east"), ORIGIN),
    **dict.fromkeys(("immig", "ref", "asy", "for"), (NATIONALITY,)),
    **dict.fromkeys(("mus", "jew", "sikh", "hind"), (RELIGION,)),
    "wom": (SEX,),
    **dict.fromkeys(("blawom", "asiwom", "indigwom"), (ETHNICITY, SEX)),
    **dict.fromkeys(("muswom", "sikhwom"), (RELIGION, SEX)),
    **dict.fromkeys(("indwom", "mexwom"), (*ORIGIN, SEX)),
    **dict.fromkeys(("gay", "gayman", "gaywom", "bis", "trans", "lgbtqa", "wc"), (OTHER,)),
    "dis": (HEALTH,),
}
_CHECK = {
    "women": SEX,
    "trans people": OTHER,
    "gay people": OTHER,
    "black people": ETHNICITY,
    "Muslims": RELIGION,
    "disabled people": HEALTH,
}
_DEV_SHARE = 10


@reader("edos")
def read_edos(folder: Path) -> Rows:
    """Sexism on Gab and Reddit, aggregated labels; the threat category is violence as well."""
    for row in read_csv(folder / "data/edos_labelled_aggregated.csv"):
        if not (text := clean(row["text"])):
            yield EMPTY
            continue
        labels = {SEX: int(row["label_sexist"] == "sexist")}
        if row["label_category"].startswith("1."):
            labels["violence"] = 1
        meta = {} if row["label_category"] == "none" else {"topic": row["label_category"], "fine": row["label_vector"]}
        yield Record(text=text, lang="en", labels=labels, source="edos", split=row["split"], meta=meta)


@reader("safenlp")
def read_safenlp(folder: Path) -> Rows:
    """ToxiGen with its target group where annotators agree (score 4 and up, 2 and below); Implicit Hate without one."""
    for row in read_json(folder / "data/toxiGen.json"):
        score, hate = float(row["toxicity_score"]), row["label"] == "hate"
        if not (text := tidy(row["text"])):
            yield EMPTY
        elif 2 < score < 4:
            yield Dropped("annotators undecided (score between 2 and 4)")
        elif hate != (score >= 4):
            yield Dropped("label and score disagree")
        else:
            labels, meta = positive(options(row["target_groups"], _TOXIGEN)) if hate else (no_group_hate(), {})
            meta |= {"topic": "toxigen", "target": ",".join(row["target_groups"])}
            yield Record(text=text, lang="en", labels=labels, source="safenlp", meta=meta)
    for row in read_json(folder / "data/implicitHate.json"):
        if not (text := clean(row["text"])):
            yield EMPTY
            continue
        labels, meta = positive(()) if row["label"] == "hate" else (no_group_hate(), {})
        yield Record(text=text, lang="en", labels=labels, source="safenlp", meta=meta | {"topic": "implicit_hate"})


def _build_grounds(codes: list[str]) -> list[str]:
    return options((code for code in codes if not code.startswith("nat.")), _BUILD) + [
        NATIONALITY for code in codes if code.startswith("nat.")
    ]


@reader("hatemoji")
def read_hatemoji(folder: Path) -> Rows:
    """HatemojiBuild for training, HatemojiCheck as the test split.

    Upstream's random split cuts contrast pairs apart. Build is split again by pair, so that both sides stay together.
    """
    for name in ("train", "validation", "test"):
        for row in read_csv(folder / f"HatemojiBuild/{name}.csv"):
            if not (text := tidy(row["text"])):
                yield EMPTY
                continue
            pair = "hatemoji:" + "-".join(sorted((row["entry_id"], row["matched_id"]), key=int))
            labels = no_group_hate()
            meta: dict[str, str] = {}
            if row["label_gold"] == "1":
                codes = ast.literal_eval(row["target"])
                labels, meta = positive(_build_grounds(codes))
                meta |= {"target": ",".join(codes), "fine": row["type"]}
                if row["type"] == "threateninglanguage":
                    labels = labels | {"violence": 1}
            split = "dev" if zlib.crc32(pair.encode()) % _DEV_SHARE == 0 else "train"
            yield Record(text=text, lang="en", labels=labels, source="hatemoji", pair=pair, split=split, meta=meta)
    for row in read_csv(folder / "HatemojiCheck/test.csv"):
        hateful = row["label_gold"] == "1"
        yield Record(
            text=tidy(row["text"]),
            lang="en",
            labels={_CHECK[row["target"]]: 1} if hateful else no_group_hate(),
            source="hatemoji",
            pair=f"hatemoji-check:{row['templ_id'].partition('.')[0]}",
            split="test",
            meta={"functionality": row["functionality"], "target": row["target"], "fine": row["set"]},
        )
