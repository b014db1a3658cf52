"""Word embeddings in 4-bit blocks, and the operator that looks them up."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fineline_training.backbone import Q4_BLOCK, WordTable, pack_words

CONTRIB = "com.microsoft"


def round_words(weights: NDArray[np.float32]) -> WordTable:
    """Quantise trained word embeddings to 4-bit blocks (symmetric, largest magnitude at -8)."""
    blocks = weights.reshape(len(weights), -1, Q4_BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), axis=-1)[..., 0]
    scales = (extreme / -8).astype(np.float16)
    safe = np.where(scales == 0, np.float16(1), scales).astype(np.float32)
    levels = np.clip(np.rint(blocks / safe[..., None]) + 8, 0, 15).astype(np.uint8).reshape(weights.shape)
    return pack_words(levels, scales)


def word_lookup(table: WordTable, ids: str, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and initialisers that turn ids into word vectors.

    Args:
        table: The stored words.
        ids: Name of the value with the ids.
        output: Name of the value with the vectors.
    """
    rows, half = table.nibbles.shape
    packed = helper.make_tensor("word_nibbles", TensorProto.UINT8, [rows, half], table.nibbles.tobytes(), raw=True)
    scales = numpy_helper.from_array(table.scales, "word_scales")
    # The scales are widened before the lookup (once, when the session is made): products in fp16 would be rounded.
    widen = helper.make_node("Cast", ["word_scales"], ["word_scales_wide"], name="word_widen", to=TensorProto.FLOAT)
    lookup = helper.make_node(
        "GatherBlockQuantized",
        ["word_nibbles", ids, "word_scales_wide"],
        [output],
        name="word_lookup",
        domain=CONTRIB,
        gather_axis=0,
        quantize_axis=1,
        block_size=Q4_BLOCK,
        bits=4,
    )
    return [widen, lookup], [packed, scales]
