"""What is exported computes what was trained: torch, fp32 ONNX and the shipped int8 artefact side by side."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from fineline.engine import Engine
from fineline.errors import DataError
from fineline_training.backbone import WordTable, _dequantise
from fineline_training.examples import encode_records
from fineline_training.export import export_fp16, export_int8, store_words_q4
from fineline_training.parity import FP16_TOLERANCE, FP32_TOLERANCE, check_fp16, check_parity, gaps
from fineline_training.predict import predict
from fineline_training.quantise import activation_levels, divisors, int8_weights
from fineline_training.ranges import Range, observe
from fineline_training.records import Record
from fineline_training.words import round_words

INT8_WORST = 2.0
INT8_MEAN = 0.25
"""The tiny model's words are random and rounded to 4 bits here, which makes nearly all of the difference: 1.16 at most
where logits have a standard deviation of 1.4. The backbone's own words are exported exactly (tested below)."""
ALONE_TOLERANCE = 1e-3
"""Nothing is padded and scales are fixed, so what else is in the batch changes only the order of sums."""

TEXTS = {
    "empty": "",
    "one character": "a",
    "emoji": "😀👍🏽👩‍👩‍👧",
    "lone surrogate": "a\ud800b",
    "unknown characters": "ⵣⵉⵔⵉ ᚠᚢᚦ",
    "over-long": "Tell anyone and I will find you. " * 80,
    "mixed script": "hello 他说 привет テキスト مرحبا สวัสดี 1234 !?",
    "traditional": "他說要打斷你的手",
    "no spaces": "x" * 3 + "y" * 3 + "z" * 300,
}
CONTEXTS = {"one character": "Why?", "mixed script": "a very long question " * 20}


@torch.inference_mode()
def torch_logits(model, window) -> np.ndarray:
    ids, types = torch.from_numpy(window.ids)[None], torch.from_numpy(window.types)[None]
    return model(ids, torch.ones_like(ids), types)[0].numpy()


@pytest.mark.parametrize("name", TEXTS)
def test_one_text_alone_gives_the_same_logits_everywhere(tiny, tiny_encoder, name):
    (windows,) = tiny_encoder.encode([TEXTS[name]], [CONTEXTS.get(name)])
    for window in (windows[0], windows[-1]):
        expected = torch_logits(tiny.model, window)
        fp32, int8 = (
            Engine(path, pad=tiny_encoder.pad, threads=1).logits([window])[0] for path in (tiny.fp32, tiny.int8)
        )
        np.testing.assert_allclose(fp32, expected, atol=FP32_TOLERANCE, rtol=0)
        np.testing.assert_allclose(int8, expected, atol=INT8_WORST, rtol=0)


def test_a_ragged_batch_gives_the_same_logits_everywhere(tiny, tiny_encoder):
    texts = [*TEXTS.values()] * 3
    records = [Record(text=text, lang="en", labels={}, source="s") for text in texts]
    examples = encode_records(records, tiny_encoder, ["insult"])
    expected = predict(tiny.model, examples, pad=tiny_encoder.pad, tokens=300)
    fp32, int8 = (Engine(p, pad=tiny_encoder.pad, threads=1).logits(examples.windows) for p in (tiny.fp32, tiny.int8))
    np.testing.assert_allclose(fp32, expected, atol=FP32_TOLERANCE, rtol=0)
    np.testing.assert_allclose(int8, expected, atol=INT8_WORST, rtol=0)
    engine = Engine(tiny.int8, pad=tiny_encoder.pad, threads=1)
    alone = np.concatenate([engine.logits([window]) for window in examples.windows])
    [gap] = gaps(expected, int8, ["en"] * len(texts))
    assert gap.mean < INT8_MEAN
    np.testing.assert_allclose(int8, alone, atol=ALONE_TOLERANCE, rtol=0)
    one_by_one = np.stack([torch_logits(tiny.model, window) for window in examples.windows])
    np.testing.assert_allclose(expected, one_by_one, atol=FP32_TOLERANCE, rtol=0)


