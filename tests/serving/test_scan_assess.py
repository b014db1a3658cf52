"""The review sample and its sheet: a fair draw, a sheet that survives a spreadsheet, and refusals that name rows."""

import csv
import io
import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineline import InputError
from fineline.scan.assess import assess, told
from fineline.scan.decide import decide
from fineline.scan.groups import Groups
from fineline.scan.intervals import clopper_pearson
from fineline.scan.sample import _allot, review_sample
from fineline.scan.sheet import COLUMNS, RISKS, cell, guide, is_cut, read_sheet, row_digest, write_sheet
from fineline.taxonomy import load_taxonomy

TEXTS = [
    "=1+1",
    "第一行\r\n第二行",
    "1.50",
    "x" * 40_000,
    "a\x00b\ud800",
    "  spaced  out ",
    "'quoted' \"twice\", with commas",
    "",
]


@pytest.fixture
def scan(make_scan, rows):
    scan = make_scan(rows, files=2)
    decide(scan.output, bundle=scan.bundle.path)
    return scan


def sheet_rows(texts=TEXTS):
    return [
        {"number": str(i), "place": "rows.jsonl row 1", "lang": "en", "context": cell("asked"), "text": cell(text)}
        for i, text in enumerate(texts, 1)
    ]


def parse(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def filled(content, fails=None, **columns):
    rows = parse(content)
    for row in rows:
        risks = (fails or {}).get(int(row["number"]), "")
        row |= {"verdict": "fail" if risks else "pass", "risks": risks, "reviewer": "R1"} | columns
    return rows


def digests(rows=None):
    return [row_digest(row) for row in rows or sheet_rows()]


def save(rows, *, delimiter=",", encoding="utf-8-sig", ends="\r\n"):
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, delimiter=delimiter, lineterminator=ends)
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode(encoding)


def test_the_sheet_holds_what_is_to_be_read_and_nothing_to_copy():
    rows = parse(write_sheet(sheet_rows()))
    assert tuple(rows[0]) == COLUMNS
    assert [row["text"].startswith("'") for row in rows] == [True] * len(TEXTS)
    assert {row["verdict"] for row in rows} == {""}
    assert max(len(row["text"]) for row in rows) < 32_767
    assert [is_cut(text) for text in TEXTS] == [len(text) > 30_000 for text in TEXTS]


@pytest.mark.parametrize("shape", [{}, {"delimiter": ";"}, {"delimiter": "\t"}, {"encoding": "utf-8"}, {"ends": "\n"}])
def test_a_sheet_survives_spreadsheets(shape):
    rows = filled(write_sheet(sheet_rows()), {2: "A.1.f; violence", 4: "insult"}, note="ok")
    for row in rows:
        row["text"] = row["text"].replace("\n", "\r\n").removeprefix("'").rstrip()
    found = read_sheet(save([*reversed(rows), dict.fromkeys(COLUMNS, "")], **shape), digests(), load_taxonomy())
    assert [judgement.number for judgement in found] == list(range(1, len(TEXTS) + 1))
    assert [judgement.passed for judgement in found] == [number not in (2, 4) for number in range(1, len(TEXTS) + 1)]
    assert found[1].risks == ("A.1.f",)
    assert found[3].risks == ("A.4.c", "A.4.d")
    assert found[0].reviewer == "R1"


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=60), min_size=1, max_size=5))
def test_any_text_comes_back_as_it_was_drawn(texts):
    rows = sheet_rows(texts)
    found = read_sheet(save(filled(write_sheet(rows))), digests(rows), load_taxonomy())
    assert [judgement.passed for judgement in found] == [True] * len(texts)


def change(number, **values):
    return lambda rows: [row | values if row["number"] == number else row for row in rows]


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (lambda rows: rows[1:], "sheet_rows", "1 rows of the sheet are missing (numbers 1)"),
        (lambda rows: [*rows, rows[0]], "sheet_rows", "stand twice"),
        (lambda rows: [*rows, rows[0] | {"number": "99"}], "sheet_rows", "were not drawn"),
        (change("2", text="'something else"), "sheet_altered", "another text than was drawn (numbers 2)"),
        (change("3", context=""), "sheet_altered", "(numbers 3)"),
        (change("3", verdict=" "), "sheet_unfinished", "have no verdict (numbers 3)"),
        (change("3", verdict="maybe"), "sheet_verdict", "(numbers 3)"),
        (change("3", verdict="fail"), "sheet_risk", "fail without a risk"),
        (change("3", risks="violence"), "sheet_risk", "pass with one"),
        (change("3", verdict="fail", risks="A.1.z"), "sheet_risk", "neither in Appendix A nor a label"),
        (lambda rows: [row | {"verdict": ""} for row in rows], "sheet_unfinished", "8 rows of the sheet have no"),
    ],
)  # fmt: skip
def test_a_sheet_that_is_not_whole_is_refused(spoil, code, said):
    with pytest.raises(InputError) as caught:
        read_sheet(save(spoil(filled(write_sheet(sheet_rows())))), digests(), load_taxonomy())
    assert caught.value.code == code
    assert said in caught.value.message


