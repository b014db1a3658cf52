"""``infinity-emb`` with our graph: a folder that it takes for a classifier of the ``transformers`` family.

Install it apart, since it needs older versions of much:
``python3 -m venv VENV && VENV/bin/pip install 'infinity-emb[server,optimum]==0.0.78' torch==2.13.0``.

What had to be adapted: a ``config.json`` that says what the graph is, a ``tokenizer_config.json`` with the graph's
three inputs, a name of the graph with ``quantize`` in it, which infinity prefers on a CPU, and the folder as its
working directory. The graph is ours, byte for byte. Infinity reads texts as they are, without our normalised view, and
cuts none into windows; it hands a batch to a ``transformers`` pipeline, which runs its texts one by one.
"""

import json
import os
import shutil
from pathlib import Path

from fineline.bundle import MODEL, TOKENIZER, Bundle

QUANTISED = "model_quantized.onnx"
NAME = "fineline"
POSITIONS = 512
"""Longest input of the backbone."""


def write_model(bundle: Bundle, folder: Path) -> None:
    """Write the folder that infinity loads."""
    folder.mkdir(parents=True)
    shutil.copyfile(bundle.path / MODEL, folder / QUANTISED)
    shutil.copyfile(bundle.path / TOKENIZER, folder / TOKENIZER)
    labels = bundle.meta.labels
    config = {
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "problem_type": "multi_label_classification",  # so that its pipeline applies the sigmoid
        "id2label": {str(place): label for place, label in enumerate(labels)},
        "label2id": {label: place for place, label in enumerate(labels)},
        "max_position_embeddings": POSITIONS,
    }
    tokenizer = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "model_input_names": ["input_ids", "attention_mask", "token_type_ids"],
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))


def command(venv: Path, port: int, batch: int) -> list[str]:
    """How it is started, with the model's folder as its working directory: given a path, it does not find the graph.

    Its own optimiser stays off, because the graph is fused already.
    """
    options = {"--model-id": ".", "--served-model-name": NAME, "--engine": "optimum", "--device": "cpu"}
    numbers = {"--port": port, "--batch-size": batch, "--host": "127.0.0.1", "--log-level": "error"}
    words = [str(word) for pair in (options | numbers).items() for word in pair]
    switches = ["--no-trust-remote-code", "--onnx-disable-optimize", "--no-model-warmup"]
    return [str(venv.absolute() / "bin/infinity_emb"), "v2", *words, *switches]


def environment(cache: Path) -> dict[str, str]:
    """Its environment: no hub, no usage reports, caches in a folder of ours."""
    offline = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "false"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | offline | {"HF_HOME": str(cache)}