@pytest.mark.parametrize("blocks", [False, True], ids=["words in fp16", "words in 4-bit blocks"])
def test_the_fp16_artefact_computes_what_fp32_does(tiny, tiny_encoder, tmp_path, blocks):
    table = round_words(tiny.model.words.weight.detach().numpy()) if blocks else None
    export_fp16(tiny.fp32, tmp_path / "fp16.onnx", table)
    reference = onnx.load(tiny.fp32)
    if table:
        store_words_q4(reference, table)
    onnx.save(reference, tmp_path / "fp32.onnx")
    windows = [window for row in tiny_encoder.encode([*TEXTS.values()], [*map(CONTEXTS.get, TEXTS)]) for window in row]
    fp32, fp16 = (
        Engine(tmp_path / f"{name}.onnx", pad=tiny_encoder.pad, threads=1).logits(windows) for name in ("fp32", "fp16")
    )
    np.testing.assert_allclose(fp16, fp32, atol=FP16_TOLERANCE, rtol=0)
    assert np.abs(fp16 - fp32).max() > 0
    graph = onnx.load(tmp_path / "fp16.onnx").graph
    assert {onnx.TensorProto.FLOAT} & {tensor.data_type for tensor in graph.initializer} == set()
    assert {value.type.tensor_type.elem_type for value in graph.output} == {onnx.TensorProto.FLOAT}


def test_an_fp16_artefact_outside_its_tolerance_is_refused():
    reference = np.zeros((4, 2), dtype=np.float32)
    near, far = reference + FP16_TOLERANCE / 2, reference + 2 * FP16_TOLERANCE
    langs = ["en", "en", "zh", "zh"]
    assert [gap["lang"] for gap in check_fp16(reference, near, langs)["fp16"]] == ["en", "zh"]
    for wrong in (far, reference * np.nan):
        with pytest.raises(DataError) as caught:
            check_fp16(reference, wrong, langs)
        assert caught.value.code == "parity_fp16"


def test_int8_keeps_the_order_of_texts(tiny, tiny_encoder):
    texts = [
        f"{head} {tail}" for head in ("tell anyone", "他说", "нет") for tail in ("find you", "help", "😀", "a letter")
    ]
    windows = [row[0] for row in tiny_encoder.encode(texts)]
    fp32, int8 = (Engine(p, pad=tiny_encoder.pad, threads=1).logits(windows) for p in (tiny.fp32, tiny.int8))
    correlation = [np.corrcoef(fp32[:, column], int8[:, column])[0, 1] for column in range(fp32.shape[1])]
    assert min(correlation) > 0.9


def test_the_artefact_takes_any_batch_and_length(tiny):
    session = ort.InferenceSession(str(tiny.int8), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    for shape in ((1, 2), (1, 512), (7, 3), (33, 40)):
        ids = np.full(shape, 2, dtype=np.int64)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (logits,) = session.run(None, inputs)
        assert logits.shape == (shape[0], 21)
        assert np.isfinite(logits).all()


def test_matrices_are_int8_and_words_are_4_bit(tiny):
    graph = onnx.load(tiny.int8).graph
    kinds = Counter(node.op_type for node in graph.node)
    layers = tiny.model.encoder.config.num_hidden_layers
    assert kinds["GatherBlockQuantized"] == 1
    assert (kinds["If"], kinds["MatMulIntegerToFloat"]) == (layers, 5 * layers)
    rows = tiny.model.encoder.config.vocab_size
    assert not [t.name for t in graph.initializer if list(t.dims) == [rows, 32]], "the fp32 words must be gone"
    table = {t.name: t for t in graph.initializer}
    assert list(table["word_nibbles"].dims) == [rows, 16]
    assert table["word_scales"].data_type == onnx.TensorProto.FLOAT16
    assert tiny.int8.stat().st_size < 0.5 * tiny.fp32.stat().st_size


def test_an_encoder_that_is_not_fused_keeps_its_graph_in_blocks(tiny, tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny.model.encoder.config, "hidden_act", "relu")
    stored = export_int8(tiny.fp32, tmp_path / "blocks.onnx", model=tiny.model, table=None, ranges={})
    assert "blocks" in stored
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "blocks.onnx").graph.node)
    assert (kinds["MatMulNBits"], kinds["GatherBlockQuantized"], kinds["QAttention"]) == (6 * 2 + 2, 1, 0)
    windows = [windows[0] for windows in tiny_encoder.encode([*TEXTS.values()])]
    fp32, blocks = (Engine(path, pad=tiny_encoder.pad) for path in (tiny.fp32, tmp_path / "blocks.onnx"))
    assert np.abs(fp32.logits(windows) - blocks.logits(windows)).mean() < INT8_MEAN