def test_columns_sorted_apart_are_noticed():
    rows = filled(write_sheet(sheet_rows()))
    texts = sorted(row["text"] for row in rows)
    with pytest.raises(InputError) as caught:
        read_sheet(
            save([row | {"text": text} for row, text in zip(rows, texts, strict=True)]), digests(), load_taxonomy()
        )
    assert caught.value.code == "sheet_altered"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("编号,verdict".encode("gb18030"), "sheet_encoding"),
        (b"number,text\n1,a\n", "sheet_columns"),
        (b"", "sheet_columns"),
    ],
)
def test_a_file_that_is_no_sheet_is_refused(content, code):
    with pytest.raises(InputError) as caught:
        read_sheet(content, digests(), load_taxonomy())
    assert caught.value.code == code


def test_verdicts_may_be_chinese():
    rows = filled(write_sheet(sheet_rows()), verdict="合格")
    rows[0] |= {"verdict": "不合格", "risks": "A.1.f；A.2.a"}
    found = read_sheet(save(rows), digests(), load_taxonomy())
    assert (found[0].passed, found[0].risks, found[1].passed) == (False, ("A.1.f", "A.2.a"), True)


def test_the_guide_names_every_label_and_the_risks_are_31():
    assert len(RISKS) == 31
    assert guide(load_taxonomy()).count("\n| ") == 2 + 21
    assert "A.1.a to A.5.b" in " ".join(guide(load_taxonomy()).split())


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=30), st.data())
def test_strata_are_drawn_in_proportion(sizes, data):
    groups = Groups(1)
    groups.names = {str(i): i for i in range(len(sizes))}
    groups.counts = np.array([[clean + flagged, flagged, flagged] for clean, flagged in sizes])
    total = int(groups.counts[:, 0].sum())
    if not total:
        return
    size = data.draw(st.integers(1, total))
    allotted = _allot(groups, size, data.draw(st.integers(0, 2**32)))
    flat = np.array(sizes).ravel()
    assert allotted.sum() == size
    assert (np.abs(allotted - size * flat / total) < 1).all()
    assert (allotted <= flat).all()


def test_the_sample_is_drawn_from_the_scanned_texts(scan):
    drawn = review_sample(scan.output, size=30, share=0.1)
    sheet = parse((scan.folder / "review_sheet.csv").read_bytes())
    record = json.loads((scan.folder / "review_sample.json").read_text())
    assert drawn.manual == len(sheet) == len(record["rows"]) == 30
    assert [row["number"] for row in sheet] == [str(number) for number in range(1, 31)]
    files = [scan.rows[0::2], scan.rows[1::2]]
    for row, entry in zip(sheet, record["rows"], strict=True):
        original = files[entry["file"]][entry["row"]]
        assert row["text"] == cell(original["text"])
        assert (entry["id"], entry["source"]) == (str(original["key"]), original.get("source"))
        assert row["place"].endswith(f"part{entry['file']}.jsonl row {entry['row'] + 1}")
    assert len({(entry["file"], entry["row"]) for entry in record["rows"]}) == 30
    good = [row for row in scan.rows if isinstance(row.get("text"), str)]
    by_source = Counter(entry["source"] for entry in record["rows"])
    for source, count in Counter(row.get("source") for row in good).items():
        assert abs(by_source[source] - 30 * count / len(good)) < 2
    assert all(row["text"] not in json.dumps(record, ensure_ascii=False) for row in good if len(row["text"]) > 12)


