"""A tiny real model, made once a session by the code that makes released ones."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from fineline import Classifier
from fineline.bundle import Bundle, Calibration, window_table, write_bundle
from fineline.encoding import Encoder, WindowSpec, collate
from fineline.engine import Engine
from fineline.own_labels import own_label
from fineline.policy import load_policies
from fineline.taxonomy import load_taxonomy
from fineline.text import NORMALISER_VERSION, View

if TYPE_CHECKING:
    from fineline_training.backbone import Backbone
    from fineline_training.model import SafetyModel

ROOT = Path(__file__).parents[1]
SOURCE_ROOTS = ("serving", "training", "eval")
WINDOW = WindowSpec(size=64, overlap=12, context=16)
GOLDEN_TEXTS = (
    ("en", "The nurse asked how she should report the threat.", None),
    ("en", "", None),
    ("zh", "他說要打斷你的手，我很害怕。", "发生了什么？"),
    ("ja", "その件については明日お話しします。", None),
    ("mul", "line\u2028separator \u0085 next line, as pasted text has it", None),
    ("ar", "شكرا جزيلا لكم على المساعدة", "ما رأيك؟"),
)
WARMING_TEXTS = (
    "tell anyone", "find you", "他说要打断你的手", "ありがとう", "شكرا", "нет", "да!", "😀", "never report", "help",
    "ห้าม", "?", "a much longer text that goes on for a while",
)  # fmt: skip
CORPUS_FILES = ("en/violence_c", "zh/violence_c", "ja/functional", "ar/functional", "ru/functional", "th/functional")


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """The tiny model in every form it has."""

    model: "SafetyModel"
    tokenizer: Tokenizer
    window: WindowSpec
    fp32: Path
    int8: Path
    bundle: Path
    bundle_fp32: Path


def _tokenizer() -> Tokenizer:
    from fineline_training.corpus.loader import CORPUS_DIR, load_file

    texts = [item.text for name in CORPUS_FILES for item in load_file(CORPUS_DIR / f"{name}.yaml")]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(vocab_size=3000, special_tokens=special, unk_token="<unk>", show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    return _tokenizer()


@pytest.fixture(scope="session")
def make_backbone(tiny_tokenizer: Tokenizer) -> Callable[[int], "Backbone"]:
    """Build the tiny encoder with random weights; the same seed gives the same weights."""
    import torch
    from transformers import BertConfig, BertModel

    from fineline_training.backbone import Backbone

    def make(seed: int = 7) -> Backbone:
        config = BertConfig(
            vocab_size=tiny_tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=512,
            type_vocab_size=2,
            initializer_range=0.2,
        )
        torch.manual_seed(seed)
        model = BertModel(config, add_pooling_layer=False)
        return Backbone(
            model=model,
            tokenizer=Tokenizer.from_str(tiny_tokenizer.to_str()),
            word_table=None,
            provenance={"model": "tiny, random", "licence": "none"},
        )

    return make


@pytest.fixture
def tiny_backbone(make_backbone: Callable[[int], "Backbone"]) -> "Backbone":
    """A fresh one for each test, because training changes it."""
    return make_backbone(7)


def bundle_meta(labels: tuple[str, ...]) -> dict[str, Any]:
    levels = {"cn_measures": 0.5, "international": 0.7, "minors": 0.3}
    assert set(levels) == set(load_policies())
    return {
        "name": "tiny",
        "version": "0.0.1",
        "labels": list(labels),
        "taxonomy": load_taxonomy().version,
        "normaliser": NORMALISER_VERSION,
        "view": str(View.SIMPLIFIED),
        "window": window_table(WINDOW),
        "calibration": {
            label: asdict(Calibration(scale=round(0.8 + 0.02 * i, 2), shift=round(-0.2 + 0.02 * i, 2)))
            for i, label in enumerate(labels)
        },
        "thresholds": {name: dict.fromkeys(labels, level) for name, level in levels.items()},
        "quantisation": {"matrices": "dynamic int8", "words": "4-bit blocks of 32, rounded"},
        "golden_tolerance": 0.05,
        "manifest": {"recipe": {"name": "tiny"}},
    }


def write_tiny_bundle(
    folder: Path, name: str, onnx: Path, tokenizer: Tokenizer, own: Sequence[dict[str, Any]] = ()
) -> Bundle:
    """Write a bundle of a graph; ``own`` are tables of labels behind the shipped ones, or in their place."""
    encoder = Encoder(Tokenizer.from_str(tokenizer.to_str()), WINDOW)
    encoded = encoder.encode([text for _, text, _ in GOLDEN_TEXTS], [context for *_, context in GOLDEN_TEXTS])
    assert all(len(windows) == 1 for windows in encoded), "golden texts must fit one window"
    logits = Engine(onnx, pad=encoder.pad, threads=1).logits([windows[0] for windows in encoded])
    rows = [
        {
            "text": text,
            **({"context": context} if context else {}),
            "lang": lang,
            "logits": [round(float(x), 4) for x in r],
        }
        for (lang, text, context), r in zip(GOLDEN_TEXTS, logits, strict=True)
    ]
    golden = folder / f"{name}.golden.jsonl"
    golden.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8", newline="\n"
    )
    saved = folder / f"{name}.tokenizer.json"
    tokenizer.save(str(saved))
    files = {"model.onnx": onnx, "tokenizer.json": saved, "golden.jsonl": golden}
    taxonomy = load_taxonomy().extended(own_label(table, name) for table in own)
    return write_bundle(folder / name, files, "# tiny\n", bundle_meta(taxonomy.ids) | {"own_labels": list(own)})


def warmed_model(make_backbone: Callable[[int], "Backbone"], encoder: Encoder, outputs: int) -> "SafetyModel":
    """A random model whose labels each say yes to some texts and no to most."""
    import torch

    from fineline_training.model import SafetyModel

    torch.manual_seed(11)
    model = SafetyModel(make_backbone(7).model, outputs, dropout=0.1)
    model.eval()
    windows = [row[0] for row in encoder.encode(WARMING_TEXTS)]
    inputs = {name: torch.from_numpy(array) for name, array in collate(windows, encoder.pad).items()}
    with torch.no_grad():
        model.head.value.weight.mul_(60)
        model.head.value.bias.sub_(model(**inputs).mean(dim=0) + 3.5)
    return model


@pytest.fixture(scope="session")
def tiny(
    tmp_path_factory: pytest.TempPathFactory, make_backbone: Callable[[int], "Backbone"], tiny_tokenizer: Tokenizer
) -> Tiny:
    from fineline_training.export import export_fp32, export_int8
    from fineline_training.ranges import observe

    folder = tmp_path_factory.mktemp("tiny")
    encoder = Encoder(Tokenizer.from_str(tiny_tokenizer.to_str()), WINDOW)
    model = warmed_model(make_backbone, encoder, len(load_taxonomy().ids))
    fp32, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    export_fp32(model, fp32)
    # Short and long, with and without context: the scales of the int8 artefact come from these.
    typical = [*WARMING_TEXTS, " ".join(WARMING_TEXTS) * 4, *(text for _, text, _ in GOLDEN_TEXTS)]
    contexts = [None] * (len(WARMING_TEXTS) + 1) + [context for *_, context in GOLDEN_TEXTS]
    seen = [window for windows in encoder.encode(typical, contexts) for window in windows]
    export_int8(fp32, int8, model=model, table=None, ranges=observe(model, seen, encoder.pad))
    write_tiny_bundle(folder, "bundle", int8, tiny_tokenizer)
    write_tiny_bundle(folder, "bundle_fp32", fp32, tiny_tokenizer)
    return Tiny(
        model=model,
        tokenizer=tiny_tokenizer,
        window=WINDOW,
        fp32=fp32,
        int8=int8,
        bundle=folder / "bundle",
        bundle_fp32=folder / "bundle_fp32",
    )


@pytest.fixture(scope="session")
def own_table() -> dict[str, Any]:
    """A team's label as its file states it; each test may change its copy."""
    return {
        "id": "miracle_cure",
        "group": "own",
        "name": {"en": "Miracle cure", "zh": "神奇疗法"},
        "clauses": ["house-rules 3.2"],
        "definition": "Sells a cure that no medicine is.",
        "definition_zh": "兜售并非药物的疗法。",
        "flag": ["An offer of a cure for everything."],
        "flag_zh": ["兜售包治百病的疗法。"],
        "never_flag": ["A report about such offers."],
        "never_flag_zh": ["关于此类兜售的报道。"],
        "overlaps": ["false_information"],
        "crosswalk": {"ail": [], "lg3": [], "openai": ["~illicit"]},
        "action": "review",
    }


