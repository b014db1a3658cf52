"""Devices: the fp16 model on a GPU, and the CPU with one clear warning where that cannot be.

No GPU is here: what ONNX Runtime is asked for is checked on a stand-in of its session.
"""

import json
import logging
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from fineline import BundleError, Classifier, ConfigError
from fineline import engine as module
from fineline.bundle import FP16, HASHED, META, MODEL, load_bundle, write_bundle
from fineline.devices import open_engine

TEXTS = ["tell anyone", "", "他说要打断你的手", "help " * 90]


@pytest.fixture(scope="session")
def fp16_bundle(tiny, tmp_path_factory):
    """The tiny bundle with a model for GPUs; never write into it."""
    from fineline_training.export import export_fp16

    folder = tmp_path_factory.mktemp("fp16")
    export_fp16(tiny.fp32, folder / FP16, None)
    meta = json.loads((tiny.bundle / META).read_text(encoding="utf-8"))
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    files = {name: tiny.bundle / name for name in HASHED} | {FP16: folder / FP16}
    return write_bundle(folder / "bundle", files, "# tiny\n", entries)


@pytest.fixture
def cuda(monkeypatch):
    """Make ONNX Runtime look as if it had CUDA; gives the sessions that are made."""
    made = []

    class Session:
        def __init__(self, path, options, **keywords):
            made.append(SimpleNamespace(path=path, options=options, **keywords))

        def get_providers(self):
            return made[-1].providers if missing is None else missing

        def get_outputs(self):
            return [SimpleNamespace(shape=["batch", 21])]

        def run(self, outputs, inputs):
            made[-1].shapes = [*getattr(made[-1], "shapes", []), inputs["input_ids"].shape]
            return [np.zeros((len(inputs["input_ids"]), 21), dtype=np.float32)]

    missing = None

    def without(providers):
        nonlocal missing
        missing = providers

    monkeypatch.setattr(
        module.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(module.ort, "InferenceSession", Session)
    return SimpleNamespace(made=made, without=without)


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_with_cuda_the_fp16_model_is_run_there_in_large_batches(fp16_bundle, cuda, caplog):
    for device in ("cuda", "auto"):
        classifier = Classifier(fp16_bundle, device=device)
        assert classifier.engine.device == "cuda"
        session = cuda.made[-1]
        assert session.path == str(fp16_bundle.path / FP16)
        assert session.providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]
        assert session.enable_fallback == 0  # ONNX Runtime would change the device by itself, and print about it
        classifier.classify(["word"] * 500)
        assert len(session.shapes) == 1
    assert not warnings_in(caplog)


@pytest.mark.parametrize("fault", ["no model for it", "no provider", "no driver", "a driver that fails"])
def test_where_cuda_cannot_be_used_the_cpu_is_and_one_warning_says_why(
    tiny_bundle, fp16_bundle, classifier, monkeypatch, caplog, fault
):
    bundle = load_bundle(tiny_bundle) if fault == "no model for it" else fp16_bundle
    real = module.ort.InferenceSession

    def session(path, options, *, providers, **keywords):
        if fault == "a driver that fails" and len(providers) > 1:
            raise RuntimeError("CUDA failure 35: user text")
        return real(path, options, providers=["CPUExecutionProvider"], **keywords)

    if fault.endswith(("driver", "fails")):
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(module.ort, "get_available_providers", lambda: providers)
        monkeypatch.setattr(module.ort, "InferenceSession", session)
    found = Classifier(bundle, device="cuda", threads=1)
    [warning] = warnings_in(caplog)
    assert warning.startswith("the CPU is used: ")
    assert (FP16 in warning) == (fault == "no model for it")
    assert "user text" not in warning
    assert found.engine.device == "cpu"
    assert [v.scores for v in found.classify(TEXTS)] == [v.scores for v in classifier.classify(TEXTS)]


def test_auto_takes_the_cpu_without_a_warning(fp16_bundle, tiny_bundle, caplog):
    caplog.set_level(logging.INFO)
    for bundle in (fp16_bundle, load_bundle(tiny_bundle)):
        assert Classifier(bundle, device="auto", threads=1).engine.device == "cpu"
    assert not warnings_in(caplog)
    assert len(caplog.records) == 2


def test_an_unknown_device_is_refused_by_name(tiny_bundle):
    with pytest.raises(ConfigError, match="tpu") as caught:
        Classifier.load(tiny_bundle, device="tpu")
    assert caught.value.code == "device_unknown"


def test_a_model_that_cannot_be_loaded_is_no_matter_of_the_device(fp16_bundle, tmp_path):
    shutil.copytree(fp16_bundle.path, tmp_path / "copy")
    (tmp_path / "copy" / MODEL).write_bytes(b"not a model")
    broken = SimpleNamespace(path=tmp_path / "copy", meta=fp16_bundle.meta)
    with pytest.raises(BundleError) as caught:
        open_engine(broken, pad=1, device="cuda")
    assert caught.value.code == "bundle_model"


def test_the_fp16_model_gives_the_same_verdicts(fp16_bundle, classifier_fp32):
    """On the CPU, which computes parts of the graph in fp32."""
    classifier = Classifier(fp16_bundle, threads=1)
    classifier.engine = module.Engine(fp16_bundle.path / FP16, pad=classifier.encoder.pad, threads=1)
    np.testing.assert_allclose(classifier.logits(TEXTS), classifier_fp32.logits(TEXTS), atol=0.05, rtol=0)
    half = [verdict.flagged for verdict in classifier.classify(TEXTS)]
    assert half == [verdict.flagged for verdict in classifier_fp32.classify(TEXTS)]


def test_the_model_for_gpus_is_part_of_the_bundle(fp16_bundle, tmp_path):
    assert set(fp16_bundle.meta.files) == {*HASHED, FP16}
    for harm, code in (
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "bundle_hash_mismatch"),
        (lambda file: file.unlink(), "bundle_file_missing"),
    ):
        copy = tmp_path / code
        shutil.copytree(fp16_bundle.path, copy)
        harm(copy / FP16)
        with pytest.raises(BundleError, match=FP16) as caught:
            load_bundle(copy)
        assert caught.value.code == code


def test_a_model_for_gpus_that_nobody_signed_is_not_used(tiny_bundle, fp16_bundle, tmp_path, cuda, caplog):
    shutil.copytree(tiny_bundle, tmp_path / "copy")
    shutil.copyfile(fp16_bundle.path / FP16, tmp_path / "copy" / FP16)
    assert Classifier.load(tmp_path / "copy", device="cuda").engine.device == "cpu"
    assert len(warnings_in(caplog)) == 1
    assert [session.path for session in cuda.made] == [str(tmp_path / "copy" / MODEL)]


def test_sessions_report_to_nobody_and_keep_no_plans_of_memory(tiny, tiny_encoder, monkeypatch):
    told, given = [], []
    real = module.ort.InferenceSession

    def session(path, options, **keywords):
        given.append((len(told), options))
        return real(path, options, **keywords)

    monkeypatch.setattr(module.ort, "disable_telemetry_events", lambda: told.append(1))
    monkeypatch.setattr(module.ort, "InferenceSession", session)
    module.Engine(tiny.int8, pad=tiny_encoder.pad, threads=3)
    [(before, options)] = given
    assert before == 1
    assert options.intra_op_num_threads == 3
    assert not options.enable_mem_pattern
