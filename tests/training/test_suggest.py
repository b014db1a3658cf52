"""What is worth labelling: the kinds and their numbers, diversity, bounded memory, and texts in the output alone."""

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fineline import Classifier
from fineline.errors import DataError, InputError
from fineline.scan.documents import Document, list_inputs
from fineline.text import View, normalise
from fineline_training.build import LEAKED
from fineline_training.commands.labels import app
from fineline_training.labels.candidates import Best, Candidate, Kept, Scores, Wanted, Why, gather, view_scorer
from fineline_training.labels.near import NearIndex
from fineline_training.labels.pool import (
    EMPTY,
    ENCODING,
    LABELLED,
    NOT_DRAWN,
    LeftOut,
    Place,
    PoolRow,
    labelled_keys,
    read_places,
    read_pool,
    text_key,
)
from fineline_training.labels.suggest import choose, suggest, unit_vectors, unlike
from fineline_training.labels.votes import LabelledRow
from fineline_training.leakage import EvaluationKeys, digest

NOTHING = LeftOut(evaluation=EvaluationKeys([]), near=NearIndex([]))
LABELS = ("insult", "violence")
SPEECH = ("find you", "tell anyone", "help", "never report", "他说要打断你的手", "ありがとう", "нет", "ห้าม")


def pool_file(folder: Path, texts: Sequence[str], name: str = "pool.jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    rows = ({"id": f"{name}-{number}", "text": text} for number, text in enumerate(texts))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def some_texts(count: int) -> list[str]:
    return [f"{SPEECH[n % 8]} {SPEECH[n // 8 % 8]}, said number {n} of the house" for n in range(count)]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return pool_file(tmp_path / "pool", some_texts(120))


# --- the pool


def test_pool_is_read_in_chunks_and_rows_are_left_out_for_a_reason(tmp_path: Path) -> None:
    suite = "A sentence that stands in an evaluation suite."
    path = pool_file(tmp_path, ["one", "  ", suite, "done before", "broken \ud800", "two"])
    path.write_text(path.read_text() + '{"no": "text"}\nnot json\n')
    done = LabelledRow(id="1", text="Done before!", lang="en", source="s")
    left_out = LeftOut(
        evaluation=NOTHING.evaluation.with_texts([suite]), near=NOTHING.near, labelled=labelled_keys([done])
    )
    counts = Counter[str]()
    chunks = list(read_pool(list_inputs(str(path)), left_out, counts))
    assert [row.document.text for chunk in chunks for row in chunk] == ["one", "two"]
    assert counts["read"] == 8
    assert {
        reason: counts[reason] for reason in (EMPTY, LEAKED, LABELLED, ENCODING, "not valid JSON")
    } == dict.fromkeys((EMPTY, LEAKED, LABELLED, ENCODING, "not valid JSON"), 1)


def test_a_share_of_the_pool_is_drawn_evenly_and_always_the_same(tmp_path: Path) -> None:
    path = pool_file(tmp_path, some_texts(1000))
    left_out = LeftOut(evaluation=NOTHING.evaluation, near=NOTHING.near, share=0.3)
    drawn = []
    for _ in range(2):
        counts = Counter[str]()
        drawn.append([row.place for chunk in read_pool(list_inputs(str(path)), left_out, counts) for row in chunk])
    assert drawn[0] == drawn[1]
    assert 230 < len(drawn[0]) < 370
    assert counts[NOT_DRAWN] == 1000 - len(drawn[0])


def test_rows_are_found_again_by_their_place(tmp_path: Path) -> None:
    pool_file(tmp_path, ["a", "b"], "one.jsonl")
    pool_file(tmp_path, ["c", "d"], "two.jsonl")
    found = read_places(list_inputs(str(tmp_path)), {Place(0, 1), Place(1, 0), Place(7, 7)})
    assert {place: document.text for place, document in found.items()} == {Place(0, 1): "b", Place(1, 0): "c"}


def test_key_tells_context_and_symbols_apart_but_not_spelling() -> None:
    assert text_key("Yes!", None) == text_key("ＹＥＳ", None)
    assert len({text_key("Yes", None), text_key("Yes", "Lunch?"), text_key("Yes 🔪", None)}) == 3


# --- candidates


@given(st.dictionaries(st.integers(0, 20), st.integers(0, 9)), st.integers(0, 6))
def test_best_keeps_the_highest_ranks_each_key_once(ranks: dict[int, int], size: int) -> None:
    best = Best(size)
    for key, rank in [*ranks.items(), *ranks.items()]:
        best.add(Candidate(float(rank), key, Place(0, key)))
    expected = sorted(((rank, key) for key, rank in ranks.items()), reverse=True)[:size]
    assert [(row.rank, row.key) for row in best.ranked()] == expected


@given(st.integers(1, 2000), st.integers(1, 30))
def test_numbers_wanted_add_up(total: int, count: int) -> None:
    wanted = Wanted.split(total, [str(label) for label in range(count)])
    assert sum(wanted.uncertain.values()) == total // 2
    assert max(wanted.uncertain.values()) - min(wanted.uncertain.values()) <= 1
    assert sum(wanted.uncertain.values()) + wanted.views <= total


def rows_of(count: int, size: int = 256) -> Iterator[list[PoolRow]]:
    for low in range(0, count, size):
        yield [
            PoolRow(Place(0, n), digest(str(n)), Document(0, n, f"text number {n}"))
            for n in range(low, min(low + size, count))
        ]


def fake(texts: Sequence[str], contexts: Sequence[str | None]) -> Scores:
    """Insult is uncertain in every 50th text; of every 70th the views disagree about violence."""
    numbers = np.array([int(text.rsplit(" ", 1)[1]) for text in texts])
    served = np.full((len(texts), 2), 0.001)
    served[numbers % 50 == 0, 0] = 0.5
    raw = served.copy()
    raw[numbers % 70 == 0, 1] = 0.9
    return Scores(served, raw)


def gathered(count: int, wanted: Wanted, counts: Counter[str] | None = None) -> Kept:
    thresholds = dict.fromkeys(LABELS, 0.45)
    tally = Counter[str]() if counts is None else counts
    return gather(rows_of(count), fake, wanted, labels=LABELS, thresholds=thresholds, counts=tally)


def test_each_kind_of_candidate_is_what_it_says() -> None:
    counts = Counter[str]()
    kept = gathered(5000, Wanted.split(20, LABELS), counts)
    assert {row.place.row % 50 for row in kept.uncertain["insult"]} == {0}
    assert {(row.label, row.score) for row in kept.uncertain["insult"]} == {("insult", 0.5)}
    assert kept.uncertain["violence"] == []
    assert {row.place.row % 70 for row in kept.views} == {0}
    assert {row.label for row in kept.views} == {"violence"}
    assert (len(kept.uncertain["insult"]), len(kept.views), len(kept.sample)) == (30, 24, 20)
    assert counts["judged"] == 5000
    # An even sample: its places are spread over the pool.
    assert 1500 < np.mean([row.place.row for row in kept.sample]) < 3500


def test_memory_does_not_grow_with_the_pool() -> None:
    peaks = []
    for count in (2_000, 30_000):
        tracemalloc.start()
        gathered(count, Wanted.split(50, LABELS))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_views_are_scored_apart_where_the_writing_differs(classifier_fp32: Classifier) -> None:
    texts = ["find you", "f i n d  y o u", "Tell anyone", "ｔｅｌｌ ａｎｙｏｎｅ", "a much longer text " * 40]
    contexts = [None, None, "why?", "why?", None]
    scores = view_scorer(classifier_fp32)(texts, contexts)
    verdicts = classifier_fp32.classify(texts, contexts)
    expected = np.array([[verdict.scores[label] for label in classifier_fp32.labels] for verdict in verdicts])
    np.testing.assert_allclose(scores.served, expected, atol=1e-5)
    unnormalised = [text for text in texts if normalise(text, View.RAW).text != normalise(text).text]
    assert unnormalised[:2] == [texts[1], texts[3]]
    assert (scores.served != scores.raw).any(axis=1).tolist()[:4] == [False, True, False, True]


# --- the choice


def candidate(key: int, rank: float = 0.0, label: str = "") -> Candidate:
    return Candidate(rank, key, Place(0, key), label, 0.5)


def test_of_equal_texts_one_is_chosen_before_others_run_out() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 2]]
    assert unlike(vectors, 3) == [0, 3, 5]
    assert unlike(vectors, 2) in ([0, 3], [0, 5], [3, 5])
    assert unlike(vectors, 5) == [0, 3, 5, 1, 2]
    assert unlike(vectors, 9) == [0, 3, 5, 1, 2, 4]