# --- scales


def test_the_range_of_a_matrix_is_that_of_its_inputs_without_padding(tiny, tiny_encoder):
    windows = [windows[0] for windows in tiny_encoder.encode(["tell", "tell anyone 他说", "нет"])]
    found = observe(tiny.model, windows, tiny_encoder.pad)
    assert len(found) == 6 * tiny.model.encoder.config.num_hidden_layers
    name = "encoder.layer.0.attention.self.query"
    with torch.inference_mode():
        alone = [
            tiny.model.encoder.embeddings(
                input_ids=torch.from_numpy(window.ids)[None], token_type_ids=torch.from_numpy(window.types)[None]
            )[0]
            for window in windows
        ]
    tokens = torch.cat(alone).numpy()
    np.testing.assert_allclose(found[name].low, tokens.min(axis=0), atol=1e-5)
    np.testing.assert_allclose(found[name].high, tokens.max(axis=0), atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 30.0, 300.0]))
def test_one_huge_channel_does_not_blur_the_others(seed, size):
    rng = np.random.default_rng(seed)
    x, weight = rng.normal(size=(200, 48)).astype(np.float32), rng.normal(size=(48, 24)).astype(np.float32)
    x[:, 7] *= size
    weight[7] /= size  # as in a trained model, where a product of equal channels would be all of the output
    seen = Range(low=x.min(axis=0), high=x.max(axis=0))
    divisor = divisors(weight, seen)
    levels, matrix = activation_levels(seen, divisor), int8_weights(weight, divisor)
    rounded = np.clip(np.rint(x / divisor / levels.scale) + levels.zero, 0, 255) - levels.zero
    found = rounded @ matrix.levels.astype(np.float32) * levels.scale * matrix.steps
    expected = x @ weight
    assert np.abs(found - expected).std() < 0.03 * expected.std()
    assert np.exp(np.log(divisor).mean()) == pytest.approx(1, rel=1e-4)


def words_of(path: Path, rows: int) -> np.ndarray:
    """The word vectors as the artefact looks them up."""
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("words", onnx.TensorProto.FLOAT, None))
    lookup = next(node for node in model.graph.node if node.op_type == "GatherBlockQuantized")
    model.graph.node.append(helper.make_node("Identity", [lookup.output[0]], ["words"]))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    ids = np.arange(rows, dtype=np.int64).reshape(-1, 1).repeat(2, axis=1)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return session.run(["words"], inputs)[0][:, 0]


def dequantised(table: WordTable) -> np.ndarray:
    levels = np.stack([table.nibbles & 15, table.nibbles >> 4], axis=-1).reshape(len(table.nibbles), -1)
    return _dequantise(levels, table.scales)


def test_the_backbones_own_words_are_exported_exactly(tiny, tiny_encoder, tmp_path, rng):
    rows = tiny.model.encoder.config.vocab_size
    table = WordTable(
        nibbles=rng.integers(0, 256, size=(rows, 16), dtype=np.uint8),
        scales=rng.normal(0, 0.02, size=(rows, 1)).astype(np.float16),
    )
    windows = [windows[0] for windows in tiny_encoder.encode(["tell anyone", "他说"])]
    ranges = observe(tiny.model, windows, tiny_encoder.pad)
    export_int8(tiny.fp32, tmp_path / "int8.onnx", model=tiny.model, table=table, ranges=ranges)
    np.testing.assert_array_equal(words_of(tmp_path / "int8.onnx", rows), dequantised(table))


