"""A model for GPUs in the bundle of a finished run."""

import json

from fineline.bundle import CARD, FP16, HASHED, META, Bundle, load_bundle, write_bundle
from fineline.classifier import Classifier
from fineline.engine import Engine
from fineline_training.bundling import Bundling
from fineline_training.export import export_fp16
from fineline_training.parity import check_fp16


def add_fp16(run: Bundling) -> Bundle:
    """Write the fp16 model, check it on the CPU against torch and the golden file, and put it into the bundle.

    A CPU computes parts of an fp16 graph in fp32, so this finds wrong graphs, weights and ranges; how a GPU rounds is
    checked where there is one, by the golden file, whenever the bundle is loaded there.

    Args:
        run: A finished run.

    Returns:
        The bundle; its other files are the same, its manifest has the figures.

    Raises:
        DataError: The logits differ too much from torch.
        BundleError: They differ too much from the golden file.
    """
    bundle, path = load_bundle(run.folder / "bundle"), run.folder / FP16
    export_fp16(run.folder / "fp32.onnx", path, run.words)
    engine = Engine(path, pad=run.encoder.pad)
    rows, examples, reference = run.reference()
    parity = check_fp16(reference, engine.logits(examples.windows), [row.lang for row in rows])
    classifier = Classifier(bundle)
    classifier.engine = engine
    parity["fp16_golden"] = round(classifier.self_check(), 4)
    meta = json.loads((bundle.path / META).read_text(encoding="utf-8"))
    meta["manifest"]["parity"] |= parity
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    files = {name: bundle.path / name for name in HASHED} | {FP16: path}
    return write_bundle(bundle.path, files, (bundle.path / CARD).read_text(encoding="utf-8"), entries)
