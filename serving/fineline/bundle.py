"""The bundle: one folder that holds a model and all that its verdicts depend on; written whole, checked on loading."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fineline.calibration import Calibration
from fineline.config import build
from fineline.encoding import WindowSpec
from fineline.errors import BundleError, ConfigError
from fineline.files import sha256_of, write_text
from fineline.own_labels import own_label
from fineline.policy import Policy, load_policies
from fineline.taxonomy import Taxonomy, load_taxonomy
from fineline.text import NORMALISER_VERSION, View

SCHEMA = 1
META = "bundle.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
GOLDEN = "golden.jsonl"
CARD = "README.md"
HASHED = (MODEL, TOKENIZER, GOLDEN)
"""The card may be rendered anew after an evaluation without making another model of it, so it is not hashed."""

FP16 = "model.fp16.onnx"
"""The same weights for a GPU. A bundle may lack it; it is part of one, and used, only if ``files`` has its hash."""

DEFAULT_NAME = "fineline-1"


@dataclass(frozen=True, kw_only=True)
class BundleMeta:
    """Content of ``bundle.json``.

    Attributes:
        schema: Version of this layout.
        name: Model name.
        version: Model version.
        labels: Label ids in output order.
        taxonomy: Version of the taxonomy the model was trained on.
        normaliser: Version of the normaliser.
        view: View of the text the model reads.
        window: Window sizes in tokens.
        calibration: Per label.
        thresholds: Policy to label to the lowest flagged probability.
        quantisation: How the artefact stores words and matrices.
        golden_tolerance: Largest difference in logits allowed against ``golden.jsonl``.
        files: File name to sha256, of ``HASHED`` and, where the bundle has it, of ``FP16``.
        manifest: Recipe, sources with licences and row counts, backbone, environment of the training run.
        digest: sha256 of all the other entries, so that a changed threshold is noticed like a changed weight.
        own_labels: Labels that a team added or defined anew, each as ``Label.as_table`` states it.
    """

    schema: int
    name: str
    version: str
    labels: tuple[str, ...]
    taxonomy: str
    normaliser: str
    view: str
    window: WindowSpec
    calibration: dict[str, Calibration]
    thresholds: dict[str, dict[str, float]]
    quantisation: dict[str, str]
    golden_tolerance: float
    files: dict[str, str]
    manifest: dict[str, object]
    digest: str
    own_labels: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A verified bundle."""

    path: Path
    meta: BundleMeta

    @property
    def model_id(self) -> str:
        """``name@version``, as verdicts state it."""
        return f"{self.meta.name}@{self.meta.version}"

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The labels as this bundle means them: ours, with those of the team that trained it."""
        return load_taxonomy().extended(own_label(table, META) for table in self.meta.own_labels)

    @cached_property
    def policies(self) -> dict[str, Policy]:
        """The policies by name, with the actions that a team states for its labels."""
        return {name: policy.extended(self.taxonomy) for name, policy in load_policies().items()}

    def golden(self) -> list[dict[str, Any]]:
        """Rows of the golden file: ``text``, optional ``context``, ``lang``, ``logits``."""
        # Not splitlines: a text may hold U+2028, U+0085 and other marks that it would cut at.
        lines = (self.path / GOLDEN).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line]


def default_bundle_path() -> Path:
    """The bundle that ships with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "models", package.parent / "models"):
        if (folder / DEFAULT_NAME / META).is_file():
            return folder / DEFAULT_NAME
    raise BundleError(
        "bundle_missing", f"The default model {DEFAULT_NAME} is not installed; give the path of a bundle."
    )


