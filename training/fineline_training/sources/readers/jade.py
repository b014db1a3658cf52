"""JADE: questions with a violating and a safe answer.

Only the answers become rows, each with its question as context. A question alone asks for something and performs no
act of our taxonomy. The answers carry no type; it is looked up by the question in the benchmark files.
"""

from pathlib import Path

from fineline_training.records import Record
from fineline_training.sources.readers.base import Dropped, Rows, read_csv, reader, tidy
from fineline_training.sources.readers.grounds import (
    AGE,
    ETHNICITY,
    HEALTH,
    NATIONALITY,
    OCCUPATION,
    OTHER,
    REGION,
    RELIGION,
    SEX,
    lawful,
    positive,
)

_BENCHMARKS = (
    "jade-db-v1.0_jade_benchmark_zh.csv",
    "jade-db-v2.0_jade_benchmark_easy_zh.csv",
    "jade-db-v2.0_jade_benchmark_medium_zh.csv",
)
_ANSWERS = ("jade-db-v3.0_jade_alignment_medium_zh.csv", "jade-db-v3.0_jade_alignment_hard_zh.csv")

# Sub-types outside this table (theft, break-ins, corruption, business secrets, reputation, national image, and
# privacy, where most answers explain rather than expose) have no label of ours: their violating answers are dropped.
_TYPES: dict[str, tuple[str, ...]] = {
    "宣扬恐怖主义、极端主义": ("terrorism",),
    "故意伤害他人": ("violence",),
    "宣扬暴力": ("violence",),
    "宣扬淫秽色情": ("sexual",),
    "宣扬暴力、淫秽色情": ("violence", "sexual"),
    "传播虚假有害信息": ("false_information", "public_order"),
    "抢劫": ("violence", "public_order"),
    "诈骗": ("public_order",),
    "网络欺诈与犯罪": ("public_order",),
    "贩卖毒品": ("public_order",),
    "非法持有武器": ("public_order",),
    "非法伪造": ("public_order",),
    "非法走私": ("public_order",),
    "赌博与开设赌场": ("public_order",),
    "赌博或开设赌场": ("public_order",),
    "民族歧视内容": (ETHNICITY,),
    "宣扬民族歧视": (ETHNICITY,),
    "种族歧视内容": (ETHNICITY,),
    "肤色歧视内容": (ETHNICITY,),
    "国别歧视内容": (NATIONALITY,),
    "地域歧视内容": (REGION,),
    "信仰歧视内容": (RELIGION,),
    "性别歧视内容": (SEX,),
    "年龄歧视内容": (AGE,),
    "职业歧视内容": (OCCUPATION,),
    "健康歧视内容": (HEALTH,),
    "服装歧视内容": (OTHER,),
    "其他方面歧视内容": (OTHER,),
}
# An answer that declines or warns violates nothing, whatever column it stands in.
_DECLINES = tuple("抱歉 无法提供 不能提供 无法回答 不能回答 不应该 强烈建议不要 非法的 违法的 违法行为 不道德".split())


def _types(folder: Path) -> dict[str, str]:
    return {row["问题"].strip(): row["违规子类"].strip() for name in _BENCHMARKS for row in read_csv(folder / name)}


@reader("jade")
def read_jade(folder: Path) -> Rows:
    """Safe answers know all labels; violating answers know the label of a clear violation type."""
    types = _types(folder)
    for name in _ANSWERS:
        for row in read_csv(folder / name, "gb18030"):
            question = tidy(row["问题"])
            kind = types.get(row["问题"].strip(), "")
            pair = f"jade:{name.split('_')[2]}:{row['ID']}"
            safe, violating = tidy(row["安全有用回答"]), tidy(row["违规回答"])
            if safe:
                yield Record(
                    text=safe,
                    context=question,
                    lang="zh",
                    labels=lawful(),
                    source="jade",
                    pair=pair,
                    meta={"topic": kind, "act": "refusal"},
                )
            options = [label for part in kind.split("|") for label in _TYPES.get(part, ())]
            if not options:
                yield Dropped("violation type has no clear label")
            elif not violating or any(mark in violating for mark in _DECLINES):
                yield Dropped("violating answer declines or warns")
            else:
                labels, meta = positive(options)
                yield Record(
                    text=violating,
                    context=question,
                    lang="zh",
                    labels=labels,
                    source="jade",
                    pair=pair,
                    meta=meta | {"topic": kind},
                )
