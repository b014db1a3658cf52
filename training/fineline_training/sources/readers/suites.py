"""Functional test suites, for evaluation only: HateCheck, HateCheckHIn and XSTest."""

from pathlib import Path

from fineline.taxonomy import load_taxonomy
from fineline_training.records import Record
from fineline_training.sources.readers.base import Rows, read_csv, reader, tidy
from fineline_training.sources.readers.grounds import (
    ETHNICITY,
    HEALTH,
    NATIONALITY,
    OTHER,
    RELIGION,
    SEX,
    any_of,
    lawful,
    no_group_hate,
)

_IDENTITIES = {
    "women": SEX,
    "trans people": OTHER,
    "gay people": OTHER,
    "black people": ETHNICITY,
    "disabled people": HEALTH,
    "Muslims": RELIGION,
    "immigrants": NATIONALITY,
}
_HINDI = {
    "Woman": SEX,
    **dict.fromkeys(("Hindu", "Muslim"), RELIGION),
    **dict.fromkeys(("Bangladeshi", "Pakistani", "British"), NATIONALITY),
    **dict.fromkeys(("Dalit", "Lower Caste", "Homosexual", "Eunuch"), OTHER),
}


@reader("hatecheck")
def read_hatecheck(folder: Path) -> Rows:
    """29 functions in English; the two threat functions are violence as well.

    Rows of one template, said of several groups, and the contrasts made from it are one pair.
    """
    for row in read_csv(folder / "test_suite_cases.csv"):
        function, target = row["functionality"], row["target_ident"]
        labels = {_IDENTITIES[target]: 1} if row["label_gold"] == "hateful" else no_group_hate()
        if function.startswith("threat_"):
            labels["violence"] = 1
        yield Record(
            text=tidy(row["test_case"]),
            lang="en",
            labels=labels,
            source="hatecheck",
            pair=f"hatecheck:{(row['ref_templ_id'] or row['templ_id']).removesuffix('.0')}",
            split="test",
            meta={"functionality": function} | ({"target": target} if target else {}),
        )


@reader("hatecheckhin")
def read_hatecheckhin(folder: Path) -> Rows:
    """Hindi functions, and code-mixed ones (``MF``) in Latin script or with English words.

    Upstream names no templates, and rows of one template stand for many groups: rows of one function are one pair.
    """
    for name in ("monolingual", "multilingual"):
        for row in read_csv(folder / f"{name}_functionalities.csv"):
            target = row["target"].strip("_-") or "none"
            yield Record(
                text=tidy(row["test_case"]),
                lang="hi",
                labels={_HINDI[row["target"]]: 1} if row["label"] == "hateful" else no_group_hate(),
                source="hatecheckhin",
                pair=f"hatecheckhin:{name}:{row['functionality']}",
                split="test",
                meta={"functionality": row["functionality"], "target": target, "fine": name},
            )


@reader("xstest")
def read_xstest(folder: Path) -> Rows:
    """Safe prompts with frightening words (all labels 0) and unsafe contrasts (some label, unknown which)."""
    for row in read_csv(folder / "xstest_prompts.csv"):
        safe = row["label"] == "safe"
        meta = {"functionality": row["type"], "fine": row["label"]} | ({"topic": row["focus"]} if row["focus"] else {})
        yield Record(
            text=tidy(row["prompt"]),
            lang="en",
            labels=lawful() if safe else {},
            source="xstest",
            split="test",
            meta=meta | ({} if safe else any_of(load_taxonomy().ids)),
        )
