"""KoSBi: Korean sentences on 72 groups, judged safe or unsafe in their context."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fineline_training.records import Record
from fineline_training.sources.readers.base import EMPTY, Dropped, Rows, read_json, reader, tidy
from fineline_training.sources.readers.grounds import (
    AGE,
    ETHNICITY,
    HEALTH,
    NATIONALITY,
    OCCUPATION,
    ORIGIN,
    OTHER,
    REGION,
    RELIGION,
    SEX,
    no_group_hate,
    positive,
)

_CATEGORIES: dict[str, tuple[str, ...]] = {
    "성별": (SEX,),
    "성적지향": (OTHER,),
    "나이/세대": (AGE,),
    "인종/민족/출신 국가": ORIGIN,
    "종교": (RELIGION,),
    "장애/병력": (HEALTH,),
    "외모/용모/신체적 조건": (OTHER,),
    "사회적/경제적 신분": (OTHER, OCCUPATION),
    "출신 지역 (국내)": (REGION,),
    "혼인 여부": (OTHER,),
    "임신/출산": (SEX, OTHER),
    "가족 형태": (OTHER,),
    "전과": (OTHER,),
    "학력/대학/전공": (OTHER,),
}
# Groups that say more, or something else, than their category does.
_GROUPS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys("트랜스젠더 트랜스여성 트랜스남성 시스젠더 에이젠더 논바이너리 바이젠더 팬젠더".split(), (OTHER,)),
    **dict.fromkeys("제노젠더 젠더플루이드".split(), (OTHER,)),
    **dict.fromkeys("한국인 북한인 중국인 일본인 미국인 러시아인 탈북민".split(), (NATIONALITY,)),
    **dict.fromkeys(("남한 사람", "대한민국 사람", "해외 출신 한국 거주자"), (NATIONALITY,)),
    **dict.fromkeys(("외국인 노동자", "이주 노동자", "결혼 이주 여성"), (NATIONALITY,)),
    **dict.fromkeys("황인 백인 흑인".split(), (ETHNICITY,)),
    "조선족": ORIGIN,
    **dict.fromkeys("경영/사무/금융/보험직 교육/법률/사회복지/경찰/소방직/군인 보건의료직".split(), (OCCUPATION,)),
    **dict.fromkeys("예술/디자인/방송/스포츠직 미용/여행/숙박/음식/경비/청소직".split(), (OCCUPATION,)),
    **dict.fromkeys("영업/판매/운전/운송직 건설/채굴직 설치/정비/생산직 농립어업직".split(), (OCCUPATION,)),
    "연구직 및 공학 기술직": (OCCUPATION,),
    **dict.fromkeys("부유한 가난한 금수저 흙수저 홈리스 세입자 재벌 기초생활수급자".split(), (OTHER,)),
    **dict.fromkeys(("경제적 여건", "다이아몬드 수저"), (OTHER,)),
}


def _options(row: Mapping[str, Any]) -> list[str]:
    """Grounds named by the annotators, else by the prompt the sentence was written for."""
    named = [
        (entry["demographic_category"], group)
        for entry in row["annotated_demo"] or ()
        for group in entry["demographic_group"] or ("",)
    ] or [(row["demographic_category"], row["demographic_group"])]
    return [ground for category, group in named for ground in _GROUPS.get(group, _CATEGORIES.get(category, ()))]


@reader("kosbi_square")
def read_kosbi(folder: Path) -> Rows:
    """Valid part for training, test part for evaluation; political belief is no ground of ours."""
    for split, name in (("train", "valid"), ("test", "test")):
        for row in read_json(folder / f"data/KoSBi/kosbi_{name}.json"):
            kinds = ",".join(row["sentence_sub_label"] or ())
            if not (text := tidy(row["sentence"])):
                yield EMPTY
                continue
            labels = no_group_hate()
            meta: dict[str, str] = {}
            if row["sentence_label"] == "unsafe":
                if kinds == "other":
                    yield Dropped("unsafe for another reason than bias", split)
                    continue
                if not (options := _options(row)):
                    yield Dropped("unsafe towards a political belief, which is no ground", split)
                    continue
                labels, meta = positive(options)
            meta |= {"topic": row["demographic_category"], "target": row["demographic_group"], "fine": kinds}
            yield Record(
                text=text,
                context=tidy(row["context"]),
                lang="ko",
                labels=labels,
                source="kosbi_square",
                split=split,
                meta={key: value for key, value in meta.items() if value},
            )