@pytest.fixture(scope="session")
def own_bundle(
    tmp_path_factory: pytest.TempPathFactory,
    make_backbone: Callable[[int], "Backbone"],
    tiny_tokenizer: Tokenizer,
    own_table: dict[str, Any],
) -> Path:
    """Folder of a bundle with a team's label behind the shipped ones, not quantised; never write into it."""
    import torch

    from fineline_training.export import export_fp32

    folder = tmp_path_factory.mktemp("own")
    encoder = Encoder(Tokenizer.from_str(tiny_tokenizer.to_str()), WINDOW)
    model = warmed_model(make_backbone, encoder, len(load_taxonomy()) + 1)
    with torch.no_grad():
        model.head.value.bias[-1] += 8  # the team's label is flagged nearly always
    export_fp32(model, folder / "fp32.onnx")
    return write_tiny_bundle(folder, "bundle", folder / "fp32.onnx", tiny_tokenizer, [own_table]).path


@pytest.fixture(scope="session")
def tiny_bundle(tiny: Tiny) -> Path:
    """Folder of the int8 bundle, as one is served; never write into it."""
    return tiny.bundle


@pytest.fixture(scope="session")
def tiny_encoder(tiny: Tiny) -> Encoder:
    return Encoder(Tokenizer.from_str(tiny.tokenizer.to_str()), tiny.window)


@pytest.fixture(scope="session")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier.load(tiny_bundle, threads=1)


@pytest.fixture(scope="session")
def classifier_fp32(tiny: Tiny) -> Classifier:
    """The same model without quantisation: its results do not depend on what shares a batch."""
    return Classifier.load(tiny.bundle_fp32, threads=1)


@pytest.fixture(scope="session")
def source_env() -> dict[str, str]:
    """Environment of a fresh interpreter that sees the three source roots and nothing of a run folder."""
    roots = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    return os.environ | {"PYTHONPATH": roots, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


@pytest.fixture
def rng() -> Iterator[np.random.Generator]:
    yield np.random.default_rng(20231)
