"""A bundle is read back into the model it was made from."""

import numpy as np
import pytest
import torch

from fineline.bundle import load_bundle
from fineline.engine import Engine
from fineline.errors import BundleError
from fineline.taxonomy import load_taxonomy
from fineline_training.examples import encode_records
from fineline_training.export import export_fp32, export_int8
from fineline_training.model import HEAD_PRIOR
from fineline_training.predict import predict
from fineline_training.ranges import observe
from fineline_training.records import Record
from fineline_training.restore import restore

MEAN, WORST = 0.12, 0.9
"""Logits of the restored model against the served ones: nothing but the rounding of activations to 8 bits, in a model
whose logits have a standard deviation of about 3. Of the trained model itself they are three times as far."""
TEXTS = (
    "Tell anyone and I will find you.",
    "他说要打断你的手，我很害怕。",
    "",
    "thanks",
    "ありがとう " * 30,
    "нет, спасибо",
)


@pytest.fixture(scope="module")
def examples(tiny_encoder):
    rows = [Record(text=text, context=None, lang="en", labels={}, source="s") for text in TEXTS]
    rows.append(Record(text="Yes.", context="Shall we rob it?", lang="en", labels={}, source="s"))
    return encode_records(rows, tiny_encoder, ["insult"])


def served(path, examples, pad) -> np.ndarray:
    return Engine(path, pad=pad, threads=1).logits(examples.windows)


def test_the_restored_model_computes_what_is_served(tiny, tiny_bundle, tiny_encoder, examples):
    expected = served(tiny_bundle / "model.onnx", examples, tiny_encoder.pad)
    restored = restore(load_bundle(tiny_bundle), len(load_taxonomy().ids))
    found = predict(restored.model, examples, pad=tiny_encoder.pad)
    gap = np.abs(found - expected)
    assert expected.std() > 0.5
    assert gap.mean() < MEAN
    assert gap.max() < WORST


def test_a_bundle_of_the_restored_model_serves_the_same(tiny, tiny_bundle, tiny_encoder, examples, tmp_path):
    restored = restore(load_bundle(tiny_bundle), len(load_taxonomy().ids))
    seen = observe(restored.model, examples.windows, tiny_encoder.pad)
    export_fp32(restored.model, tmp_path / "fp32.onnx")
    export_int8(
        tmp_path / "fp32.onnx", tmp_path / "again.onnx", model=restored.model, table=restored.words, ranges=seen
    )
    gap = np.abs(
        served(tmp_path / "again.onnx", examples, tiny_encoder.pad)
        - served(tiny_bundle / "model.onnx", examples, tiny_encoder.pad)
    )
    assert gap.mean() < 2 * MEAN
    assert gap.max() < 2 * WORST
    again = restore(load_bundle(tiny_bundle), len(load_taxonomy().ids))
    assert np.array_equal(again.words.nibbles, restored.words.nibbles)


def test_the_head_grows_and_old_outputs_stay(tiny_bundle, tiny_encoder, examples):
    count = len(load_taxonomy().ids)
    plain, grown = (restore(load_bundle(tiny_bundle), count + more).model for more in (0, 2))
    before, after = (predict(model, examples, pad=tiny_encoder.pad) for model in (plain, grown))
    np.testing.assert_allclose(after[:, :count], before, atol=1e-5)
    np.testing.assert_allclose(after[:, count:], HEAD_PRIOR, atol=1e-5)
    query = grown.head.query.weight
    torch.testing.assert_close(query[count], query[:count].mean(dim=0))


def test_a_graph_of_another_form_is_refused(tiny):
    with pytest.raises(BundleError, match="train from a recipe") as caught:
        restore(load_bundle(tiny.bundle_fp32), len(load_taxonomy().ids))
    assert caught.value.code == "bundle_graph"
