"""A store through assignment, agreement and spot check: separate hands, whole files, records without texts."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from fineline.errors import DataError
from fineline_training.commands.labels import app
from fineline_training.labels.agreement import OTHERS, measure, record_agreement
from fineline_training.labels.assign import assign
from fineline_training.labels.spotcheck import draw, judge
from fineline_training.labels.store import LabelStore
from fineline_training.labels.tasks import holders, read_filled
from fineline_training.labels.votes import LabelledRow

LABEL = "insult"
SECRET = "a text of the team"


def row(number, lang="en", **votes):
    return LabelledRow(
        id=f"r{number}",
        text=f"{SECRET} {number}",
        lang=lang,
        source="team",
        votes={person: {LABEL: mark} for person, mark in votes.items() if mark is not None},
    )


@pytest.fixture
def make(tmp_path):
    def build(rows, name="store"):
        store = LabelStore.open(tmp_path / name, create=True)
        store.add(rows, {})
        return store

    return build


def texts_file(folder, count, **more):
    path = folder / "texts.jsonl"
    rows = [{"id": f"t{number}", "text": f"{SECRET} new {number}", "lang": "zh", **more} for number in range(count)]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in rows), encoding="utf-8")
    return path


def dealt(assignment, role):
    return json.loads(assignment.record.read_text())["dealt"][role]


def fill(path, answer):
    """Fill a task file as a person would; ``answer`` gives the mark of a row id."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for entry in rows:
        for marks in entry["votes"].values():
            marks.update(dict.fromkeys(marks, answer(entry["id"])))
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rows), encoding="utf-8")
    return path


def take_in(store, path):
    """What an import does with a filled file: the same rows with more votes."""
    rows = {entry.id: entry for entry in store.rows()}
    for key, entry in read_filled(path, store.taxonomy.ids).items():
        old = rows.get(key) or LabelledRow(id=key, text=entry.text, lang="und", source="team")
        rows[key] = replace(old, votes={**old.votes, entry.person: entry.marks})
    store.replace_rows(rows.values())


PEOPLE = ["ann", "bo", "cy", "di"]
MARKS = st.lists(
    st.fixed_dictionaries({person: st.sampled_from([None, None, 0, 1]) for person in PEOPLE}).filter(
        lambda votes: any(mark is not None for mark in votes.values())
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    votes=MARKS,
    annotators=st.lists(st.sampled_from(PEOPLE), min_size=2, unique=True),
    reviewers=st.lists(st.sampled_from(PEOPLE), unique=True),
    new=st.integers(0, 12),
    double=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_nobody_reviews_or_labels_twice_what_they_labelled(
    tmp_path_factory, votes, annotators, reviewers, new, double, seed
):
    folder = tmp_path_factory.mktemp("store")
    store = LabelStore.open(folder / "s", create=True)
    store.add([row(number, **given) for number, given in enumerate(votes)], {})
    seen = {entry.id: set(entry.votes) for entry in store.rows()}
    # Three rounds; what was dealt in one is in people's hands in the next.
    for turn in range(3):
        try:
            done = assign(
                store, [LABEL], annotators, double=double, reviewers=reviewers, texts=texts_file(folder, new), seed=seed
            )
        except DataError as error:
            assert error.code == "assign_nothing"
            break
        for role in ("label", "review"):
            for person, keys in dealt(done, role).items():
                assert person in (annotators if role == "label" else reviewers)
                for key in keys:
                    assert person not in seen.setdefault(key, set()), (turn, role)
                    seen[key].add(person)


def test_new_texts_get_one_answer_and_a_share_two(make, tmp_path):
    store = make([row(0, ann=0)])
    done = assign(store, [LABEL], ["ann", "bo", "cy"], double=0.2, texts=texts_file(tmp_path, 99))
    loads = [len(keys) for keys in dealt(done, "label").values()]
    assert (done.first, done.second, done.review, done.left) == (99, 20, 0, 0)
    assert sum(loads) == 119 and max(loads) - min(loads) <= 1
    again = assign(store, [LABEL], ["ann", "bo", "cy"], double=0.5, texts=texts_file(tmp_path, 100))
    assert again.first == 1, "what is in people's hands is not dealt again"


def test_a_share_that_is_reached_asks_for_no_more(make):
    store = make([row(number, ann=0, **({"bo": 0} if number < 5 else {})) for number in range(20)])
    assert assign(store, [LABEL], ["bo", "cy"], double=0.5).second == 5
    with pytest.raises(DataError) as caught:
        assign(store, [LABEL], ["bo", "cy"], double=0.5)
    assert caught.value.code == "assign_nothing"


def test_a_deleted_task_file_gives_its_rows_back(make):
    store = make([row(number, ann=0) for number in range(10)])
    (file,) = assign(store, [LABEL], ["ann", "bo"], double=1).files
    assert set(holders(store)) == {f"r{number}" for number in range(10)}
    file.unlink()
    assert holders(store) == {}
    assert assign(store, [LABEL], ["ann", "cy"], double=1).second == 10


def test_a_review_is_of_lone_flags_and_ties(make):
    store = make([row(0, ann=1), row(1, ann=0), row(2, ann=1, bo=1), row(3, ann=1, bo=0), row(4, ann=1, bo=0, cy=0)])
    done = assign(store, [LABEL], ["ann"], double=0, reviewers=["cy", "ann"])
    assert sorted(dealt(done, "review")["cy"]) == ["r0", "r3"]
    assert not dealt(done, "review")["ann"]
    take_in(store, fill(done.files[0], lambda key: 0))
    # r0 is a tie now and r3 is settled; cy has seen both.
    done = assign(store, [LABEL], ["ann"], double=0, reviewers=["cy", "di"])
    assert dealt(done, "review") == {"cy": [], "di": ["r0"]}


def test_a_task_file_shows_the_text_and_nobodys_answer(make):
    store = make([row(0, ann=1)])
    done = assign(store, [LABEL, "violence"], ["ann", "bo"], double=1)
    assert [file.name for file in done.files] == ["bo.jsonl"]
    (line,) = done.files[0].read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "id": "r0",
        "source": "team",
        "lang": "en",
        "context": None,
        "text": f"{SECRET} 0",
        "votes": {"bo": {LABEL: None, "violence": None}},
    }


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"annotators": ["../x", "b"]}, "person_name"),
        ({"annotators": ["Ann", "ann"]}, "person_twice"),
        ({"annotators": ["ann"]}, "double_people"),
        ({"annotators": ["ann", "bo"], "double": 1.5}, "double_share"),
        ({"annotators": ["ann", "bo"], "reviewers": [""]}, "person_name"),
    ],
)
def test_what_cannot_be_dealt_is_refused(make, given, code):
    with pytest.raises(DataError) as caught:
        assign(make([row(0, ann=0)]), [LABEL], **given)
    assert caught.value.code == code


