"""What the bundle said is kept by row, and where a row is held to it."""

import numpy as np
import pytest

from fineline.bundle import load_bundle
from fineline.engine import Engine
from fineline.errors import DataError
from fineline_training.examples import encode_records, first_windows
from fineline_training.records import Record
from fineline_training.teacher import Anchor, Ensemble, write_teacher

TEXTS = ("Tell anyone and I will find you.", "thanks", "他说要打断你的手", "a letter")


def row(text: str, source: str = "authored", **given: dict) -> Record:
    return Record(text=text, lang="en", source=source, **({"labels": {}} | given))


@pytest.fixture(scope="module")
def written(tiny_bundle, tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    bundle = load_bundle(tiny_bundle)
    epochs = [[row(TEXTS[0]), row(TEXTS[1])], [row(TEXTS[2]), row(TEXTS[0]), row(TEXTS[3])]]
    engine = Engine(tiny_bundle / "model.onnx", pad=tiny_encoder.pad, threads=1)

    def score(rows: list[Record]) -> np.ndarray:
        assert len({one.text for one in rows}) == len(rows), "a text is scored once"
        return engine.logits(first_windows(rows, tiny_encoder))

    write_teacher(score, epochs, folder)
    return folder, bundle.meta.labels, score([row(text) for text in TEXTS])


def test_every_row_has_the_logits_of_its_text(written):
    folder, labels, served = written
    anchor = Anchor(folder, [*labels, "new"], team="team", free=[])
    second = anchor.logits(1, [row(TEXTS[2]), row(TEXTS[0]), row(TEXTS[3])])
    assert second.shape == (3, len(labels) + 1)
    np.testing.assert_allclose(second[:, :-1], served[[2, 0, 3]], atol=1e-3)
    assert np.isnan(second[:, -1]).all()


def test_a_row_of_the_team_is_held_only_to_what_it_does_not_know(written):
    folder, labels, _ = written
    ids = [*labels, "new"]
    anchor = Anchor(folder, ids, team="team", free=["privacy"])
    knows = {"labels": {"insult": 0, "new": 1}, "soft": {"violence": 0.5}, "meta": {"any_of": "sexual,terrorism"}}
    mixture, team = anchor.logits(0, [row(TEXTS[0], **knows), row(TEXTS[1], source="team", **knows)])
    assert {ids[place] for place in np.flatnonzero(np.isnan(mixture))} == {"privacy", "new"}
    free = {"privacy", "new", "insult", "violence", "sexual", "terrorism"}
    assert {ids[place] for place in np.flatnonzero(np.isnan(team))} == free


def test_what_the_bundle_is_asked_about_is_not_asked_of_the_row(written, tiny_encoder):
    folder, labels, served = written
    sets = {"meta": {"any_of": "sexual,terrorism"}}
    rows = [row(TEXTS[0], labels={"insult": 1}), row(TEXTS[1], "team", labels={"insult": 1, "sexual": 0}, **sets)]
    examples = encode_records(rows, tiny_encoder, labels)
    held = Anchor(folder, labels, team="team", free=["privacy"])(0, rows, examples)
    places = {label: place for place, label in enumerate(labels)}
    assert (held.labels[0] == -1).all(), "no row of the mixture says anything but the bundle"
    assert held.labels[1, places["insult"]] == 1 and held.labels[1, places["sexual"]] == 0
    np.testing.assert_array_equal(held.any_of, examples.any_of)
    assert held.teacher is not None
    np.testing.assert_allclose(held.teacher[0, places["violence"]], served[0, places["violence"]], atol=1e-3)


def test_half_a_set_is_not_asked_of_a_row(written, tiny_encoder):
    folder, labels, _ = written
    rows = [row(TEXTS[0], meta={"any_of": "sexual,terrorism"}), row(TEXTS[1])]
    examples = encode_records(rows, tiny_encoder, labels)
    assert examples.any_of[0].sum() == 2
    assert not Anchor(folder, labels, team="team", free=["sexual"])(0, rows, examples).any_of.any()


def test_what_a_row_knows_stays_beside_what_teachers_say(written, tiny_encoder):
    folder, labels, served = written
    rows = [row(TEXTS[0], labels={"insult": 1}), row(TEXTS[1], meta={"any_of": "sexual,terrorism"})]
    examples = encode_records(rows, tiny_encoder, labels)
    taught = Ensemble(folder)(0, rows, examples)
    np.testing.assert_allclose(taught.teacher, served[:2], atol=1e-3)
    np.testing.assert_array_equal(taught.labels, examples.labels)
    np.testing.assert_array_equal(taught.any_of, examples.any_of)


def test_scores_of_other_rows_are_refused(written, tiny_encoder):
    folder, labels, _ = written
    rows = [row(text) for text in TEXTS]
    examples = encode_records(rows, tiny_encoder, labels)
    for teacher in (Ensemble(folder), Anchor(folder, labels, team="team", free=[])):
        with pytest.raises(DataError) as caught:
            teacher(0, rows, examples)
        assert caught.value.code == "run_teacher"