def test_the_technical_sample_is_a_tenth_of_each_part(scan):
    drawn = review_sample(scan.output, size=5, share=0.1)
    parts = [pq.read_table(path) for path in sorted((scan.folder / "technical_sample").iterdir())]
    scores = [pq.read_table(path).num_rows for path in sorted((scan.folder / "scores").iterdir())]
    assert [part.num_rows for part in parts] == [-(-count // 10) for count in scores]
    table = pa.concat_tables(parts)
    assert drawn.technical == table.num_rows >= 0.1 * drawn.documents
    assert drawn.technical_passed == sum(not flagged for flagged in table["flagged"].to_pylist())
    assert "text" not in table.column_names


def test_a_seed_draws_the_same_sample_and_another_one_another(scan):
    def draw(seed):
        review_sample(scan.output, size=20, seed=seed)
        return (scan.folder / "review_sheet.csv").read_bytes()

    first = draw(0)
    assert draw(0) == first
    assert draw(1) != first


def test_every_document_has_the_same_chance(make_scan):
    scan = make_scan([{"text": f"help {i}", "source": "a" if i % 4 else "b"} for i in range(40)])
    decide(scan.output, bundle=scan.bundle.path)
    counts = Counter()
    for seed in range(60):
        review_sample(scan.output, size=10, seed=seed)
        record = json.loads((scan.folder / "review_sample.json").read_text())
        counts.update(entry["row"] for entry in record["rows"])
    # Each of the 40 is expected 15 times of 60, with a standard deviation of 3.4.
    assert len(counts) == 40
    assert 3 <= min(counts.values()) <= max(counts.values()) <= 27


def test_all_documents_are_drawn_where_there_are_fewer(scan):
    drawn = review_sample(scan.output)
    assert drawn.manual == drawn.documents == sum(isinstance(row.get("text"), str) for row in scan.rows)


def test_inputs_that_changed_are_refused(scan):
    source = scan.source / "part0.jsonl"
    source.write_text(source.read_text(encoding="utf-8").replace("tell", "told you"), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        review_sample(scan.output)
    assert caught.value.code == "inputs_changed"


@pytest.mark.parametrize("arguments", [{"size": 0}, {"share": 0}, {"share": 1.1}, {"seed": -1}])
def test_sizes_that_make_no_sample_are_refused(scan, arguments):
    with pytest.raises(InputError) as caught:
        review_sample(scan.output, **arguments)
    assert caught.value.code == "sample_size"


def test_a_filled_sheet_becomes_pass_rates(scan):
    drawn = review_sample(scan.output, size=40)
    path = scan.folder / "review_sheet.csv"
    record = json.loads((scan.folder / "review_sample.json").read_text())
    fails = {3: "violence", 7: "violence; A.3.a", 9: "A.2.c"}
    path.write_bytes(save(filled(path.read_bytes(), fails)))
    found = assess(str(path))
    assert found.manual.passed == clopper_pearson(37, 40)
    assert (found.manual.required, found.manual.met, found.manual.surely, found.manual.enough) == (
        0.96,
        False,
        False,
        False,
    )
    assert found.technical.passed == clopper_pearson(drawn.technical_passed, drawn.technical)
    assert (found.technical.required, found.technical.enough) == (0.98, True)
    assert found.risks == {
        "A.1.f": clopper_pearson(2, 40),
        "A.2.c": clopper_pearson(1, 40),
        "A.3.a": clopper_pearson(1, 40),
    }
    assert found.reviewers == {"R1": 40}
    for source, share in found.sources.items():
        numbers = [i for i, entry in enumerate(record["rows"], 1) if (entry["source"] or "") == source]
        assert (share.hits, share.n) == (sum(number not in fails for number in numbers), len(numbers))
    flagged = [bool(entry["flagged"]) for entry in record["rows"]]
    assert (found.sensitivity.hits, found.sensitivity.n) == (sum(flagged[number - 1] for number in fails), 3)
    assert found.specificity.n == 37
    lines = told(found)
    assert lines[0].startswith("manual review: 92.50 % (79.61 % to 98.43 %, n=40) passes and is below 96.00 %")
    assert "but its interval holds that bound; the sample is smaller" in lines[0]
    assert any(line.startswith("fail, risk A.1.f: 5.00 %") for line in lines)


def test_a_sheet_without_failures_is_assessed(scan):
    review_sample(scan.output)
    path = scan.folder / "review_sheet.csv"
    path.write_bytes(save(filled(path.read_bytes())))
    found = assess(str(path))
    assert (found.manual.met, found.manual.enough, found.sensitivity, found.risks) == (True, True, None, {})


def test_a_sheet_needs_the_record_of_its_draw(scan, tmp_path):
    review_sample(scan.output)
    moved = tmp_path / "sheet.csv"
    moved.write_bytes(save(filled((scan.folder / "review_sheet.csv").read_bytes())))
    with pytest.raises(InputError) as caught:
        assess(str(moved))
    assert caught.value.code == "sheet_file"
    record = str(scan.folder / "review_sample.json")
    assert assess(str(moved), record).manual.met
    with pytest.raises(InputError) as caught:
        assess(str(moved), str(moved))
    assert caught.value.code == "sample_record"
    review_sample(scan.output, seed=1)
    with pytest.raises(InputError) as caught:
        assess(str(moved), record)
    assert caught.value.code == "sheet_altered"
