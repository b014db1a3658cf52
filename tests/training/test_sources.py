"""Registry and readers: what upstream's own labels become, on made-up rows and on the real files."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from fineline.errors import ConfigError, DataError
from fineline.taxonomy import load_taxonomy
from fineline_training.leakage import bank_texts, cached_key, evaluation_texts, known_error_texts, load_digests
from fineline_training.records import Record
from fineline_training.sources import load_registry
from fineline_training.sources.mirror import State, source_status
from fineline_training.sources.readers import READERS, Dropped, read_source, read_use
from fineline_training.sources.readers.base import clean
from fineline_training.sources.registry import AUTHORED, REGISTRY_FILE, Source, find_source, read_registry

LAWFUL = dict.fromkeys(load_taxonomy().ids, 0)
GROUNDS = load_taxonomy().group("discrimination")
NO_HATE = dict.fromkeys((*GROUNDS, "ethnic_hatred"), 0)


def table(path: Path, *rows: list[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream).writerows(rows)


def read(source: str, folder: Path) -> tuple[list[Record], Counter[str]]:
    rows = list(read_source(source, folder))
    records = [row for row in rows if isinstance(row, Record)]
    return records, Counter(row.reason for row in rows if isinstance(row, Dropped))


# --- registry


def test_every_source_has_a_reader_and_every_reader_a_source() -> None:
    assert set(load_registry()) == set(READERS)


@pytest.mark.parametrize("source", load_registry().values(), ids=lambda source: source.id)
def test_registry_entry_is_complete(source: Source) -> None:
    assert source.title and source.licence and source.mapping and source.dropped and source.attribution
    assert source.knows and source.languages
    assert all(len(file.sha256) == 64 for file in source.files)
    if source.id != AUTHORED:
        assert source.files
        assert len(source.commit) == 40
        assert source.repository.count("/") == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("kind =", "sort ="), ConfigError),
        (('kind = "labelled"', 'kind = "labeled"'), DataError),
        (('test = "eval"', 'test = "both"'), DataError),
        (('test = "eval"', 'exam = "eval"'), DataError),
        (('knows = ["group:discrimination"', 'knows = ["group:discriminations"'), DataError),
        (("permissive = true", 'permissive = "yes"'), ConfigError),
        (("sha256 =", "md5 ="), ConfigError),
        (("[hatecheck]", "[hatecheck"), ConfigError),
    ],
)
def test_registry_fault_is_an_error(tmp_path: Path, change: tuple[str, str], error: type[Exception]) -> None:
    text = REGISTRY_FILE.read_text(encoding="utf-8")
    part = text[text.index("[hatecheck]") : text.index("[hatecheckhin]")]
    assert change[0] in part
    (tmp_path / "registry.toml").write_text(part.replace(*change), encoding="utf-8")
    with pytest.raises(error):
        read_registry(tmp_path / "registry.toml")


def test_unknown_source_is_named() -> None:
    with pytest.raises(DataError, match="'nope'"):
        find_source("nope")


# --- cleaning


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("@some_one hello", "@user hello"),
        ("看这个http://t.cn/Ab3x好吗", "看这个 好吗"),
        ("[USER] said [URL]", "@user said"),
        ("@USER tamam @url", "@user tamam"),
        ("write to a.b@example.org", "write to a.b@example.org"),
        ("face @_@ stays", "face @_@ stays"),
        ("  two   spaces \n\n next\u3000line ", "two spaces\nnext line"),
        ("https://x.y/z?a=1#b", ""),
    ],
)
def test_clean(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned
    assert clean(cleaned) == cleaned


# --- readers on made-up rows


def test_cold_topics_fine_labels_and_test_texts(tmp_path: Path) -> None:
    head = ["", "split", "topic", "label"]
    table(
        tmp_path / "COLDataset_train.csv",
        [*head, "TEXT"],
        ["0", "train", "region", "1", "甲"],
        ["1", "train", "race", "0", "乙"],
        ["2", "train", "gender", "1", "丙"],
        encoding="utf-8-sig",
    )
    table(tmp_path / "COLDataset_dev.csv", [*head, "TEXT"], ["0", "dev", "gender", "1", "丁"])
    table(
        tmp_path / "COLDataset_test.csv",
        [*head, "fine-grained-label", "TEXT"],
        ["0", "test", "gender", "1", "2", " 丙 "],
        ["1", "test", "race", "1", "1", "戊"],
        ["2", "test", "race", "0", "3", "己"],
    )
    records, drops = read("cold", tmp_path)
    rows = {row.text: row for row in records}
    assert rows["甲"].labels == {"discrimination/region": 1}
    assert rows["乙"].labels == NO_HATE
    assert (rows["丙"].split, rows["丁"].split) == ("test", "dev")
    assert (rows["戊"].labels, rows["戊"].any_of) == ({}, ("discrimination/ethnicity", "insult"))
    assert rows["己"].meta["fine"] == "anti_bias"
    assert drops == {"stands in the test split": 1}


def test_swsr_leaves_the_writer_behind(tmp_path: Path) -> None:
    head = ["index", "weibo_id", "comment_text", "gender", "location", "like", "date", "label", "category", "target"]
    table(
        tmp_path / "SWSR_SexComment.csv",
        head,
        ["0", "Jx", "甲 @某人 好", "女", "广东", "14", "05/12/2020", "1", "SCB", "G"],
        ["1", "Jy", "乙", "男", "其他", "0", "05/12/2020", "0", "", ""],
    )
    first, second = read("swsr", tmp_path)[0]
    assert (first.text, first.labels, first.meta) == (
        "甲 @user 好",
        {"discrimination/sex": 1},
        {"fine": "SCB", "target": "group"},
    )
    assert (second.labels, second.meta) == ({"discrimination/sex": 0}, {})


def test_jade_types_come_from_the_question_and_refusals_are_no_violation(tmp_path: Path) -> None:
    typed = [["1", "问一", "违法犯罪", "诈骗"], ["2", "问二", "违法犯罪", "偷窃"], ["3", "问三", "违法犯罪", "抢劫"]]
    for name in ("v1.0_jade_benchmark_zh", "v2.0_jade_benchmark_easy_zh", "v2.0_jade_benchmark_medium_zh"):
        table(tmp_path / f"jade-db-{name}.csv", ["ID", "问题", "违规类型", "违规子类"], *typed, encoding="utf-8-sig")
    head = ["ID", "问题", "违规回答", "安全有用回答"]
    answers = [["1", "问一", "坏答", "好答"], ["2", "问二", "坏答", "好答"], ["3", "问三", "坏答二", "好答"]]
    table(tmp_path / "jade-db-v3.0_jade_alignment_medium_zh.csv", head, *answers, encoding="gb18030")
    table(tmp_path / "jade-db-v3.0_jade_alignment_hard_zh.csv", head, ["1", "问一", "抱歉", "好答"], encoding="gb18030")
    records, drops = read("jade", tmp_path)
    bad = [row for row in records if row.text.startswith("坏")]
    assert [(row.context, dict(row.labels), row.any_of) for row in bad] == [
        ("问一", {"public_order": 1}, ()),
        ("问三", {}, ("violence", "public_order")),
    ]
    assert all(row.labels == LAWFUL for row in records if row.text == "好答")
    assert bad[0].pair == records[0].pair
    assert drops == {"violation type has no clear label": 1, "violating answer declines or warns": 1}


def test_edos_threats_are_violence_and_not_sexist_knows_one_label(tmp_path: Path) -> None:
    table(
        tmp_path / "data/edos_labelled_aggregated.csv",
        ["rewire_id", "text", "label_sexist", "label_category", "label_vector", "split"],
        ["a", "one [URL]", "sexist", "1. threats", "1.1 threats of harm", "test"],
        ["b", "two", "sexist", "3. animosity", "3.3 other", "dev"],
        ["c", "three", "not sexist", "none", "none", "train"],
    )
    first, second, third = read("edos", tmp_path)[0]
    assert (first.text, first.labels, first.split) == ("one", {"discrimination/sex": 1, "violence": 1}, "test")
    assert (second.labels, second.split) == ({"discrimination/sex": 1}, "dev")
    assert (third.labels, third.meta) == ({"discrimination/sex": 0}, {})


def test_safenlp_uses_agreement_and_target(tmp_path: Path) -> None:
    def row(text: str, label: str, score: float, *groups: str) -> dict[str, object]:
        return {"text": text, "label": label, "toxicity_score": score, "target_groups": groups, "id": 0}

    toxigen = [
        row("a", "hate", 5.0, "women"),
        row("b", "hate", 4.0, "asian", "chinese"),
        row("c", "hate", 4.5, "black", "women"),
        row("d", "neutral", 3.0, "black"),
        row("e", "neutral", 1.0, "black"),
        row("f", "neutral", 4.2, "black"),
    ]
    implicit = [row("g", "hate", 2.25, "all_groups"), row("h", "neutral", 1.2, "all_groups")]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/toxiGen.json").write_text(json.dumps(toxigen))
    (tmp_path / "data/implicitHate.json").write_text(json.dumps(implicit))
    records, drops = read("safenlp", tmp_path)
    rows = {record.text: record for record in records}
    assert rows["a"].labels == {"discrimination/sex": 1}
    assert rows["b"].labels == {"discrimination/ethnicity": 1}
    assert (rows["c"].labels, rows["c"].any_of) == ({}, ("discrimination/ethnicity", "discrimination/sex"))
    assert rows["e"].labels == rows["h"].labels == NO_HATE
    assert (rows["g"].labels, rows["g"].any_of) == ({}, GROUNDS)
    assert sum(drops.values()) == 2


def test_hatemoji_keeps_contrast_pairs_in_one_split(tmp_path: Path) -> None:
    head = ["entry_id", "text", "type", "target", "label_gold", "matched_id"]
    for number, name in enumerate(("train", "validation", "test")):
        rows = [
            [
                str(i),
                f"text {i}",
                "threateninglanguage" if i % 2 else "none",
                "['mus']" if i % 2 else "['none']",
                str(i % 2),
                str(i ^ 1),
            ]
            for i in range(number, 300, 3)
        ]
        table(tmp_path / f"HatemojiBuild/{name}.csv", head, *rows)
    check = ["case_id", "templ_id", "text", "target", "functionality", "set", "label_gold"]
    table(
        tmp_path / "HatemojiCheck/test.csv",
        check,
        ["0", "1.0", "I 🔪 x", "disabled people", "verb_swap", "orig", "1"],
        ["1", "1.3", "I ❤ x", "None", "verb_swap", "polarity_perturb", "0"],
    )
    records, _ = read("hatemoji", tmp_path)
    build = [row for row in records if row.split != "test"]
    by_pair: dict[str, set[str]] = {}
    for row in build:
        by_pair.setdefault(row.pair, set()).add(row.split)
    assert all(len(splits) == 1 for splits in by_pair.values())
    assert {split for splits in by_pair.values() for split in splits} == {"train", "dev"}
    assert {tuple(row.labels.items()) for row in build if "target" in row.meta} == {
        (("discrimination/religion", 1), ("violence", 1))
    }
    hateful, harmless = (row for row in records if row.split == "test")
    assert (hateful.labels, harmless.labels) == ({"discrimination/health": 1}, NO_HATE)
    assert hateful.pair == harmless.pair


def test_mlma_keeps_pure_normal_and_hateful(tmp_path: Path) -> None:
    head = ["HITId", "tweet", "sentiment", "directness", "annotator_sentiment", "target", "group"]
    rows = [
        ["1", "a", "normal", "direct", "x", "other", "other"],
        ["2", "b", "hateful_normal", "direct", "x", "origin", "arabs"],
        ["3", "c", "offensive", "direct", "x", "disability", "special_needs"],
        ["4", "d", "offensive_hateful", "direct", "x", "origin", "arabs"],
        ["5", "e", "hateful", "direct", "x", "gender", "individual"],
        ["6", "f", "hateful", "direct", "x", "other", "other"],
    ]
    for lang in ("en", "fr", "ar"):
        table(tmp_path / f"x_hate_speech_mlma/hate_speech_mlma/{lang}_dataset.csv", head, *rows)
    records, drops = read("mlma", tmp_path)
    rows_en = {row.text: row for row in records if row.lang == "en"}
    assert rows_en["a"].labels == NO_HATE
    assert rows_en["d"].labels == {"discrimination/ethnicity": 1}
    assert rows_en["e"].any_of == ("discrimination/sex", "discrimination/other")
    assert rows_en["f"].any_of == GROUNDS
    assert (len(records), sum(drops.values())) == (12, 6)


def test_germeval_and_turkish_know_only_what_they_say(tmp_path: Path) -> None:
    lines = "@a eins|LBR|zwei\tOTHER\tOTHER\ndrei\tOFFENSE\tINSULT\nvier\tOFFENSE\tABUSE\nfuenf\tOFFENSE\tPROFANITY\n"
    for name in ("training", "test"):
        (tmp_path / f"germeval2018.{name}.txt").write_text(lines)
    other, insult, abuse, profanity = read("germeval2018", tmp_path)[0][:4]
    assert (other.text, other.labels) == ("@user eins\nzwei", NO_HATE | {"insult": 0})
    assert insult.labels == {"insult": 1}
    assert (abuse.labels, abuse.any_of) == ({}, GROUNDS)
    assert profanity.labels == NO_HATE
    (tmp_path / "offenseval-tr-training-v1.tsv").write_text("1\tbir\tOFF\n")
    (tmp_path / "offenseval-tr-testset-v1.tsv").write_text("8\tiki\n9\tuc\n")
    (tmp_path / "offenseval-tr-labela-v1.tsv").write_text("9,OFF\n8,NOT\n")
    rows = read("offenseval_tr", tmp_path)[0]
    assert [(row.text, row.split, row.any_of) for row in rows] == [
        ("bir", "train", ("insult", *GROUNDS)),
        ("iki", "test", ()),
        ("uc", "test", ("insult", *GROUNDS)),
    ]
    assert rows[1].labels == NO_HATE | {"insult": 0}


def test_kosbi_ground_comes_from_annotators_then_from_the_prompt(tmp_path: Path) -> None:
    def row(
        text: str, verdict: str, category: str, group: str, kind: str | None, *named: tuple[str, str]
    ) -> dict[str, object]:
        demo = [{"demographic_category": c, "demographic_group": [g]} for c, g in named]
        return {
            "sentence": text, "context": "맥락", "sentence_label": verdict, "sentence_sub_label": kind and [kind],
            "demographic_category": category, "demographic_group": group, "annotated_demo": demo or None,
        }  # fmt: skip

    rows = [
        row("a", "unsafe", "나이/세대", "노인", "stereotype_explicit", ("성별", "아내"), ("성별", "아내")),
        row("b", "unsafe", "종교", "불교", None),
        row("c", "unsafe", "나이/세대", "노인", "undefined", ("성별", "아내"), ("종교", "불교")),
        row("d", "unsafe", "성별", "트랜스젠더", None),
        row("e", "unsafe", "정치적/신념적 성향", "좌파", None),
        row("f", "unsafe", "종교", "불교", "other"),
        row("g", "safe", "종교", "불교", None),
    ]
    (tmp_path / "data/KoSBi").mkdir(parents=True)
    for name in ("valid", "test"):
        (tmp_path / f"data/KoSBi/kosbi_{name}.json").write_text(json.dumps(rows))
    records, drops = read("kosbi_square", tmp_path)
    found = {record.text: record for record in records if record.split == "train"}
    assert found["a"].labels == {"discrimination/sex": 1}
    assert found["b"].labels == {"discrimination/religion": 1}
    assert (found["c"].labels, found["c"].any_of) == ({}, ("discrimination/sex", "discrimination/religion"))
    assert found["d"].labels == {"discrimination/other": 1}
    assert (found["g"].labels, found["g"].context) == (NO_HATE, "맥락")
    assert (set(found), sum(drops.values())) == (set("abcdg"), 4)


def test_vihos_marked_comments_are_left_out(tmp_path: Path) -> None:
    for name in ("Span_Extraction_based_version/train", "Span_Extraction_based_version/dev", "Test_data/test"):
        table(tmp_path / f"data/{name}.csv", ["", "content", "index_spans"], ["0", "xin", "[]"], ["1", "y", "[0, 1]"])
    records, drops = read("vihos", tmp_path)
    assert [(row.text, row.split) for row in records] == [("xin", "train"), ("xin", "dev"), ("xin", "test")]
    assert sum(drops.values()) == 3


def test_wisesight_complaints_leave_rude_labels_unknown(tmp_path: Path) -> None:
    for name in ("pos", "neu", "q", "neg"):
        (tmp_path / f"{name}.txt").write_text(f"{name} one\n\n@x https://a.b\n", encoding="utf-8")
    records, _ = read("wisesight_th", tmp_path)
    labels = {row.meta["topic"]: row.labels for row in records}
    assert labels["pos"] == labels["neu"] == labels["q"] == LAWFUL
    assert not {"insult", "violence", "discrimination/sex", "ethnic_hatred"} & set(labels["neg"])
    assert labels["neg"]["subversion"] == 0


def test_tatoeba_leaves_out_what_nobody_judged_safe(tmp_path: Path) -> None:
    folder = tmp_path / "data/tatoeba/v1"
    folder.mkdir(parents=True)
    codes = "ara cmn deu fra hin ind ita jpn kor nld pol por rus spa tha tur vie".split()
    for code in codes:
        (folder / f"tatoeba.{code}-eng.{code}").write_text(f"{code} 1\n{code} 2\n")
        (folder / f"tatoeba.{code}-eng.eng").write_text("The tea is hot.\nI will kill him.\n")
    records, drops = read("tatoeba_laser", tmp_path)
    assert Counter(row.lang for row in records)["en"] == 1
    assert len(records) == len(codes) + 1
    assert not any(row.text.endswith("2") for row in records)
    assert len(records) + sum(drops.values()) == 4 * len(codes)


def test_suites_are_test_only_with_their_functions(tmp_path: Path) -> None:
    table(
        tmp_path / "test_suite_cases.csv",
        ["functionality", "templ_id", "test_case", "label_gold", "target_ident", "ref_templ_id"],
        ["threat_dir_h", "7", "a", "hateful", "immigrants", ""],
        ["threat_dir_h", "7", "d", "hateful", "women", ""],
        ["negate_neg_nh", "8", "b", "non-hateful", "immigrants", "7.0"],
        ["profanity_nh", "9", "c", "non-hateful", "", ""],
    )
    threat, other_group, negated, profanity = read("hatecheck", tmp_path)[0]
    assert threat.labels == {"discrimination/nationality": 1, "violence": 1}
    assert negated.labels == profanity.labels == NO_HATE
    assert threat.pair == other_group.pair == negated.pair != profanity.pair
    for name in ("monolingual", "multilingual"):
        table(
            tmp_path / f"{name}_functionalities.csv",
            ["test_case", "label", "target", "functionality"],
            [f"{name} a", "hateful", "Hindu", "1"],
            [f"{name} b", "hateful", "Woman", "1"],
            [f"{name} c", "nonhateful", "_", "2"],
        )
    hindi = read("hatecheckhin", tmp_path)[0]
    assert [row.pair == hindi[0].pair for row in hindi] == [True, True, False, False, False, False]
    table(
        tmp_path / "xstest_prompts.csv",
        ["prompt", "type", "label", "focus"],
        ["a", "t", "safe", "f"],
        ["b", "c", "unsafe", "f"],
    )
    safe, unsafe = read("xstest", tmp_path)[0]
    assert safe.labels == LAWFUL
    assert (unsafe.labels, unsafe.any_of) == ({}, load_taxonomy().ids)
    assert {row.split for row in (threat, safe, unsafe)} == {"test"}


def test_file_of_another_form_is_one_clear_error(tmp_path: Path) -> None:
    table(tmp_path / "SWSR_SexComment.csv", ["text"], ["secret"])
    with pytest.raises(DataError) as caught:
        read("swsr", tmp_path)
    assert caught.value.code == "source_format"
    assert "secret" not in caught.value.message


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fineline data pull"):
        read("swsr", tmp_path)


# --- authored corpus


def test_authored_acts_decide_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        'lang: en\nwriter: w\nlabel: ethnic_hatred\nitems:\n  - register: chat\n    incite: "one"\n    report: "two"\n',
        encoding="utf-8",
    )
    flagged, lawful = read("authored", tmp_path)[0]
    assert flagged.labels["ethnic_hatred"] == flagged.labels["discrimination/ethnicity"] == 1
    open_labels = set(load_taxonomy()["ethnic_hatred"].overlaps) - {"discrimination/ethnicity"}
    assert not open_labels & set(flagged.labels)
    assert flagged.labels["subversion"] == 0
    assert lawful.labels == LAWFUL
    assert flagged.pair == lawful.pair
    assert {"act": "report", "topic": "ethnic_hatred", "register": "chat", "writer": "w"}.items() <= lawful.meta.items()


def test_authored_frames_are_held_back_whole(tmp_path: Path) -> None:
    groups = "\n".join(f'  - demean: "{{group}} text {i}"\n    identity: "{{group}} fine {i}"' for i in range(60))
    terms = ", ".join(f"term{i}" for i in range(30))
    (tmp_path / "a.yaml").write_text(
        f"lang: en\nterms:\n  discrimination/age: [{terms}]\nframes:\n{groups}\n", encoding="utf-8"
    )
    splits: dict[str, set[str]] = {}
    for row in read("authored", tmp_path)[0]:
        splits.setdefault(row.meta["frame"], set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    held = sum(found == {"dev"} for found in splits.values())
    assert 0 < held < len(splits) / 2


def test_authored_rows_say_which_file_they_are_of_and_whether_it_is_aimed(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    for name, more in (("plain", ""), ("weak", "aimed: true\n"), ("same", "aimed: false\n")):
        file = tmp_path / "en" / f"{name}.yaml"
        file.write_text(f'lang: en\n{more}label: insult\nitems:\n  - report: "{name}"\n', encoding="utf-8")
    found = {row.text: (row.meta["file"], row.meta.get("aimed")) for row in read("authored", tmp_path)[0]}
    assert found == {
        "plain": ("en/plain.yaml", None),
        "weak": ("en/weak.yaml", "yes"),
        "same": ("en/same.yaml", None),
    }


def test_broken_corpus_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lang: en\nitems:\n  - shout: x\n", encoding="utf-8")
    with pytest.raises(DataError, match="'shout'"):
        read("authored", tmp_path)


# --- the real files

MIRROR = Path(os.environ.get("FINELINE_MIRROR") or Path(__file__).parents[3] / "shared" / "data")
ROWS = {  # kept train + dev, kept test, dropped
    "cold": (32103, 5323, 54),
    "swsr": (8969, 0, 0),
    "jade": (913, 0, 387),
    "edos": (16000, 4000, 0),
    "safenlp": (19305, 0, 1409),
    "hatemoji": (5912, 3930, 0),
    "germeval2018": (5009, 3532, 0),
    "mlma": (4311, 0, 8703),
    "kosbi_square": (3326, 3313, 205),
    "vihos": (5121, 575, 5360),
    "offenseval_tr": (31756, 3528, 0),
    "lawbench": (2500, 0, 0),
    "chinese-safetyqa": (2000, 0, 0),
    "gaokao": (979, 0, 0),
    "belle": (1175, 0, 0),
    "cvalues": (664, 0, 0),
    "tatoeba_laser": (30785, 0, 2311),
    "wisesight_th": (26734, 0, 3),
    "hatecheck": (0, 3728, 0),
    "hatecheckhin": (0, 5884, 0),
    "xstest": (0, 450, 0),
}
needs_mirror = pytest.mark.skipif(not MIRROR.is_dir(), reason="no mirror of the upstream files")


def test_row_counts_cover_every_public_source() -> None:
    assert set(ROWS) == set(load_registry()) - {AUTHORED}


@pytest.mark.mirror
@needs_mirror
@pytest.mark.parametrize("source_id", ROWS)
def test_real_source_is_pinned_and_reads_as_counted(source_id: str) -> None:
    source = find_source(source_id)
    assert source_status(source, MIRROR).state is State.PRESENT
    records, drops = read(source_id, MIRROR / source_id)
    fitted = sum(row.split != "test" for row in records)
    assert (fitted, len(records) - fitted, sum(drops.values())) == ROWS[source_id]
    assert {row.split for row in records} <= set(source.use)
    assert {row.lang for row in records} == set(source.languages)
    known = {label for row in records for label in (*row.labels, *row.any_of)}
    assert known <= set(source.knows)
    assert all(row.labels or row.any_of for row in records)
    assert all(isinstance(value, str) and value for row in records for value in row.meta.values())


@pytest.mark.mirror
@needs_mirror
def test_evaluation_rows_never_come_for_training() -> None:
    for source in load_registry().values():
        if source.splits("eval") and source.splits("train"):
            rows = [row for row in read_use(source, MIRROR, "train") if isinstance(row, Record)]
            assert rows and all(row.split != "test" for row in rows), source.id


@pytest.mark.mirror
@needs_mirror
def test_committed_digests_are_those_of_the_mirror() -> None:
    committed = load_digests()
    texts = {*evaluation_texts(MIRROR), *bank_texts(), *known_error_texts()}
    assert all(text in committed for text in texts)
    assert len(committed) == len({cached_key(text) for text in texts}) + 1  # one entry checks the file itself
