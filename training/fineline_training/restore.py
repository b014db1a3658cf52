"""A bundle back into the model it was exported from, so that training can go on from what is served.

``fused`` wrote the graph: int8 matrices with a step a column, over inputs that were divided channel by channel; 4-bit
words; everything else in fp32. Multiplied out again that is a ``BertModel`` and a head whose function is the graph's
but for the rounding of activations, which training does not want. What the graph has lost is the form, not the
function: the division of the values' channels stays in both matrices around it, and channels of the feed-forward blocks
stand in another order. So no file beside the bundle is needed, and the same bundle always gives the same model.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from transformers import BertConfig, BertModel

from fineline.bundle import MODEL, Bundle
from fineline.errors import BundleError
from fineline_training.backbone import WordTable, unpack_words
from fineline_training.model import HEAD_PRIOR, SafetyModel

Arrays = Mapping[str, NDArray[Any]]


class Restored(NamedTuple):
    """A model read from a bundle, and the exact words it looks up."""

    model: SafetyModel
    words: WordTable


def restore(bundle: Bundle, labels: int, *, dropout: float = 0.0, encoder_dropout: float = 0.0) -> Restored:
    """Read a bundle's graph into a model.

    Args:
        bundle: A verified bundle.
        labels: Outputs of the model, at least those of the bundle: further ones begin with the bundle's mean query and
            the prior, whatever the text.
        dropout: Dropout on the vectors that enter the head.
        encoder_dropout: Dropout inside the encoder.

    Raises:
        BundleError: The graph is not one that ``fused_graph`` writes.
    """
    graph = onnx.load(bundle.path / MODEL).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    try:
        words = WordTable(nibbles=stored["word_nibbles"], scales=stored["word_scales"])
        config = _config(graph, stored)
        encoder = BertModel(config, add_pooling_layer=False)
        state = _embeddings(stored, words) | {
            f"encoder.layer.{number}.{name}": values
            for number in range(config.num_hidden_layers)
            for name, values in _layer(stored, f"layer{number}").items()
        }
        head = _head(stored, labels)
    except KeyError as missing:
        raise BundleError(
            "bundle_graph",
            f"{bundle.path}: the graph has no {missing}, so it was not written by 'fineline train' from a BERT encoder "
            "and training cannot go on from it; train from a recipe instead.",
        ) from None
    encoder.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in state.items()})
    model = SafetyModel(encoder, labels, dropout, encoder_dropout)
    model.head.load_state_dict(head)
    return Restored(model, words)


def _config(graph: onnx.GraphProto, stored: Arrays) -> BertConfig:
    layers = sum(name.endswith(".attention.parts.weight") for name in stored)
    attributes = {node.name: {entry.name: entry for entry in node.attribute} for node in graph.node}
    mixed = attributes["layer0.attention.mixed"]["then_branch"].g.node[0]
    return BertConfig(
        vocab_size=len(stored["word_nibbles"]),
        hidden_size=stored["types"].shape[1],
        num_hidden_layers=layers,
        num_attention_heads={entry.name: entry.i for entry in mixed.attribute}["num_heads"],
        intermediate_size=sum(stored[f"layer0.feed.{part}.bias"].size for part in ("large", "rest")),
        max_position_embeddings=len(stored["positions"]),
        type_vocab_size=len(stored["types"]),
        layer_norm_eps=attributes["embedded_norm"]["epsilon"].f,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )


def _norm(stored: Arrays, name: str, module: str) -> dict[str, NDArray[Any]]:
    return {f"{module}.weight": stored[f"{name}.scale"], f"{module}.bias": stored[f"{name}.shift"]}


def _embeddings(stored: Arrays, words: WordTable) -> dict[str, NDArray[Any]]:
    return {
        "embeddings.word_embeddings.weight": unpack_words(words),
        "embeddings.position_embeddings.weight": stored["positions"],
        "embeddings.token_type_embeddings.weight": stored["types"],
        **_norm(stored, "embedded_norm", "embeddings.LayerNorm"),
    }


def _matrix(stored: Arrays, name: str, divisor: str | None = None) -> NDArray[np.float32]:
    """A matrix of shape (inputs, outputs) without its levels, and without the division of its inputs."""
    weight: NDArray[np.float32] = stored[f"{name}.weight"].astype(np.float32) * stored[f"{name}.steps"]
    return weight if divisor is None else weight * stored[f"{divisor}.inverse"][:, None]


def _layer(stored: Arrays, layer: str) -> dict[str, NDArray[Any]]:
    """Parameters of one layer, by their names in ``BertLayer``."""
    attention, feed = f"{layer}.attention", f"{layer}.feed"
    inputs = np.split(_matrix(stored, f"{attention}.parts", attention), 3, axis=1)
    biases = np.split(stored[f"{attention}.parts.bias"], 3)
    state: dict[str, NDArray[Any]] = {}
    for part, weight, bias in zip(("query", "key", "value"), inputs, biases, strict=True):
        state |= {f"attention.self.{part}.weight": weight.T, f"attention.self.{part}.bias": bias}
    # The output's division was folded into the values, so it stays where it is on both sides.
    state["attention.output.dense.weight"] = _matrix(stored, f"{attention}.dense").T
    state["attention.output.dense.bias"] = stored[f"{attention}.dense.bias"]
    state |= _norm(stored, f"{attention}.norm", "attention.output.LayerNorm")
    parts = ("large", "rest")
    state["intermediate.dense.weight"] = np.concatenate([_matrix(stored, f"{feed}.{p}", feed).T for p in parts])
    state["intermediate.dense.bias"] = np.concatenate([stored[f"{feed}.{p}.bias"] for p in parts])
    outer = np.concatenate([stored[f"{feed}.large.out"], _matrix(stored, f"{feed}.dense", f"{feed}.out")])
    state["output.dense.weight"] = outer.T
    state["output.dense.bias"] = stored[f"{feed}.dense.bias"]
    return state | _norm(stored, f"{feed}.norm", "output.LayerNorm")


def _head(stored: Arrays, labels: int) -> dict[str, Tensor]:
    query, value = np.split(stored["head.weight"].T, 2)
    bias = stored["head.bias"]
    new = labels - len(bias)
    return {
        "query.weight": torch.from_numpy(np.concatenate([query, np.repeat(query.mean(0, keepdims=True), new, 0)])),
        "value.weight": torch.from_numpy(np.concatenate([value, np.zeros((new, value.shape[1]), np.float32)])),
        "value.bias": torch.from_numpy(np.concatenate([bias, np.full(new, HEAD_PRIOR, np.float32)])),
    }
