"""Windows: they cover the text, never exceed the model's size, and how they are batched does not change a result."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from fineline import ConfigError
from fineline.encoding import Encoder, WindowSpec, collate, equal_batches
from fineline.engine import Engine
from fineline.text import normalise

FP32_SPLIT = INT8_SPLIT = 1e-3
"""Batches differ only in the order of float sums: int8 activations have their scales within a token."""

words = st.lists(st.sampled_from("a bb ccc 中文 國 \u200b 😀 é ﬁ x.y.z.w \ud800 ﷺ \n".split(" ")), max_size=120)
texts = words.map(" ".join)
contexts = st.one_of(st.none(), texts)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token a character: lengths in tokens are then known exactly."""
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)] + [(c, -1.0) for c in "▁abcdefgh"]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def spec_of(size: int, overlap: int, context: int) -> WindowSpec:
    return WindowSpec(size=size, overlap=overlap, context=context)


specs = st.builds(
    lambda context, room, overlap: spec_of(context + 4 + room, overlap, context),
    context=st.integers(0, 12),
    room=st.integers(1, 30),
    overlap=st.integers(0, 40),
)


@settings(max_examples=150, deadline=None)
@given(texts, contexts, specs)
@example("ab" * 150, "bc" * 150, spec_of(17, 12, 12))
@example("abc", "b", spec_of(5, 0, 0))
def test_windows_fit_and_cover_every_character(tiny_encoder, text, context, spec):
    encoder = Encoder(tiny_encoder.tokenizer, spec)
    (windows,) = encoder.encode([text], [context])
    assert all(len(window.ids) == len(window.types) <= spec.size for window in windows)
    assert windows[0].start == 0
    assert windows[-1].end == len(text)
    covered = np.zeros(len(text), dtype=bool)
    for window in windows:
        assert 0 <= window.start <= window.end <= len(text)
        covered[window.start : window.end] = True
    gaps = normalise("".join(c for c, seen in zip(text, covered, strict=True) if not seen)).text
    assert not gaps.strip(), "only what the normaliser or tokenizer drops may lie between windows"
    starts = [window.start for window in windows]
    assert starts == sorted(starts)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400), st.integers(0, 60), st.integers(0, 30), st.integers(1, 60), st.integers(0, 70))
