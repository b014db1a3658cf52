"""The shipped graph of a BERT encoder: int8 products and ONNX Runtime's fused operators.

What ``torch.onnx`` exports computes the same, and serves as the reference in fp32; but its attention is a dozen
operators, and weights in blocks are no faster than fp32 in a batch. Written by hand, the graph has twenty operators a
layer and runs two to three times faster (``training/LOG.md``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from transformers import BertModel

from fineline_training.backbone import WordTable
from fineline_training.model import MASKED, SafetyModel
from fineline_training.quantise import Levels, activation_levels, divisors, int8_weights
from fineline_training.ranges import Range
from fineline_training.words import CONTRIB, word_lookup

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 20
IR_VERSION = 9
OUTLIERS = 16
"""Largest input channels of each feed-forward block's second matrix, which stay in fp32 (after Dettmers et al. 2022,
"LLM.int8()"): the activation function leaves a few values ten times above the rest, which no division evens out."""


class Graph:
    """Nodes and initialisers under construction; every method returns the name of a value."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: Any) -> str:
        """Store an array."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Apply an operator."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def words(self, table: WordTable, ids: str, output: str) -> str:
        """Look up word vectors that are stored in 4-bit blocks."""
        nodes, stored = word_lookup(table, ids, output)
        self.nodes += nodes
        self.weights += stored
        return output

    def norm(self, x: str, name: str, module: Any) -> str:
        """Layer normalisation with a module's weights."""
        scale, shift = (
            self.weight(f"{name}.scale", _array(module.weight)),
            self.weight(f"{name}.shift", _array(module.bias)),
        )
        return self.node("LayerNormalization", [x, scale, shift], name, epsilon=module.eps)

    def model(self, labels: int) -> onnx.ModelProto:
        """The model from the three inputs to ``logits``."""
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in INPUTS]
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])
        graph = helper.make_graph(self.nodes, "fineline", inputs, [output], self.weights)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="fineline")


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Values of the graph that say what is padding.

    Attributes:
        tokens: 1 for a token, 0 for padding, int32, shape (batch, tokens).
        none: Whether no token of the batch is padding.
    """

    tokens: str
    none: str


def _array(tensor: Any) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().float().numpy()
    return values


def can_fuse(encoder: Any) -> bool:
    """Whether an encoder is one that ``fused_graph`` writes."""
    if not isinstance(encoder, BertModel):
        return False
    return encoder.config.hidden_act == "gelu" and not encoder.config.is_decoder


def fused_graph(model: SafetyModel, table: WordTable, ranges: dict[str, Range]) -> onnx.ModelProto:
    """Write the whole model.

    Args:
        model: The trained model; ``can_fuse`` of its encoder holds.
        table: Its word embeddings in 4-bit blocks.
        ranges: From ``ranges.observe``.
    """
    graph = Graph()
    encoder: Any = model.encoder  # torch types every submodule as a tensor or a module
    embeddings = encoder.embeddings
    words = graph.words(table, "input_ids", "word_vectors")
    types = graph.weight("types", _array(embeddings.token_type_embeddings.weight))
    segments = graph.node("Gather", [types, "token_type_ids"], "segments")
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    table_of = graph.weight("positions", _array(embeddings.position_embeddings.weight))
    first, axis = graph.weight("first", np.array([0], np.int64)), graph.weight("axis", np.array([0], np.int64))
    places = graph.node("Slice", [table_of, first, length, axis], "places")
    summed = graph.node("Add", [graph.node("Add", [words, segments], "words_segments"), places], "embedded")
    x = graph.norm(summed, "embedded_norm", embeddings.LayerNorm)
    full = graph.node("ReduceMin", ["attention_mask"], "least", keepdims=0)
    mask = Mask(
        tokens=graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32),
        none=graph.node("Cast", [full], "unpadded", to=TensorProto.BOOL),
    )
    for number, layer in enumerate(encoder.encoder.layer):
        x = _feed_forward(graph, _attention(graph, x, mask, number, layer, ranges), number, layer, ranges)
    _head(graph, x, model)
    return graph.model(model.head.out_features)


def _quantised(graph: Graph, x: str, name: str, levels: Levels, *, divided: bool = False) -> list[str]:
    """Quantise activations: levels, scale and zero. Where the matrix before took the divisor in, they come divided."""
    if not divided:
        x = graph.node("Mul", [x, graph.weight(f"{name}.inverse", 1 / levels.divisor)], f"{name}.divided")
    scale, zero = graph.weight(f"{name}.scale", levels.scale), graph.weight(f"{name}.zero", levels.zero)
    return [graph.node("QuantizeLinear", [x, scale, zero], f"{name}.levels"), scale, zero]


def _product(
    graph: Graph,
    given: list[str],
    name: str,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    divisor: NDArray[np.float32],
) -> str:
    """Integer product of quantised activations, back in float with the bias added."""
    levels, scale, zero = given
    matrix = int8_weights(weight, divisor)
    stored, steps = graph.weight(f"{name}.weight", matrix.levels), graph.weight(f"{name}.steps", matrix.steps)
    inputs = [levels, stored, scale, steps, zero, "", graph.weight(f"{name}.bias", bias)]
    return graph.node("MatMulIntegerToFloat", inputs, name, CONTRIB)


def _attention(graph: Graph, x: str, mask: Mask, number: int, layer: Any, ranges: dict[str, Range]) -> str:
    name, place = f"layer{number}.attention", f"encoder.layer.{number}.attention"
    parts, dense = layer.attention.self, layer.attention.output.dense
    weight = np.concatenate([_array(part.weight).T for part in (parts.query, parts.key, parts.value)], axis=1)
    bias = np.concatenate([_array(part.bias) for part in (parts.query, parts.key, parts.value)])
    # The output's divisor is folded into the values, of which attention takes means.
    out, seen_out = _array(dense.weight).T, ranges[f"{place}.output.dense"]
    divisor_out, size = divisors(out, seen_out), len(out)
    weight[:, 2 * size :] /= divisor_out
    bias[2 * size :] /= divisor_out
    seen = ranges[f"{place}.self.query"]
    divisor = divisors(weight, seen)
    given = _quantised(graph, x, name, activation_levels(seen, divisor))
    all_three = _product(graph, given, f"{name}.parts", weight, bias, divisor)
    parted = [f"{name}.{part}" for part in ("query", "key", "value")]
    graph.nodes.append(helper.make_node("Split", [all_three], parted, axis=2, num_outputs=3, name=f"{name}.split"))
    mixed = _mixed(graph, parted, mask, f"{name}.mixed", parts.num_attention_heads, size)
    given = _quantised(graph, mixed, f"{name}.out", activation_levels(seen_out, divisor_out), divided=True)
    y = _product(graph, given, f"{name}.dense", out, _array(dense.bias), divisor_out)
    return graph.norm(graph.node("Add", [y, x], f"{name}.sum"), f"{name}.norm", layer.attention.output.LayerNorm)


def _mixed(graph: Graph, parted: list[str], mask: Mask, name: str, heads: int, size: int) -> str:
    """Attention in fp32, without the mask where nothing is padded: ONNX Runtime's blockwise kernel takes none."""

    def branch(kind: str, inputs: list[str]) -> onnx.GraphProto:
        value = f"{name}.{kind}"
        node = helper.make_node("MultiHeadAttention", inputs, [value], name=value, domain=CONTRIB, num_heads=heads)
        shape = helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", "tokens", size])
        return helper.make_graph([node], f"{value}.graph", [], [shape])

    whole, padded = branch("whole", parted), branch("padded", [*parted, "", mask.tokens])
    return graph.node("If", [mask.none], name, then_branch=whole, else_branch=padded)