def test_bad_lines_of_texts_are_named_and_the_rest_dealt(make, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_bytes(
        b'{"id": "a", "text": "one"}\n\xff\n[]\n{"id": "a", "text": "two"}\n{"text": ""}\n'
        + json.dumps({"text": "three", "labels": ["x"], "context": "q"}).encode()
    )
    done = assign(make([row(0, ann=0)]), [LABEL], ["ann", "bo"], double=0, texts=path)
    assert [refusal.line for refusal in done.refused] == [2, 3, 4, 5] and done.first == 2
    assert all("one" not in refusal.reason for refusal in done.refused)


def test_a_text_under_an_id_of_another_text_is_dealt_and_known_ones_are_counted(make, tmp_path):
    store = make([row(0, ann=0)])
    file = tmp_path / "texts.jsonl"
    texts = [{"id": "r0", "text": "another"}, {"text": store.rows()[0].text}]
    file.write_text("\n".join(map(json.dumps, texts)))
    done = assign(store, ["insult"], ["ben"], double=0, texts=file)
    assert (done.first, done.known) == (1, 1)


def test_agreement_by_label_pair_and_person():
    rows = [row(number, ann=number % 2, bo=number % 2, cy=int(number < 2)) for number in range(8)]
    rows += [row(8, ann=1), replace(row(9), labels={LABEL: 1})]
    found = measure(rows, [LABEL, "violence"])
    (label,) = found.labels
    assert (label.label, label.voted, label.alpha.rows, label.disputed) == (LABEL, 9, 8, 4)
    people = {(pair.person, pair.other): pair for pair in found.people}
    assert set(people) == {
        ("ann", "bo"),
        ("ann", "cy"),
        ("bo", "cy"),
        *((name, OTHERS) for name in ("ann", "bo", "cy")),
    }
    assert people["ann", "bo"].kappa.value == 1 and people["ann", "cy"].kappa.value == 0
    # Ann against bo and cy: ties are left out.
    assert people["ann", OTHERS].kappa.rows == 4 and people["ann", OTHERS].same == 1
    assert people["cy", OTHERS].same == 0.5


def test_two_people_are_one_pair():
    found = measure([row(number, ann=number % 2, bo=1) for number in range(4)], [LABEL])
    assert [(pair.person, pair.other) for pair in found.people] == [("ann", "bo")]


@pytest.mark.parametrize(("wrong", "reading"), [(0, "reliable"), (3, "usable with care"), (12, "sharpen the rule")])
def test_alpha_is_read_by_its_limits(wrong, reading):
    rows = [row(number, ann=number % 2, bo=(number + (number < wrong)) % 2) for number in range(24)]
    assert measure(rows, [LABEL]).labels[0].reading == reading


def test_the_record_of_agreement_is_dated_and_complete(make):
    store = make([row(number, ann=number % 2, bo=number % 3 % 2) for number in range(30)])
    result, path = record_agreement(store, [LABEL])
    kept = json.loads(path.read_text())
    assert kept["at"].startswith("20") and kept["rows"] == store.digest()
    assert kept["labels"][0]["alpha"]["value"] == result.labels[0].alpha.value
    assert kept["people"][0]["kappa"]["low"] <= kept["people"][0]["kappa"]["high"]


def test_reviews_do_not_count_as_agreement(make):
    store = make([row(number, ann=number % 2, **({"bo": number % 2} if number < 20 else {})) for number in range(40)])
    done = assign(store, [LABEL], ["ann"], double=0, reviewers=["cy"])
    before = record_agreement(store, [LABEL])[0]
    take_in(store, fill(done.files[0], lambda key: 0))
    after, path = record_agreement(store, [LABEL])
    # Ten rows that ann alone flagged came back as lawful: they were chosen, so they say nothing of other rows.
    assert after == before and after.labels[0].alpha.value == 1
    assert json.loads(path.read_text())["reviews_left_out"] == 10


def checked(make, size=50, rows=200, wrong=()):
    store = make([row(number, ann=number % 2, **({"cy": 0} if number % 10 == 0 else {})) for number in range(rows)])
    drawn = draw(store, [LABEL], ["cy"], size)
    (file,) = drawn.files
    store_marks = {entry.id: entry.votes["ann"][LABEL] for entry in store.rows()}
    ids = sorted(json.loads(line)["id"] for line in file.read_text(encoding="utf-8").splitlines())
    return store, drawn, fill(file, lambda key: store_marks[key] ^ (key in ids[: len(wrong)])), ids


def test_a_spot_check_bounds_the_error_rate(make):
    store, drawn, file, ids = checked(make, wrong=range(2))
    assert (drawn.drawn, drawn.population) == (50, 180), "what the checker labelled is not drawn from"
    result = judge(store, [file])
    (label,) = result.labels
    # Clopper and Pearson 1934: 2 of 50 is 0.49 % to 13.71 %.
    assert (label.rate.hits, label.rate.n) == (2, 50)
    assert label.rate.high == pytest.approx(0.1371, abs=5e-5) and label.rate.low == pytest.approx(0.0049, abs=5e-5)
    assert label.missed + label.invented == 2 and result.wrong == tuple(ids[:2])
    (ann,) = result.people
    assert (ann.name, ann.rate.hits) == ("ann", 2)
    # The checker's own votes do not change what they are measured against.
    take_in(store, file)
    assert judge(store, [file]).labels == result.labels
    assert "checkers" in json.loads(result.record.read_text())


def test_no_error_found_is_not_no_error(make):
    store, _, file, _ = checked(make)
    (label,) = judge(store, [file]).labels
    # 1 - 0.025 ** (1 / 50)
    assert label.rate.value == 0 and label.rate.high == pytest.approx(0.0711, abs=5e-5)


def test_every_row_has_the_same_chance_of_being_drawn(make):
    drawn = [0] * 40
    for seed in range(60):
        store = make([row(number, ann=number % 2) for number in range(40)], f"s{seed}")
        for key in json.loads(draw(store, [LABEL], ["cy"], 10, seed).record.read_text())["given"]:
            drawn[int(key[1:])] += 1
    # 60 draws of a quarter: 15 each, standard deviation 3.4.
    assert min(drawn) >= 4 and max(drawn) <= 27 and sum(drawn) == 600


def test_open_marks_are_counted_and_too_many_refused(make):
    store, _, file, ids = checked(make, size=20)
    fill(file, lambda key: None if key == ids[0] else 0)
    (label,) = judge(store, [file]).labels
    assert label.open == 1 and label.rate.n == 19
    fill(file, lambda key: None if key in ids[:3] else 0)
    with pytest.raises(DataError) as caught:
        judge(store, [file])
    assert caught.value.code == "spotcheck_open"


def test_files_that_are_not_as_drawn_are_refused(make):
    store, _, file, _ = checked(make, size=20)
    whole = file.read_text(encoding="utf-8")
    lines = whole.splitlines(keepends=True)
    for content, code in (
        ("".join(lines[:-1]), "spotcheck_rows"),
        (whole + lines[0], "task_twice"),
        (whole.replace(SECRET, "another"), "spotcheck_changed"),
        (whole.replace('"cy"', '"ann"'), "spotcheck_rows"),
        (whole.replace('"insult": 1', '"insult": 2'), "task_mark"),
        (whole.replace('"insult": 1', '"insulted": 1'), "task_mark"),
        (whole.replace('"id"', '"key"'), "task_row"),
        ("no json\n", "task_row"),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(DataError) as caught:
            judge(store, [file])
        assert caught.value.code == code
        assert SECRET not in caught.value.message


def test_two_checkers_share_a_draw_and_both_files_are_needed(make):
    store = make([row(number, ann=0, **({"cy": 0} if number < 10 else {})) for number in range(20)])
    drawn = draw(store, [LABEL], ["cy", "di"], 20)
    assert len(drawn.files) == 2 and drawn.drawn == 20
    for file in drawn.files:
        fill(file, lambda key: 0)
    with pytest.raises(DataError):
        judge(store, drawn.files[:1])
    assert judge(store, drawn.files).labels[0].rate.n == 20


def test_a_checker_who_saw_everything_cannot_check(make):
    with pytest.raises(DataError) as caught:
        draw(make([row(0, ann=0)]), [LABEL], ["ann"], 5)
    assert caught.value.code == "spotcheck_nobody"


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_commands_and_no_text_outside_rows_and_tasks(make, tmp_path):
    store = make([row(number, ann=number % 2, bo=int(number % 5 == 1)) for number in range(40)])
    out = run("assign", store.path, "--annotators", "ann, bo,cy", "--double", "1", "--review", "di", "--label", LABEL,
              "--texts", texts_file(tmp_path, 6))  # fmt: skip
    assert "6 new rows, 6 second answers" in out and "di.jsonl" in out
    assert "insult" in run("agreement", store.path)
    out = run("spotcheck", store.path, "--size", "10", "--review", "el", "--label", LABEL)
    # Half of the rows are ties, which say nothing that could be wrong.
    assert "10 of 20 rows" in out
    (file,) = store.tasks.glob("*/el.jsonl")
    out = run("spotcheck", store.path, "--judged", fill(file, lambda key: 0))
    assert "rows with a wrong label" in out and "annotator" in out
    records = list((store.path / "records").glob("*.json"))
    assert sorted(path.stem.split("-")[0] for path in records) == ["agreement", "assign", "draw", "spotcheck"]
    assert not any(SECRET in path.read_text() for path in records)


def test_filled_files_are_imported_as_they_are(make, tmp_path):
    store = make([row(number, ann=number % 2) for number in range(6)])
    run(
        "assign",
        store.path,
        "--annotators",
        "bo,cy",
        "--double",
        "1",
        "--label",
        LABEL,
        "--texts",
        texts_file(tmp_path, 4),
    )
    files = [fill(file, lambda key: None if key == "t0" else 1) for file in sorted(store.tasks.glob("*/*.jsonl"))]
    out = run("import", *files, "--store", store.path, "--licence", "own work", "--basis", "consent")
    assert "3 new rows" in out and "0 refused" in out
    rows = {entry.id: entry for entry in store.rows()}
    assert len(rows) == 9 and all(len(entry.votes) == 2 for entry in rows.values())
    assert set(rows["t1"].votes) == {"bo", "cy"} and rows["t1"].source == "texts"
    assert "9" in run("agreement", store.path)


@pytest.mark.parametrize(
    "arguments", [[], ["--size", "5"], ["--size", "5", "--review", "x", "--judged", "f"], ["--review", "x"]]
)
def test_a_spot_check_is_one_step_at_a_time(make, arguments):
    store = make([row(0, ann=0)])
    result = CliRunner().invoke(app, ["spotcheck", str(store.path), *arguments])
    assert isinstance(result.exception, DataError) and result.exception.code == "spotcheck_step"


def test_labels_must_be_named_or_own(make):
    store = make([row(0, ann=0)])
    for arguments, code in (([], "labels_none"), (["--label", "rude"], "label_unknown")):
        result = CliRunner().invoke(app, ["assign", str(store.path), "--annotators", "a,b", *arguments])
        assert isinstance(result.exception, DataError) and result.exception.code == code
