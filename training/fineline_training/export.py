"""Model to ONNX: fp32 for parity, and the shipped int8 artefact.

The encoder's matrices are int8 in blocks of 32 weights, and so are the activations, at run time: each block has its
own scale. A scale a tensor, as in ONNX Runtime's plain dynamic quantisation, is faster in batches but ten times
further from the trained model, and makes a text's scores depend on its neighbours in the batch (``training/LOG.md``).
Frozen word embeddings are stored exactly as the backbone's source had them, in 4-bit blocks, and are looked up by
``GatherBlockQuantized``: that takes an eighth of the space of fp32 and loses nothing.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import matmul_nbits_quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from fineline_training.backbone import Q4_BLOCK, WordTable, pack_words
from fineline_training.model import SafetyModel

OPSET = 20
MATRIX_BLOCK = 32
_INT8_ARITHMETIC = 4
"""ONNX Runtime's accuracy level for int8 activations and integer products."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


# The quantiser tells of each node that it passes over.
matmul_nbits_quantizer.logger.setLevel(logging.WARNING)


def export_fp32(model: SafetyModel, path: Path) -> None:
    """Write the model as ONNX in fp32 with dynamic batch and length."""
    model = model.eval()
    ids = torch.ones((2, 8), dtype=torch.int64)
    batch, tokens = torch.export.Dim("batch", min=1), torch.export.Dim("tokens", min=2, max=512)
    shapes = {name: {0: batch, 1: tokens} for name in INPUTS}
    with warnings.catch_warnings():
        # The exporter warns about its own internals; a failed export raises and is not hidden by this.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (ids, torch.ones_like(ids), torch.zeros_like(ids)),
            input_names=list(INPUTS),
            output_names=["logits"],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx returned no program")
    program.save(str(path), external_data=False)


def _word_gather(graph: onnx.GraphProto, rows: int) -> tuple[onnx.NodeProto, onnx.TensorProto]:
    """The Gather that looks words up, and its table: the only initialiser with a row for each piece."""
    tables = {t.name: t for t in graph.initializer if len(t.dims) == 2 and t.dims[0] == rows}
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] in tables:
            return node, tables[node.input[0]]
    raise RuntimeError(f"the exported graph has no word lookup with {rows} rows")


def store_words_q4(model: onnx.ModelProto, table: WordTable) -> None:
    """Replace the fp32 word table by the source's 4-bit blocks, in place."""
    graph = model.graph
    node, tensor = _word_gather(graph, table.nibbles.shape[0])
    rows, half = table.nibbles.shape
    packed = helper.make_tensor("word_nibbles", TensorProto.UINT8, [rows, half], table.nibbles.tobytes(), raw=True)
    scales = numpy_helper.from_array(table.scales, "word_scales")
    lookup = helper.make_node(
        "GatherBlockQuantized",
        ["word_nibbles", node.input[1], "word_scales_wide"],
        [node.output[0]],
        name="word_lookup",
        domain="com.microsoft",
        gather_axis=0,
        quantize_axis=1,
        block_size=Q4_BLOCK,
        bits=4,
    )
    # The scales are widened before the lookup (once, when the session is made): products in fp16 would be rounded.
    widen = helper.make_node("Cast", ["word_scales"], ["word_scales_wide"], name="word_widen", to=TensorProto.FLOAT)
    at = list(graph.node).index(node)
    graph.node.remove(node)
    graph.node.insert(at, lookup)
    graph.node.insert(at, widen)
    graph.initializer.remove(tensor)
    graph.initializer.extend([packed, scales])
    if all(entry.domain != "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _round_words_q4(weights: NDArray[np.float32]) -> WordTable:
    """Quantise trained word embeddings to 4-bit blocks (symmetric, largest magnitude at -8)."""
    blocks = weights.reshape(len(weights), -1, Q4_BLOCK)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), axis=-1)[..., 0]
    scales = (extreme / -8).astype(np.float16)
    safe = np.where(scales == 0, np.float16(1), scales).astype(np.float32)
    levels = np.clip(np.rint(blocks / safe[..., None]) + 8, 0, 15).astype(np.uint8).reshape(weights.shape)
    return pack_words(levels, scales)


def export_int8(fp32: Path, path: Path, *, model: SafetyModel, table: WordTable | None) -> None:
    """Write the shipped artefact.

    Args:
        fp32: Model written by ``export_fp32``.
        path: Where the int8 model goes.
        model: The trained model, for its word embeddings when ``table`` is ``None``.
        table: The backbone's own 4-bit words when they stayed frozen.
    """
    words: NDArray[np.float32] = model.words.weight.detach().numpy()
    graph = onnx.load(fp32)
    # The exporter leaves shapes from before its own constant folding; ONNX Runtime infers them anew.
    del graph.graph.value_info[:]
    quantiser = MatMulNBitsQuantizer(
        graph, bits=8, block_size=MATRIX_BLOCK, is_symmetric=True, accuracy_level=_INT8_ARITHMETIC
    )
    quantiser.process()
    quantised: onnx.ModelProto = quantiser.model.model
    store_words_q4(quantised, table or _round_words_q4(words))
    onnx.save(quantised, path)