def _feed_forward(graph: Graph, x: str, number: int, layer: Any, ranges: dict[str, Range]) -> str:
    name, place = f"layer{number}.feed", f"encoder.layer.{number}"
    inner, outer = layer.intermediate.dense, layer.output.dense
    weight, bias, seen = _array(inner.weight).T, _array(inner.bias), ranges[f"{place}.intermediate.dense"]
    out, seen_out = _array(outer.weight).T, ranges[f"{place}.output.dense"]
    order = np.argsort(-seen_out.magnitude * np.abs(out).max(axis=1), kind="stable")
    kept = min(OUTLIERS, len(order) // 4)
    large, rest = order[:kept], np.sort(order[kept:])
    divisor = divisors(weight, seen)
    given = _quantised(graph, x, name, activation_levels(seen, divisor))
    active = {}
    for part, channels in (("large", large), ("rest", rest)):
        found = _product(graph, given, f"{name}.{part}", weight[:, channels], bias[channels], divisor)
        active[part] = graph.node("Gelu", [found], f"{name}.{part}.active", CONTRIB)
    seen_rest = seen_out.at(rest)
    divisor_rest = divisors(out[rest], seen_rest)
    given = _quantised(graph, active["rest"], f"{name}.out", activation_levels(seen_rest, divisor_rest))
    y = _product(graph, given, f"{name}.dense", out[rest], _array(outer.bias), divisor_rest)
    y_large = graph.node("MatMul", [active["large"], graph.weight(f"{name}.large.out", out[large])], f"{name}.exact")
    both = graph.node("Add", [y, y_large], f"{name}.both")
    return graph.norm(graph.node("Add", [both, x], f"{name}.sum"), f"{name}.norm", layer.output.LayerNorm)


def _head(graph: Graph, x: str, model: SafetyModel) -> None:
    """``LabelAttention`` in fp32: queries and values in one product."""
    head = model.head
    weight = np.concatenate([_array(head.query.weight).T, _array(head.value.weight).T], axis=1)
    both = graph.node("MatMul", [x, graph.weight("head.weight", weight)], "head.both")
    graph.nodes.append(helper.make_node("Split", [both], ["head.query", "head.value"], axis=2, num_outputs=2))
    one = graph.weight("one", np.array(1, np.int64))
    judged = graph.node("Mul", ["attention_mask", graph.node("Sub", [one, "token_type_ids"], "text")], "judged")
    hidden = graph.node("Cast", [graph.node("Sub", [one, judged], "unjudged")], "hidden", to=TensorProto.FLOAT)
    masked = graph.node("Mul", [hidden, graph.weight("masked", np.array(MASKED, np.float32))], "head.mask")
    masked = graph.node("Unsqueeze", [masked, graph.weight("last", np.array([2], np.int64))], "head.mask.wide")
    weights = graph.node("Softmax", [graph.node("Add", ["head.query", masked], "head.masked")], "head.weights", axis=1)
    weighed = graph.node("Mul", [weights, "head.value"], "head.weighed")
    second = graph.weight("second", np.array([1], np.int64))
    pooled = graph.node("ReduceSum", [weighed, second], "head.pooled", keepdims=0)
    graph.node("Add", [pooled, graph.weight("head.bias", _array(head.value.bias))], "logits")
