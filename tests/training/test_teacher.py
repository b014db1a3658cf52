"""What the bundle said is kept by row, and where a row is held to it."""

import numpy as np
import pytest

from fineline.bundle import load_bundle
from fineline.engine import Engine
from fineline_training.examples import first_windows
from fineline_training.records import Record
from fineline_training.teacher import Teacher, write_teacher

TEXTS = ("Tell anyone and I will find you.", "thanks", "他说要打断你的手", "a letter")


def row(text: str, source: str = "authored", **given: dict) -> Record:
    return Record(text=text, lang="en", source=source, **({"labels": {}} | given))


@pytest.fixture(scope="module")
def written(tiny_bundle, tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    bundle = load_bundle(tiny_bundle)
    epochs = [[row(TEXTS[0]), row(TEXTS[1])], [row(TEXTS[2]), row(TEXTS[0]), row(TEXTS[3])]]
    write_teacher(bundle, tiny_encoder, epochs, folder)
    served = Engine(tiny_bundle / "model.onnx", pad=tiny_encoder.pad, threads=1).logits(
        first_windows([row(text) for text in TEXTS], tiny_encoder)
    )
    return folder, bundle.meta.labels, served


def test_every_row_has_the_logits_of_its_text(written):
    folder, labels, served = written
    teacher = Teacher(folder, [*labels, "new"], team="team", free=[])
    second = teacher(1, [row(TEXTS[2]), row(TEXTS[0]), row(TEXTS[3])])
    assert second.shape == (3, len(labels) + 1)
    np.testing.assert_allclose(second[:, :-1], served[[2, 0, 3]], atol=1e-3)
    assert np.isnan(second[:, -1]).all()


def test_a_row_of_the_team_is_held_only_to_what_it_does_not_know(written):
    folder, labels, _ = written
    ids = [*labels, "new"]
    teacher = Teacher(folder, ids, team="team", free=["privacy"])
    knows = {"labels": {"insult": 0, "new": 1}, "soft": {"violence": 0.5}, "meta": {"any_of": "sexual,terrorism"}}
    mixture, team = teacher(0, [row(TEXTS[0], **knows), row(TEXTS[1], source="team", **knows)])
    assert {ids[place] for place in np.flatnonzero(np.isnan(mixture))} == {"privacy", "new"}
    free = {"privacy", "new", "insult", "violence", "sexual", "terrorism"}
    assert {ids[place] for place in np.flatnonzero(np.isnan(team))} == free
