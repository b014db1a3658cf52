"""The bundle: what is loaded is what was written, every fault has its code, and no half bundle is ever left."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fineline import BundleError, Classifier
from fineline import bundle as module
from fineline.bundle import CARD, HASHED, META, default_bundle_path, load_bundle, write_bundle
from fineline.files import replacing, sha256_of
from fineline.policy import load_policies
from fineline.taxonomy import load_taxonomy

IDS = list(load_taxonomy().ids)


@pytest.fixture
def copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))


def change(folder: Path, edit: Callable[[dict[str, Any]], Any], *, sign: bool = True) -> None:
    """Edit the description; signed again, so that what the edit itself breaks is found, not the digest."""
    file = folder / META
    meta = json.loads(file.read_text(encoding="utf-8"))
    edit(meta)
    file.write_text(json.dumps({**meta, "digest": module._digest(meta)} if sign else meta), encoding="utf-8")


def fault(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder)
    assert str(folder) in caught.value.message or META in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.code


def parts(folder: Path) -> tuple[dict[str, Path], dict[str, Any]]:
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    return {name: folder / name for name in HASHED}, {
        k: v for k, v in meta.items() if k not in ("schema", "files", "digest")
    }


def test_what_was_written_is_loaded(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    assert bundle.model_id == "tiny@0.0.1"
    assert list(bundle.meta.labels) == IDS
    assert bundle.meta.calibration["violence"].scale == pytest.approx(0.8 + 0.02 * IDS.index("violence"))
    assert bundle.meta.thresholds["minors"]["insult"] == 0.3
    assert bundle.meta.window.size == 64
    assert bundle.meta.files == {name: sha256_of(tiny_bundle / name) for name in HASHED}
    assert {path.name for path in tiny_bundle.iterdir()} == {*HASHED, META, CARD}


def test_golden_rows_keep_line_separators_inside_a_text(tiny_bundle):
    texts = [row["text"] for row in load_bundle(tiny_bundle).golden()]
    assert len(texts) == 6
    assert any("\u2028" in text and "\u0085" in text for text in texts)


@pytest.mark.parametrize("name", HASHED)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_changed_byte_is_found(copy, name, place):
    file = copy / name
    raw = bytearray(file.read_bytes())
    at = {"first": 0, "middle": len(raw) // 2, "last": len(raw) - 1}[place]
    raw[at] ^= 1
    file.write_bytes(raw)
    assert fault(copy) == "bundle_hash_mismatch"


@pytest.mark.parametrize("name", HASHED)
@pytest.mark.parametrize("kept", [0, 100])
def test_a_cut_file_is_found(copy, name, kept):
    (copy / name).write_bytes((copy / name).read_bytes()[:kept])
    assert fault(copy) == "bundle_hash_mismatch"


@pytest.mark.parametrize("name", HASHED)
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name) as caught:
        load_bundle(copy)
    assert caught.value.code == "bundle_file_missing"


def test_the_card_may_be_rendered_anew(copy):
    (copy / CARD).write_text("# evaluated\n")
    assert load_bundle(copy).model_id == "tiny@0.0.1"


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (lambda meta: meta.update(colour="red"), "bundle_meta"),
    "missing key": (lambda meta: meta.pop("window"), "bundle_meta"),
    "unknown window key": (lambda meta: meta["window"].update(stride=3), "bundle_meta"),
    "window without room": (lambda meta: meta["window"].update(size=12), "bundle_meta"),
    "wrong type": (lambda meta: meta.update(golden_tolerance="small"), "bundle_meta"),
    "labels as text": (lambda meta: meta.update(labels="insult"), "bundle_meta"),
    "calibration without shift": (lambda meta: meta["calibration"]["insult"].pop("shift"), "bundle_meta"),
    "newer schema": (lambda meta: meta.update(schema=2), "bundle_schema"),
    "no schema": (lambda meta: meta.pop("schema"), "bundle_schema"),
    "unknown label": (lambda meta: meta["labels"].__setitem__(0, "politics"), "bundle_labels"),
    "label twice": (lambda meta: meta["labels"].__setitem__(0, meta["labels"][1]), "bundle_labels"),
    "no labels": (lambda meta: meta.update(labels=[], calibration={}), "bundle_labels"),
    "newer taxonomy": (lambda meta: meta.update(taxonomy="9.0.0"), "bundle_taxonomy"),
    "other normaliser": (lambda meta: meta.update(normaliser="0"), "bundle_normaliser"),
    "unknown view": (lambda meta: meta.update(view="upside_down"), "bundle_normaliser"),
    "label not calibrated": (lambda meta: meta["calibration"].pop("insult"), "bundle_calibration"),
    "calibration of a stranger": (
        lambda meta: meta["calibration"].update(politics={"scale": 1.0, "shift": 0.0}),
        "bundle_calibration",
    ),
    "calibration turned round": (lambda meta: meta["calibration"]["insult"].update(scale=-1.0), "bundle_calibration"),
    "label without threshold": (lambda meta: meta["thresholds"]["minors"].pop("insult"), "bundle_thresholds"),
    "policy without thresholds": (lambda meta: meta["thresholds"].pop("international"), "bundle_thresholds"),
    "hash left out": (lambda meta: meta["files"].pop("model.onnx"), "bundle_hash_mismatch"),
}


@pytest.mark.parametrize(("edit", "code"), FAULTS.values(), ids=FAULTS)
def test_a_fault_in_the_description_has_its_code(copy, edit, code):
    change(copy, edit)
    assert fault(copy) == code


@pytest.mark.parametrize(
    "edit",
    [
        lambda meta: meta["thresholds"]["minors"].update(insult=0.31),
        lambda meta: meta["calibration"]["insult"].update(shift=5.0),
        lambda meta: meta.update(labels=[*meta["labels"][1:], meta["labels"][0]]),
        lambda meta: meta.update(golden_tolerance=99.0),
        lambda meta: meta["manifest"].update(recipe={}),
        lambda meta: meta.update(digest="0" * 64),
    ],
)
def test_a_description_changed_by_hand_is_found(copy, edit):
    change(copy, edit, sign=False)
    assert fault(copy) == "bundle_hash_mismatch"


def test_a_description_in_another_layout_is_the_same(copy):
    file = copy / META
    meta = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(dict(reversed(meta.items())), indent=4), encoding="utf-8")
    assert load_bundle(copy).model_id == "tiny@0.0.1"


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'"bundle"'])
def test_a_description_that_is_no_object_is_refused(copy, raw):
    (copy / META).write_bytes(raw)
    assert fault(copy) in ("bundle_meta", "bundle_schema")


def test_a_minor_version_of_the_taxonomy_and_facts_in_the_manifest_are_no_fault(copy):
    change(copy, lambda meta: meta.update(taxonomy=f"{meta['taxonomy'].split('.')[0]}.99.0"))
    change(copy, lambda meta: meta["manifest"].update(resumed=True, seed=3, sources=[{"id": "x"}]))
    assert load_bundle(copy).meta.manifest["resumed"] is True


@pytest.mark.parametrize(
    "make", [lambda folder: None, lambda folder: folder.mkdir(), lambda folder: folder.write_text("x")]
)
def test_a_place_without_a_bundle_is_named(tmp_path, make):
    make(tmp_path / "empty")
    assert fault(tmp_path / "empty") == "bundle_missing"


def test_fewer_labels_than_outputs_are_refused_before_anything_is_judged(copy):
    def drop(meta: dict[str, Any]) -> None:
        gone = meta["labels"].pop()
        meta["calibration"].pop(gone)
        for table in meta["thresholds"].values():
            table.pop(gone)

    change(copy, drop)
    with pytest.raises(BundleError) as caught:
        Classifier.load(copy)
    assert caught.value.code == "bundle_labels"


def test_a_file_with_the_right_hash_that_is_no_model_is_refused(copy):
    (copy / "model.onnx").write_bytes(b"not a model")
    change(copy, lambda meta: meta["files"].update({"model.onnx": sha256_of(copy / "model.onnx")}))
    with pytest.raises(BundleError) as caught:
        Classifier.load(copy)
    assert caught.value.code == "bundle_model"


def test_the_default_model_is_found_or_missed_by_name():
    try:
        assert (default_bundle_path() / META).is_file()
    except BundleError as error:
        assert error.code == "bundle_missing"
        assert module.DEFAULT_NAME in error.message


def test_a_default_model_beside_the_package_is_found(tiny_bundle, tmp_path, monkeypatch):
    package = tmp_path / "serving" / "fineline"
    package.mkdir(parents=True)
    monkeypatch.setattr(module, "__file__", str(package / "bundle.py"))
    with pytest.raises(BundleError):
        default_bundle_path()
    beside = shutil.copytree(tiny_bundle, tmp_path / "serving" / "models" / module.DEFAULT_NAME)
    assert default_bundle_path() == beside
    inside = shutil.copytree(tiny_bundle, package / "models" / module.DEFAULT_NAME)
    assert default_bundle_path() == inside


# --- writing


@pytest.mark.parametrize("stage", ["copyfile", "card", "description", "hash", "check"])
@pytest.mark.parametrize("present", [False, True], ids=["new", "replacing"])
def test_a_write_that_dies_leaves_the_old_bundle_or_none(tiny_bundle, tmp_path, monkeypatch, stage, present):
    files, meta = parts(tiny_bundle)
    target = tmp_path / "out" / "mine"
    if present:
        write_bundle(target, files, "# old\n", meta)

    calls = {"copyfile": 0, "write_text": 0, "sha256_of": 0}
    deaths = {
        "copyfile": ("copyfile", 2),
        "card": ("write_text", 1),
        "description": ("write_text", 2),
        "hash": ("sha256_of", 2),
    }

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls[name] += 1
            if deaths.get(stage) == (name, calls[name]):
                raise KeyboardInterrupt
            return real(*args)

        return call

    monkeypatch.setattr(module.shutil, "copyfile", dying("copyfile", shutil.copyfile))
    monkeypatch.setattr(module, "write_text", dying("write_text", module.write_text))
    monkeypatch.setattr(module, "sha256_of", dying("sha256_of", sha256_of))
    wrong = {**meta, "version": "0.0.2", **({"calibration": {}} if stage == "check" else {})}
    with pytest.raises((KeyboardInterrupt, BundleError)):
        write_bundle(target, files, "# new\n", wrong)
    monkeypatch.undo()
    assert [path.name for path in target.parent.iterdir()] == (["mine"] if present else [])
    if present:
        assert load_bundle(target).meta.version == "0.0.1"
        assert (target / CARD).read_text() == "# old\n"


def test_a_rename_that_fails_brings_the_old_bundle_back(tiny_bundle, tmp_path, monkeypatch):
    files, meta = parts(tiny_bundle)
    target = tmp_path / "mine"
    write_bundle(target, files, "# old\n", meta)
    real = Path.rename

    def rename(self: Path, to: Path) -> Path:
        if to == target and self.name == target.name:
            raise OSError(28, "No space left on device")
        return real(self, to)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space"):
        write_bundle(target, files, "# new\n", {**meta, "version": "0.0.2"})
    monkeypatch.undo()
    assert load_bundle(target).meta.version == "0.0.1"


def test_an_existing_bundle_is_replaced_whole(tiny_bundle, tmp_path):
    files, meta = parts(tiny_bundle)
    target = tmp_path / "mine"
    write_bundle(target, files, "# old\n", meta)
    (target / "stray.txt").write_text("x")
    written = write_bundle(target, files, "# new\n", {**meta, "version": "0.0.2"})
    assert written.path == target
    assert written.model_id == "tiny@0.0.2"
    assert {path.name for path in target.iterdir()} == {*HASHED, META, CARD}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_bundle_written_from_its_own_files_survives(tiny_bundle, tmp_path):
    target = Path(shutil.copytree(tiny_bundle, tmp_path / "mine"))
    files, meta = parts(target)
    assert write_bundle(target, files, "# again\n", meta).meta == load_bundle(tiny_bundle).meta


def test_every_shipped_policy_needs_thresholds(tiny_bundle):
    assert set(load_bundle(tiny_bundle).meta.thresholds) == set(load_policies())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    file = tmp_path / "deep" / "file.txt"
    with replacing(file) as stream:
        stream.write(b"old")

    def die() -> None:
        with replacing(file) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert file.read_bytes() == b"old"
    assert [path.name for path in file.parent.iterdir()] == ["file.txt"]