def test_trained_words_are_exported_as_they_were_rounded(tiny):
    words = tiny.model.encoder.get_input_embeddings().weight.detach().numpy()
    table = round_words(words)
    np.testing.assert_array_equal(words_of(tiny.int8, len(words)), dequantised(table))
    steps = np.abs(table.scales.astype(np.float32)).repeat(32, axis=1)
    error = np.abs(dequantised(table) - words)
    assert (error <= 1.02 * steps).all()
    assert np.median(error[steps > 0] / steps[steps > 0]) < 0.35


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-4, 4, width=16).filter(lambda x: x == 0 or abs(x) > 0.01), min_size=32, max_size=32))
def test_rounding_keeps_the_largest_weight_and_zero(values):
    words = np.array([values], dtype=np.float32)
    table = round_words(words)
    found = dequantised(table)
    largest = np.abs(words).argmax()
    assert found[0, largest] == pytest.approx(words[0, largest], rel=2e-3)
    assert (found[words == 0] == 0).all()


def test_a_table_of_another_vocabulary_is_refused(tiny):
    table = WordTable(nibbles=np.zeros((3, 16), np.uint8), scales=np.zeros((3, 1), np.float16))
    with pytest.raises(RuntimeError, match="3 rows"):
        store_words_q4(onnx.load(tiny.fp32), table)


# --- the parity report


def test_gaps_are_told_apart_by_language():
    reference = np.zeros((4, 2), np.float32)
    found = np.array([[0, 0], [0.1, 0.3], [1, 0], [0, 0]], np.float32)
    by_lang = {gap.lang: gap for gap in gaps(reference, found, ["en", "en", "zh", "zh"])}
    assert by_lang["en"].rows == 2
    assert (by_lang["en"].mean, by_lang["en"].worst) == (pytest.approx(0.1), pytest.approx(0.3))
    assert (by_lang["zh"].mean, by_lang["zh"].worst) == (pytest.approx(0.25), pytest.approx(1))


@pytest.mark.parametrize(("fp32", "int8", "code"), [(0.01, 0.0, "parity_fp32"), (0.0, 0.3, "parity_int8")])
def test_an_artefact_that_drifted_in_one_language_stops_the_run(fp32, int8, code):
    reference = np.zeros((16, 2), np.float32)
    langs = ["en"] * 8 + ["th"] * 8
    one, other = reference.copy(), reference.copy()
    one[8:], other[8:] = fp32, int8
    with pytest.raises(DataError, match="'th'") as caught:
        check_parity(reference, one, other, langs, other)
    assert caught.value.code == code
    good = check_parity(reference, reference + 1e-3, reference + 0.05, langs, reference + 0.06)
    assert good["int8"][1]["rows"] == 8
    assert good["int8_alone_worst"] == pytest.approx(0.01, abs=1e-4)


def test_a_language_of_a_few_rows_is_held_to_the_mean_of_all():
    reference = np.zeros((16, 2), np.float32)
    langs = ["en"] * 15 + ["und"]
    other = reference.copy()
    other[15] = 0.3
    assert check_parity(reference, reference, other, langs, other)["int8"][1]["mean"] == pytest.approx(0.3)
    other[15] = 2.0
    with pytest.raises(DataError, match="'all'"):
        check_parity(reference, reference, other, langs, other)


@pytest.mark.parametrize("code", ["parity_fp32", "parity_int8"])
def test_an_artefact_that_gives_no_numbers_stops_the_run(code):
    reference = np.zeros((8, 2), np.float32)
    broken = np.full_like(reference, np.nan)
    fp32, int8 = (broken, reference) if code == "parity_fp32" else (reference, broken)
    with pytest.raises(DataError) as caught:
        check_parity(reference, fp32, int8, ["en"] * 8, int8)
    assert caught.value.code == code
