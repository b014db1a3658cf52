"""The machine's rate of int8 matrix products in ONNX Runtime, and what a model needs of them."""

import os
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ROWS, INNER, COLUMNS = 2048, 1536, 384
_INT8_OPS = ("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention", "MatMulNBits")
_BYTES = (TensorProto.INT8, TensorProto.UINT8)


def _product() -> bytes:
    weights = np.random.default_rng(0).integers(-127, 128, (INNER, COLUMNS), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [ROWS, INNER])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [ROWS, COLUMNS])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def int8_rate(seconds: float) -> float:
    """Operations a second of a product of 2048 x 1536 bytes with 1536 x 384 constant ones, on all cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    session = ort.InferenceSession(_product(), options, providers=["CPUExecutionProvider"])
    given = {"a": np.random.default_rng(1).integers(0, 256, (ROWS, INNER), dtype=np.uint8)}
    session.run(None, given)
    runs, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or not runs:
        session.run(None, given)
        runs += 1
    return runs * 2 * ROWS * INNER * COLUMNS / passed


def int8_weights(model: Path) -> list[int]:
    """Weights of each int8 matrix product that a graph runs for every token."""
    graph = onnx.load(str(model)).graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in _INT8_OPS:
            stored = [held[name] for name in node.input if name in held]
            found += [int(np.prod(one.dims)) for one in stored if one.data_type in _BYTES and len(one.dims) > 1][:1]
    return found