def _read_meta(path: Path) -> tuple[BundleMeta, str]:
    """The entries, and the digest they have now."""
    file = path / META
    if not path.is_dir() or not file.is_file():
        raise BundleError("bundle_missing", f"{path}: no bundle here ({META} is missing); give the folder of a bundle.")
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
        schema = raw.get("schema") if isinstance(raw, dict) else None
        if schema != SCHEMA:
            raise BundleError(
                "bundle_schema", f"{file}: schema {schema}, this release reads {SCHEMA}; export it again."
            )
        return build(BundleMeta, raw, META), _digest(raw)
    except (json.JSONDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise BundleError("bundle_meta", f"{file}: not a readable {META}: {error}.") from None


def _digest(meta: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of all entries but the digest itself."""
    entries = {name: value for name, value in meta.items() if name != "digest"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _check(bundle: Bundle, digest: str) -> None:
    path, meta = bundle.path, bundle.meta
    try:
        taxonomy = bundle.taxonomy
    except ConfigError as error:
        raise BundleError("bundle_own_labels", f"{path}: own_labels: {error.message}") from None
    if unused := [label.id for label in taxonomy.own if label.id not in meta.labels]:
        raise BundleError("bundle_own_labels", f"{path}: own_labels: '{unused[0]}' is not an output; export it again.")
    if unknown := [label for label in meta.labels if label not in taxonomy.ids]:
        raise BundleError("bundle_labels", f"{path}: label '{unknown[0]}' is not in taxonomy {taxonomy.version}.")
    if len(set(meta.labels)) != len(meta.labels) or not meta.labels:
        raise BundleError("bundle_labels", f"{path}: the list of labels is empty or names one twice; export again.")
    if meta.taxonomy.split(".")[0] != taxonomy.version.split(".")[0]:
        raise BundleError("bundle_taxonomy", f"{path}: made for taxonomy {meta.taxonomy}, this is {taxonomy.version}.")
    if meta.normaliser != NORMALISER_VERSION or meta.view not in tuple(View):
        raise BundleError(
            "bundle_normaliser", f"{path}: made for normaliser {meta.normaliser}, not {NORMALISER_VERSION}."
        )
    if set(meta.calibration) != set(meta.labels):
        raise BundleError("bundle_calibration", f"{path}: calibration and labels differ; export the bundle again.")
    if any(entry.scale <= 0 for entry in meta.calibration.values()):
        raise BundleError(
            "bundle_calibration", f"{path}: a calibration scale is not positive; export the bundle again."
        )
    for policy in load_policies():
        if set(meta.thresholds.get(policy, {})) != set(meta.labels):
            raise BundleError("bundle_thresholds", f"{path}: no full thresholds for policy '{policy}'; export again.")
    for name in (*HASHED, *sorted(set(meta.files) & {FP16})):
        if not (path / name).is_file():
            raise BundleError("bundle_file_missing", f"{path}: {name} is missing; copy the whole folder again.")
        if sha256_of(path / name) != meta.files.get(name):
            raise BundleError(
                "bundle_hash_mismatch", f"{path}: {name} was changed or cut; copy the whole folder again."
            )
    if meta.digest != digest:
        raise BundleError("bundle_hash_mismatch", f"{path}: {META} was changed; copy the whole folder again.")


def load_bundle(path: str | Path | None = None) -> Bundle:
    """Read and verify a bundle.

    Args:
        path: Its folder; the default model when ``None``.

    Raises:
        BundleError: Anything is missing, altered, or made for another release; codes start with ``bundle_``.
    """
    folder = Path(path) if path is not None else default_bundle_path()
    meta, digest = _read_meta(folder)
    bundle = Bundle(path=folder, meta=meta)
    _check(bundle, digest)
    return bundle


def write_bundle(path: Path, files: Mapping[str, Path], card: str, meta: dict[str, Any]) -> Bundle:
    """Write a bundle to a temporary folder, verify it there, and rename it.

    Args:
        path: Folder to create or replace.
        files: ``model.onnx``, ``tokenizer.json``, ``golden.jsonl`` and, if there is one, ``model.fp16.onnx``.
        card: Text of its ``README.md``.
        meta: ``BundleMeta`` fields except ``schema``, ``files`` and ``digest``.

    Returns:
        The bundle at its final place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        names = (*HASHED, *([FP16] if FP16 in files else []))
        for name in names:
            shutil.copyfile(files[name], folder / name)
        write_text(folder / CARD, card)
        hashes = {name: sha256_of(folder / name) for name in names}
        entries = {"schema": SCHEMA, **meta, "files": hashes}
        entries["digest"] = _digest(entries)
        write_text(folder / META, json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
        load_bundle(folder)
        replaced = Path(temporary) / "replaced"
        if path.exists():
            path.rename(replaced)
        try:
            folder.rename(path)
        except BaseException:
            if replaced.exists():
                replaced.rename(path)
            raise
    return load_bundle(path)


def window_table(spec: WindowSpec) -> dict[str, int]:
    """The window sizes as ``bundle.json`` holds them."""
    return asdict(spec)