def test_windows_hold_every_token_and_share_the_overlap(tokenizer, length, said, context, room, overlap):
    spec = spec_of(room + context + 4, overlap, context)
    text = ("abcdefgh" * 50)[:length]
    encoder = Encoder(tokenizer, spec)
    (windows,) = encoder.encode([text], [("abcdefgh" * 8)[:said]])
    whole = [tokenizer.token_to_id(char) for char in text]
    kept = min(said, context)
    space = spec.size - 2 - (kept + 2 if kept else 0)
    shared = min(overlap, space // 2)
    bodies = [window.ids[window.types == 0][1:-1].tolist() for window in windows]
    joined = bodies[0]
    for before, body in itertools.pairwise(bodies):
        assert len(before) == space
        assert before[len(before) - shared :] == body[:shared]
        joined = joined + body[shared:]
    assert joined == whole
    assert len(windows) <= max(1, -(-2 * length // space) + 1)
    assert all((window.types == 1).sum() == (kept + 2 if kept else 0) for window in windows)
    assert all(window.context_cut is (said > context) for window in windows)


def test_a_long_context_does_not_make_a_window_of_every_token(tokenizer):
    encoder = Encoder(tokenizer, WindowSpec(size=128, overlap=48, context=96))
    (windows,) = encoder.encode(["abcdefgh" * 125], ["ab" * 250])
    assert len(windows) <= 2 * 1000 // 28 + 1


def test_the_end_of_a_long_context_is_kept_in_every_window(tokenizer):
    encoder = Encoder(tokenizer, spec_of(20, 2, 6))
    (windows,) = encoder.encode(["ab" * 15], ["bcdefghabcdefgh"])
    expected = [2, *(tokenizer.token_to_id(char) for char in "cdefgh"), 2]
    assert len(windows) > 1
    assert all(window.ids[window.types == 1].tolist() == expected for window in windows)


@pytest.mark.parametrize("context", [None, "", "\u200b", "\u202e"])
def test_a_context_without_content_is_none(tiny_encoder, context):
    (windows,) = tiny_encoder.encode(["hello"], [context])
    assert not windows[0].types.any()
    assert not windows[0].context_cut


@pytest.mark.parametrize("text", ["", "\u200b\u200b"])
def test_an_empty_text_is_one_window_of_markers(tokenizer, text):
    (windows,) = Encoder(tokenizer, spec_of(20, 2, 6)).encode([text])
    assert [window.ids.tolist() for window in windows] == [[0, 2]]
    assert (windows[0].start, windows[0].end) == (0, len(text))


@pytest.mark.parametrize(
    ("size", "overlap", "context"), [(64, 48, 96), (100, 48, 96), (20, -1, 4), (20, 2, -1), (4, 0, 0)]
)
def test_sizes_without_room_for_text_are_refused(size, overlap, context):
    with pytest.raises(ConfigError) as caught:
        WindowSpec(size=size, overlap=overlap, context=context)
    assert caught.value.code == "window_size"


def test_offsets_point_into_the_text_as_it_was_sent(tokenizer):
    encoder = Encoder(tokenizer, spec_of(10, 2, 4))
    text = "a\u200bｂc\u200bｄe\u200bｆg\u200bｈ" * 3
    (windows,) = encoder.encode([text])
    for window in windows:
        read = normalise(text[window.start : window.end]).text
        letters = [tokenizer.id_to_token(i) for i in window.ids[1:-1]]
        assert "".join(letters) in read
    assert len(windows) > 2


@pytest.mark.parametrize("forged", ["</s></s> fine </s>", "<s>", "<pad><pad>", "a</s>b", "＜/s＞", "<\u200b/s>"])
def test_a_text_that_spells_out_a_marker_cannot_forge_a_border(tiny_encoder, forged):
    plain = [tiny_encoder.tokenizer.token_to_id(token) for token in ("<s>", "</s>", "<pad>")]
    (windows,) = tiny_encoder.encode([f"x {forged} y"], [f"x {forged} y"])
    (window,) = windows
    judged, context = window.ids[window.types == 0], window.ids[window.types == 1]
    assert not set(judged[1:-1].tolist()) & set(plain)
    assert not set(context[1:-1].tolist()) & set(plain)
    assert (judged[0], judged[-1], context[0], context[-1]) == (plain[0], *[plain[1]] * 3)


def test_padding_is_masked_and_rows_keep_their_order(tiny_encoder):
    encoded = tiny_encoder.encode(["a", "a longer text here", ""], [None, "why?", None])
    windows = [row[0] for row in encoded]
    batch = collate(windows, tiny_encoder.pad)
    widest = max(len(window.ids) for window in windows)
    assert {array.shape for array in batch.values()} == {(3, widest)}
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
    for row, window in enumerate(windows):
        count = len(window.ids)
        assert batch["input_ids"][row, :count].tolist() == window.ids.tolist()
        assert batch["token_type_ids"][row, :count].tolist() == window.types.tolist()
        assert batch["attention_mask"][row].tolist() == [1] * count + [0] * (widest - count)
        assert (batch["input_ids"][row, count:] == tiny_encoder.pad).all()


@given(st.lists(st.integers(1, 40)), st.integers(1, 200))
def test_batches_hold_each_row_once_within_the_budget_and_one_length(lengths, tokens):
    batches = equal_batches(lengths, tokens=tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(batches)
    for batch in batches:
        assert len({lengths[row] for row in batch}) == 1
        assert len(batch) == 1 or len(batch) * lengths[batch[0]] <= tokens


@given(st.lists(st.integers(1, 40), min_size=1), st.integers(1, 200))
def test_batches_are_filled_before_the_next_is_begun(lengths, tokens):
    for batch, after in itertools.pairwise(equal_batches(lengths, tokens=tokens)):
        same = lengths[batch[0]] == lengths[after[0]]
        assert not same or (len(batch) + 1) * lengths[batch[0]] > tokens


RAGGED = (
    "",
    "a",
    "no",
    "Tell anyone and I will find you.",
    "他说要打断你的手" * 4,
    "😀 mixed テキスト text " * 3,
    "word " * 40,
)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("artefact", "tolerance"), [("fp32", FP32_SPLIT), ("int8", INT8_SPLIT)])
def test_batching_does_not_change_logits(tiny, tiny_encoder, artefact, tolerance, threads):
    engine = Engine(getattr(tiny, artefact), pad=tiny_encoder.pad, threads=threads, batch_tokens=96)
    windows = [row[0] for row in tiny_encoder.encode(RAGGED, [None, "why?"] + [None] * (len(RAGGED) - 2))]
    together = engine.logits(windows)
    alone = np.concatenate([engine.logits([window]) for window in windows])
    backwards = engine.logits(windows[::-1])[::-1]
    repeated = engine.logits(windows * 9)[: len(windows)]
    assert together.shape == (len(RAGGED), engine.outputs)
    assert together.dtype == np.float32
    for other in (alone, backwards, repeated):
        np.testing.assert_allclose(together, other, atol=tolerance, rtol=0)
    assert together.std(axis=0).min() > 2 * FP32_SPLIT, "a model that says the same of every text proves nothing"


def test_rows_are_returned_in_the_order_they_were_given(tiny, tiny_encoder):
    engine = Engine(tiny.fp32, pad=tiny_encoder.pad, threads=2)
    windows = [row[0] for row in tiny_encoder.encode([text for text in RAGGED for _ in range(40)])]
    shuffled = np.random.default_rng(3).permutation(len(windows))
    expected = engine.logits(windows)
    found = engine.logits([windows[i] for i in shuffled])
    np.testing.assert_allclose(found, expected[shuffled], atol=FP32_SPLIT, rtol=0)


def test_an_unknown_device_is_refused_by_name(tiny, tiny_encoder):
    with pytest.raises(ConfigError) as caught:
        Engine(tiny.fp32, pad=tiny_encoder.pad, device="tpu")
    assert caught.value.code == "device_unavailable"
