"""Chinese hate and sexism sets: COLD and SWSR."""

from pathlib import Path

from fineline_training.records import Record
from fineline_training.sources.readers.base import EMPTY, Dropped, Rows, clean, read_csv, reader
from fineline_training.sources.readers.grounds import ETHNICITY, REGION, SEX, any_of, no_group_hate

_TOPICS = {"race": ETHNICITY, "region": REGION, "gender": SEX}
_FINE = {"0": "safe", "1": "attack_individual", "2": "attack_group", "3": "anti_bias"}


@reader("cold")
def read_cold(folder: Path) -> Rows:
    """Offensive 0/1 with a topic; the test split adds a fine label.

    An attack on an individual (fine label 1) is offensive, yet no ground is known to be the reason: it becomes
    ``any_of`` the topic's ground and insult.
    """
    in_test = {clean(row["TEXT"]) for row in read_csv(folder / "COLDataset_test.csv")}
    for split in ("test", "train", "dev"):
        for row in read_csv(folder / f"COLDataset_{split}.csv"):
            text = clean(row["TEXT"])
            if not text:
                yield EMPTY
                continue
            if split != "test" and text in in_test:
                yield Dropped("stands in the test split")
                continue
            offensive = row["label"] == "1"
            ground = _TOPICS[row["topic"]]
            meta = {"topic": row["topic"], "offensive": row["label"]}
            labels = {ground: 1} if offensive else no_group_hate()
            if fine := row.get("fine-grained-label"):
                meta["fine"] = _FINE[fine]
                if meta["fine"] == "attack_individual":
                    labels = {}
                    meta |= any_of((ground, "insult"))
            yield Record(text=text, lang="zh", labels=labels, source="cold", split=split, meta=meta)


@reader("swsr")
def read_swsr(folder: Path) -> Rows:
    """Sexist 0/1 on Weibo comments; ids, dates, and the writer's gender and place are not read."""
    for row in read_csv(folder / "SWSR_SexComment.csv"):
        if not (text := clean(row["comment_text"])):
            yield EMPTY
            continue
        meta = {"fine": row["category"], "target": {"I": "individual", "G": "group"}.get(row["target"], "")}
        yield Record(
            text=text,
            lang="zh",
            labels={SEX: int(row["label"])},
            source="swsr",
            meta={key: value for key, value in meta.items() if value},
        )