def test_each_cluster_gives_the_row_in_its_middle(rng: np.random.Generator) -> None:
    middles = np.eye(4, 16, dtype=np.float32)
    rows = np.concatenate([middle + 0.1 * rng.normal(size=(9, 16)) for middle in middles]).astype(np.float32)
    rows[[4, 13, 22, 31]] = [rows[low : low + 9].mean(axis=0) for low in range(0, 36, 9)]
    assert unlike(rows, 4) == [4, 13, 22, 31]


def test_choice_fills_up_from_the_sample_and_never_takes_a_row_twice() -> None:
    rows = [candidate(key) for key in range(30)]
    vectors = {row.place: np.random.default_rng(row.key).normal(size=4).astype(np.float32) for row in rows}
    kept = Kept({"insult": rows[:2], "violence": rows[1:4]}, rows[3:5], rows)
    wanted = Wanted(uncertain={"insult": 5, "violence": 2}, views=4, total=20)
    picks = choose(kept, wanted, vectors)
    assert len({row.key for _, row in picks}) == len(picks) == 20
    assert Counter(why for why, _ in picks) == {Why.UNCERTAIN: 4, Why.VIEWS: 1, Why.SAMPLE: 15}
    assert [row.key for _, row in picks] == sorted(row.key for _, row in picks)


