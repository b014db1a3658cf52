"""Model to ONNX: fp32 for parity, the shipped int8 artefact, and fp16 for GPUs.

A BERT encoder is written with integer products at fixed scales and fused operators (``fused``). Any other encoder keeps
the exported graph, with matrices in blocks of 32 weights and activations quantised by block at run time: nearer to
fp32, and two to three times slower. In both a text's scores do not depend on its neighbours in the batch, as they do
with ONNX Runtime's plain dynamic quantisation. Frozen word embeddings are stored exactly as the backbone's source had
them, in 4-bit blocks, and are looked up by ``GatherBlockQuantized``: an eighth of the space of fp32, and nothing lost.

The int8 graph is made of operators that only the CPU has; on a GPU the exported graph runs in fp16.
"""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import matmul_nbits_quantizer
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from fineline_training.backbone import WordTable
from fineline_training.fused import INPUTS, OPSET, OUTLIERS, can_fuse, fused_graph
from fineline_training.model import SafetyModel
from fineline_training.ranges import Range
from fineline_training.words import CONTRIB, round_words, word_lookup

MATRIX_BLOCK = 32
_INT8_ARITHMETIC = 4
"""ONNX Runtime's accuracy level for int8 activations and integer products."""


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
    """Replace the word table, in fp32 or fp16, by the source's 4-bit blocks, in place."""
    graph = model.graph
    node, tensor = _word_gather(graph, table.nibbles.shape[0])
    half = tensor.data_type == TensorProto.FLOAT16
    nodes, stored = word_lookup(table, node.input[1], "word_vectors" if half else node.output[0])
    if half:
        kind = TensorProto.FLOAT16
        nodes.append(helper.make_node("Cast", ["word_vectors"], [node.output[0]], name="word_narrow", to=kind))
    at = list(graph.node).index(node)
    graph.node.remove(node)
    for new in reversed(nodes):
        graph.node.insert(at, new)
    graph.initializer.remove(tensor)
    graph.initializer.extend(stored)
    if all(entry.domain != CONTRIB for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def export_int8(
    fp32: Path, path: Path, *, model: SafetyModel, table: WordTable | None, ranges: dict[str, Range]
) -> str:
    """Write the shipped artefact.

    Args:
        fp32: Model written by ``export_fp32``.
        path: Where the int8 model goes.
        model: The trained model.
        table: The backbone's own 4-bit words when they stayed frozen; ``None`` rounds the model's.
        ranges: From ``ranges.observe``.

    Returns:
        How matrices are stored, in words.
    """
    words: NDArray[np.float32] = model.words.weight.detach().numpy()
    table = table or round_words(words)
    if can_fuse(model.encoder):
        onnx.save(fused_graph(model, table, ranges), path)
        return f"int8 a column, activations at fixed scales; up to {OUTLIERS} feed-forward channels a layer in fp32"
    onnx.save(_in_blocks(onnx.load(fp32), table), path)
    return "int8 in blocks of 32, activations likewise at run time"


def export_fp16(fp32: Path, path: Path, table: WordTable | None) -> None:
    """Write the artefact for GPUs, whose arithmetic is in fp16.

    Args:
        fp32: Model written by ``export_fp32``.
        path: Where the fp16 model goes.
        table: The backbone's own 4-bit words when they stayed frozen; with ``None`` the model's are stored in fp16.
    """
    half = convert_float_to_float16(onnx.load(fp32), keep_io_types=True)
    if table:
        store_words_q4(half, table)
    onnx.save(half, path)


def _in_blocks(model: onnx.ModelProto, table: WordTable) -> onnx.ModelProto:
    # The exporter leaves shapes from before its own constant folding; ONNX Runtime infers them anew.
    del model.graph.value_info[:]
    quantiser = MatMulNBitsQuantizer(
        model, bits=8, block_size=MATRIX_BLOCK, is_symmetric=True, accuracy_level=_INT8_ARITHMETIC
    )
    quantiser.process()
    quantised: onnx.ModelProto = quantiser.model.model
    store_words_q4(quantised, table)
    return quantised
