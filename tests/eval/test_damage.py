"""Bundles damaged on purpose: each kind of damage makes ``compare`` fail, and names what it cost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.progress import Progress

from fineline import Classifier
from fineline.bundle import CARD, GOLDEN, META, MODEL, TOKENIZER, write_bundle
from fineline.taxonomy import load_taxonomy
from fineline_eval.compare import beyond_chance, compare
from fineline_eval.decisions import decide
from fineline_eval.gates import load_gates
from fineline_eval.scoring import Scorer

onnx = pytest.importorskip("onnx")
IDS = load_taxonomy().ids


def _noised(meta: dict, model: Path, label: str) -> None:
    """Noise on every scale and vector of floats, as large as their spread."""
    graph = onnx.load(model)
    rng = np.random.default_rng(7)
    for tensor in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1:
            noisy = values + rng.normal(0, values.std() + 1e-3, values.shape).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(noisy.astype(np.float32), tensor.name))
    onnx.save(graph, model)


def _thresholds_shifted(meta: dict, model: Path, label: str) -> None:
    for table in meta["thresholds"].values():
        table.update({label: level / 4 for label, level in table.items()})


def _label_dropped(meta: dict, model: Path, label: str) -> None:
    """The label goes, from the graph too."""
    columns = [column for column, name in enumerate(meta["labels"]) if name != label]
    meta["labels"].remove(label)
    del meta["calibration"][label]
    for table in meta["thresholds"].values():
        del table[label]
    graph = onnx.load(model)
    (output,) = graph.graph.output
    kept = onnx.numpy_helper.from_array(np.array(columns, dtype=np.int64), "kept_labels")
    graph.graph.initializer.append(kept)
    graph.graph.node.append(onnx.helper.make_node("Gather", [output.name, "kept_labels"], ["fewer_logits"], axis=1))
    output.name = "fewer_logits"
    output.type.tensor_type.shape.dim[1].dim_value = len(meta["labels"])
    onnx.save(graph, model)


def _calibration_removed(meta: dict, model: Path, label: str) -> None:
    meta["calibration"] = {label: {"scale": 1.0, "shift": 0.0} for label in meta["labels"]}


def _calibrated(meta: dict, model: Path, label: str) -> None:
    """No damage: a calibration that matters, and that flags enough texts to see a difference."""
    meta["calibration"] = {name: {"scale": 1.0, "shift": 1.0} for name in meta["labels"]}


DAMAGES: dict[str, Callable[[dict, Path, str], None]] = {
    "weights noised": _noised,
    "thresholds shifted": _thresholds_shifted,
    "label dropped": _label_dropped,
    "calibration removed": _calibration_removed,
}
NAMED = {
    "weights noised": ("authored/all/macro_f1",),  # which labels lose their recall is chance
    "thresholds shifted": ("authored/all/lawful_flagged", "authored/all/macro_f1"),
    "label dropped": ("authored/label={label}/recall",),
    "calibration removed": ("authored/label={label}/recall",),
}
"""What each kind of damage costs at least, where ``label`` is the one flagged most by the good bundle."""


def changed(bundle: Path, change: Callable[[dict, Path, str], None], out: Path, *, label: str = "") -> Path:
    """Make another bundle from a good one; it loads like any other.

    Args:
        bundle: Folder of the good bundle.
        change: One of ``DAMAGES``.
        out: Folder to create; its parent is used for scratch files.
        label: The label that is dropped, where one is.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    meta = json.loads((bundle / META).read_text(encoding="utf-8"))
    model = out.parent / f"{out.name}.onnx"
    shutil.copyfile(bundle / MODEL, model)
    change(meta, model, label)
    files = {MODEL: model, TOKENIZER: bundle / TOKENIZER, GOLDEN: bundle / GOLDEN}
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    write_bundle(out, files, (bundle / CARD).read_text(encoding="utf-8"), entries)
    return out


def judged(bundle: Path, rows):
    """Flags of a bundle, by label and by any label."""
    scorer = Scorer(Classifier.load(bundle, threads=1), None, Progress(disable=True))
    probabilities = scorer.probabilities("rows", rows)
    reached, flagged = scorer.reached(probabilities), scorer.flags(probabilities, scorer.labels)
    return SimpleNamespace(reached=reached, flagged=flagged)


@pytest.fixture(scope="module")
def texts():
    from fineline_training.corpus.loader import CORPUS_DIR, load_file

    names = ("en/violence_c", "zh/violence_c", "en/insult_a", "en/privacy_a", "zh/insult_a")
    found = dict.fromkeys(item.text for name in names for item in load_file(CORPUS_DIR / f"{name}.yaml"))
    return list(found)[:600]


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_damage_is_caught_and_named(tiny_bundle, texts, row, tmp_path, kind):
    plain = [row(text) for text in texts]
    bundle = changed(tiny_bundle, _calibrated, tmp_path / "good")
    good = judged(bundle, plain)
    # What the good bundle flags is the truth: any change of decision is a fault of the damaged one.
    rows = [
        row(text, labels=dict(zip(IDS, map(int, flags), strict=True)))
        for text, flags in zip(texts, good.reached, strict=True)
    ]
    assert 30 < good.flagged.sum() < len(rows) - 30

    def decisions(found):
        return {
            "authored": decide(
                "authored",
                rows,
                truth=good.flagged,
                flagged=found.flagged,
                reached=found.reached,
                clusters=[""] * len(rows),
                slices=[""] * len(rows),
            )
        }

    label = IDS[good.reached.sum(axis=0).argmax()]
    other = judged(changed(bundle, DAMAGES[kind], tmp_path / "damaged", label=label), plain)
    failed = {d.measure for d in beyond_chance(compare(decisions(good), decisions(other), load_gates()))}
    assert {measure.format(label=label) for measure in NAMED[kind]} <= failed, sorted(failed)
    recalls = {measure for measure in failed if measure.endswith("/recall") and "/label=" in measure}
    if kind == "label dropped":
        assert recalls == {f"authored/label={label}/recall"}, "no other label is named"
    if kind == "thresholds shifted":
        assert not recalls, "lower thresholds lose nothing"
    if kind == "calibration removed":
        assert "authored/all/lawful_flagged" not in failed, "lower probabilities flag nothing more"