def test_vectors_are_of_length_one_and_a_constant_does_not_break_them() -> None:
    found = unit_vectors(np.array([[3.0, 1.0], [1.0, 1.0]], dtype=np.float32))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert np.isfinite(unit_vectors(np.ones((4, 3), dtype=np.float32))).all()


# --- all together


def run(classifier: Classifier, pool: Path, out: Path, **options: object) -> dict[str, object]:
    return suggest(str(pool), out, classifier=classifier, threads=1, **options)  # type: ignore[arg-type]


def written(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_suggestions_are_rows_of_the_pool_and_the_manifest_says_why(
    classifier_fp32: Classifier, pool: Path, tmp_path: Path
) -> None:
    manifest = run(classifier_fp32, pool, tmp_path / "out.jsonl", number=40)
    rows = written(tmp_path / "out.jsonl")
    by_id = {row["id"]: row for row in map(json.loads, pool.read_text().splitlines())}
    assert len(rows) == 40
    assert all(by_id[row["id"]] == row for row in rows)
    saved = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert saved == manifest
    assert [entry["id"] for entry in saved["suggestions"]] == [row["id"] for row in rows]
    assert saved["rows"] == {"read": 120, "judged": 120}
    assert sum(saved["picked"].values()) == 40
    for entry in saved["suggestions"]:
        assert by_id[entry["id"]]["id"] == f"{entry['file']}-{entry['row'] - 1}"


def test_the_same_pool_gives_the_same_bytes(classifier_fp32: Classifier, pool: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(classifier_fp32, pool, tmp_path / f"{name}.jsonl", number=25)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_text_goes_to_the_output_alone(
    tiny_bundle: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    out = tmp_path / "results" / "out.jsonl"
    arguments = ["suggest", str(pool), "--out", str(out), "-n", "30", "--bundle", str(tiny_bundle), "--threads", "1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "said number" not in result.output
    assert len(written(out)) == 30
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and b"said number" in path.read_bytes()]
    assert sorted(holding) == sorted([pool, out])
    assert [path.name for path in out.parent.iterdir() if path != out] == ["out.jsonl.manifest.json"]


def test_labels_limit_what_the_model_should_be_unsure_of(
    classifier_fp32: Classifier, pool: Path, tmp_path: Path
) -> None:
    manifest = run(classifier_fp32, pool, tmp_path / "out.jsonl", number=60, labels=["privacy"])
    assert {entry["label"] for entry in manifest["suggestions"]} <= {"privacy", ""}  # type: ignore[attr-defined]


def test_a_small_pool_is_taken_whole_and_shared_ids_are_replaced(classifier_fp32: Classifier, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for name, text in (("a", "find you"), ("b", "tell anyone")):
        (pool / f"{name}.jsonl").write_text(json.dumps({"id": 1, "text": text}) + "\n")
    run(classifier_fp32, pool, tmp_path / "out.jsonl", number=500)
    assert len({row["id"] for row in written(tmp_path / "out.jsonl")}) == 2


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"number": 0}, "suggest_number"),
        ({"share": 0.0}, "suggest_number"),
        ({"share": 1.5}, "suggest_number"),
        ({"labels": ["weather"]}, "suggest_label"),
    ],
)
def test_bad_options_are_named(
    classifier_fp32: Classifier, pool: Path, tmp_path: Path, options: dict[str, object], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(classifier_fp32, pool, tmp_path / "out.jsonl", **options)
    assert caught.value.code == code


def test_output_inside_the_pool_and_an_empty_pool_are_refused(
    classifier_fp32: Classifier, pool: Path, tmp_path: Path
) -> None:
    before = pool.read_bytes()
    with pytest.raises(InputError) as inside:
        run(classifier_fp32, pool.parent, pool)
    assert inside.value.code == "suggest_out"
    assert pool.read_bytes() == before
    blank = pool_file(tmp_path / "blank", [" ", ""])
    with pytest.raises(DataError) as empty:
        run(classifier_fp32, blank, tmp_path / "out.jsonl")
    assert empty.value.code == "pool_empty"
    assert not (tmp_path / "out.jsonl").exists()


def test_a_pool_that_changes_meanwhile_is_refused(classifier_fp32: Classifier, pool: Path, tmp_path: Path) -> None:
    def change(count: int) -> None:
        pool_file(pool.parent, list(reversed(some_texts(120))))

    with pytest.raises(DataError) as caught:
        run(classifier_fp32, pool, tmp_path / "out.jsonl", on_rows=change)
    assert caught.value.code == "pool_changed"
