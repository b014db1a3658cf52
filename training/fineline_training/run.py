"""A run: data, fit, export, calibrate, bundle. Each station leaves its files in the run folder and is not repeated.

A station is done when its marker names the inputs of the run that is asked for; killing a run anywhere and starting it
again continues from the last station, and inside the fit from the last checkpoint.
"""

import hashlib
import importlib.metadata
import json
import platform
import resource
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from tokenizers import Tokenizer

from fineline.bundle import Bundle, load_bundle, window_table, write_bundle
from fineline.calibration import calibrated
from fineline.encoding import Encoder, Window, WindowSpec
from fineline.engine import Engine
from fineline.errors import DataError
from fineline.files import sha256_of, write_text
from fineline.policy import DEFAULT_POLICY, POLICIES, load_policies
from fineline.taxonomy import TAXONOMY_FILE, load_taxonomy
from fineline.text import NORMALISER_VERSION, View
from fineline_training.arrays import label_arrays
from fineline_training.backbone import Backbone, load_backbone
from fineline_training.build import build_dataset
from fineline_training.calibrate import calibrate, threshold_table
from fineline_training.corpus.loader import CORPUS_DIR
from fineline_training.examples import encode_records
from fineline_training.export import export_fp32, export_int8
from fineline_training.fit import CHECKPOINT, Fit, load_trainable_state, predict, trainable_state
from fineline_training.golden import choose_golden
from fineline_training.mixture import Mixture
from fineline_training.model import SafetyModel
from fineline_training.parity import agreements, check_parity
from fineline_training.ranges import observe
from fineline_training.recipe import Recipe
from fineline_training.records import Record, read_rows, write_rows
from fineline_training.sources.registry import AUTHORED, REGISTRY_FILE

PARITY_ROWS_PER_LANG = 20
RANGE_ROWS = 2000
"""Texts that the scales of activations are read from."""
GOLDEN_TOLERANCE = 0.75
"""Across CPUs: int8 kernels differ with the instruction set, on the machine it was made on the difference is 0."""
_PACKAGES = ("torch", "transformers", "accelerate", "onnx", "onnxruntime", "tokenizers", "numpy", "scipy")


STATIONS = ("data", "fit", "export", "calibrate", "bundle")


def inputs_hash(recipe: Recipe, mirror: Path | None) -> str:
    """Digest of all that decides a run: the recipe, corpus, registry, taxonomy, policies and normaliser."""
    files = [*sorted(CORPUS_DIR.rglob("*.yaml")), *sorted(POLICIES.glob("*.toml")), REGISTRY_FILE, TAXONOMY_FILE]
    parts = [json.dumps(recipe.resolved(), sort_keys=True), NORMALISER_VERSION, str(mirror is not None)]
    return hashlib.sha256("\n".join([*parts, *map(sha256_of, files)]).encode()).hexdigest()


class Run:
    """One recipe in one folder.

    Args:
        recipe: What to do.
        folder: Where everything of the run is kept.
        mirror: Local copy of the public sources, or ``None``.
        console: Where progress is told.
        backbone: Loads the backbone; tests give a small one.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        mirror: Path | None = None,
        console: Console | None = None,
        backbone: Callable[[], Backbone] | None = None,
    ) -> None:
        self.recipe, self.folder, self.mirror = recipe, folder, mirror
        self.console = console or Console(stderr=True)
        self._load_backbone = backbone or (lambda: load_backbone(recipe.backbone, vocabulary=recipe.vocabulary))
        self.ids = load_taxonomy().ids
        self.window = WindowSpec(size=recipe.fit.window)
        self.inputs_hash = inputs_hash(recipe, mirror)

    def all(self) -> Bundle:
        """Run every station that is not done and return the bundle."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / "recipe.json", json.dumps(self.recipe.resolved(), indent=1) + "\n")
        for name in STATIONS:
            self._station(name, getattr(self, name))
        return load_bundle(self.folder / "bundle")

    def _marker(self, name: str) -> Path:
        return self.folder / f"{name}.done.json"

    def _station(self, name: str, station: Callable[[], float | None]) -> None:
        """Run a station unless it is done; what comes after a station that runs is done no longer."""
        marker = self._marker(name)
        if marker.is_file() and json.loads(marker.read_text())["inputs"] == self.inputs_hash:
            self.console.print(f"{name}: done before")
            return
        for later in STATIONS[STATIONS.index(name) :]:
            self._marker(later).unlink(missing_ok=True)
        began = time.monotonic()
        minutes = station() or (time.monotonic() - began) / 60
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        row = {"inputs": self.inputs_hash, "minutes": round(minutes, 2), "peak_memory_gib": round(peak, 2)}
        write_text(marker, json.dumps(row) + "\n")
        self.console.print(f"{name}: {minutes:.1f} min, peak memory so far {peak:.1f} GiB")

    def data(self) -> None:
        """Read the sources, pass the gates, write ``train`` and ``dev`` rows and the manifest."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)  # it belongs to other rows
        spec = self.recipe.data
        built = build_dataset(
            list(spec.sources),
            self.mirror,
            required=spec.required,
            unlawful_limit=spec.unlawful_limit,
            progress=True,
        )
        for split in ("train", "dev"):
            rows = [record for record in built.records if record.split == split]
            write_rows(self.folder / f"{split}.jsonl.gz", rows)
        manifest = json.dumps(built.manifest.to_dict(), ensure_ascii=False, indent=1)
        write_text(self.folder / "data.json", manifest + "\n")

    def _rows(self, split: str) -> list[Record]:
        rows = read_rows(self.folder / f"{split}.jsonl.gz")
        if rows.refused:
            raise DataError(
                "run_rows", f"{self.folder}/{split}.jsonl.gz is damaged: delete data.done.json and run again."
            )
        return list(rows.records)

    @cached_property
    def dev(self) -> list[Record]:
        """Development rows, at most ``dev_cap`` a public source, all of the authored ones."""
        taken: dict[str, int] = {}
        rows = []
        for row in self._rows("dev"):
            taken[row.source] = taken.get(row.source, 0) + 1
            if row.source == AUTHORED or taken[row.source] <= self.recipe.data.dev_cap:
                rows.append(row)
        return rows

    @cached_property
    def backbone(self) -> Backbone:
        """The pretrained encoder, loaded once."""
        return self._load_backbone()

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder with the run's window."""
        return Encoder(Tokenizer.from_str(self.backbone.tokenizer.to_str()), self.window)

    def _new_model(self) -> SafetyModel:
        torch.manual_seed(self.recipe.seed)
        spec = self.recipe.fit
        return SafetyModel(self.backbone.model, len(self.ids), spec.dropout, spec.encoder_dropout)

    def fit(self) -> float:
        """Train, from the last checkpoint if there is one, and write the trained parameters.

        Returns:
            Minutes of training, those before a kill included.
        """
        train = self._rows("train")
        authored = [row for row in self.dev if row.source == AUTHORED]
        fit = Fit(
            model=self._new_model(),
            encoder=self.encoder,
            label_ids=self.ids,
            mixture=Mixture(train, self.recipe.data, self.recipe.seed),
            spec=self.recipe.fit,
            seed=self.recipe.seed,
            folder=self.folder,
            dev=authored[:: max(1, len(authored) // self.recipe.data.dev_cap)],
        )
        if fit.resume():
            self.console.print(f"resuming at epoch {fit.position.epoch + 1}, step {fit.position.step}")
        torch.save(trainable_state(fit.run()), self.folder / "model.pt")
        return fit.seconds / 60

    @cached_property
    def model(self) -> SafetyModel:
        """The trained model."""
        model = self._new_model().cpu()
        load_trainable_state(model, torch.load(self.folder / "model.pt", weights_only=True))
        return model.eval()

    def export(self) -> None:
        """Write both artefacts and check them against torch on golden and development rows of every language."""
        fp32, int8 = self.folder / "fp32.onnx", self.folder / "model.onnx"
        export_fp32(self.model, fp32)
        table = self.backbone.word_table if self.recipe.fit.freeze_words else None
        seen = observe(self.model, self._typical_windows(), self.encoder.pad)
        stored = export_int8(fp32, int8, model=self.model, table=table, ranges=seen)
        rows = choose_golden(self.dev, PARITY_ROWS_PER_LANG)
        examples = encode_records(rows, self.encoder, self.ids)
        reference = predict(self.model, examples, pad=self.encoder.pad)
        outputs = [Engine(path, pad=self.encoder.pad).logits(examples.windows) for path in (fp32, int8)]
        engine = Engine(int8, pad=self.encoder.pad)
        alone = np.concatenate([engine.logits([window]) for window in examples.windows])
        report = check_parity(reference, outputs[0], outputs[1], [row.lang for row in rows], alone)
        write_text(self.folder / "parity.json", json.dumps({"matrices": stored} | report, indent=1) + "\n")

    def _typical_windows(self) -> list[Window]:
        """Windows of training texts, which set the artefact's scales; the choice depends on the texts alone."""
        rows = [row for row in self._rows("train") if row.source == AUTHORED]
        rows.sort(key=lambda row: hashlib.sha256(row.text.encode()).hexdigest())
        return encode_records(rows[:RANGE_ROWS], self.encoder, self.ids).windows

    def _served_logits(self, rows: list[Record], artefact: str = "model.onnx") -> NDArray[np.float32]:
        """Logits of an artefact over all windows, as serving computes them."""
        engine = Engine(self.folder / artefact, pad=self.encoder.pad)
        encoded = self.encoder.encode([row.text for row in rows], [row.context for row in rows])
        flat = engine.logits([window for windows in encoded for window in windows])
        counts = np.cumsum([0, *(len(windows) for windows in encoded)])
        return np.stack([flat[low:high].max(axis=0) for low, high in pairwise(counts)])

    def calibrate(self) -> None:
        """Fit calibration and thresholds on development rows, with the artefact that is served."""
        logits = self._served_logits(self.dev)
        labels, _ = label_arrays(self.dev, self.ids)
        fitted = calibrate(logits, labels, self.ids)
        probabilities = calibrated(logits, [fitted[label] for label in self.ids])
        thresholds = threshold_table(probabilities, labels, self.ids, load_policies())
        authored = [row for row in self.dev if row.source == AUTHORED]
        kept = [index for index, row in enumerate(self.dev) if row.source == AUTHORED]
        full = calibrated(self._served_logits(authored, "fp32.onnx"), [fitted[label] for label in self.ids])
        limits = np.array([thresholds[DEFAULT_POLICY][label] for label in self.ids])
        same = agreements(full, probabilities[kept], limits, [row.lang for row in authored])
        report = {
            "calibration": {k: asdict(v) for k, v in fitted.items()},
            "thresholds": thresholds,
            "decisions": [asdict(row) for row in same],
        }
        write_text(self.folder / "calibration.json", json.dumps(report, indent=1) + "\n")

    def bundle(self) -> None:
        """Write and verify the bundle, golden file included."""
        report = json.loads((self.folder / "calibration.json").read_text())
        golden = choose_golden([row for row in self.dev if row.source == AUTHORED], 3)
        logits = self._served_logits(golden)
        lines = [
            json.dumps(
                {
                    "text": row.text,
                    **({"context": row.context} if row.context else {}),
                    "lang": row.lang,
                    "logits": [round(float(value), 4) for value in values],
                },
                ensure_ascii=False,
            )
            for row, values in zip(golden, logits, strict=True)
        ]
        write_text(self.folder / "golden.jsonl", "\n".join(lines) + "\n")
        self.encoder.tokenizer.save(str(self.folder / "tokenizer.json"), pretty=False)
        meta = self._meta(report)
        files = {name: self.folder / name for name in ("model.onnx", "tokenizer.json", "golden.jsonl")}
        write_bundle(self.folder / "bundle", files, self._stub_card(), meta)

    def _stub_card(self) -> str:
        title = f"# {self.recipe.name} {self.recipe.version}"
        return f"{title}\n\nNot evaluated yet: run `fineline eval` and `fineline card`.\n"

    def _meta(self, calibrated_run: dict[str, Any]) -> dict[str, Any]:
        data, parity = (json.loads((self.folder / name).read_text()) for name in ("data.json", "parity.json"))
        stations = {p.name.split(".")[0]: json.loads(p.read_text()) for p in sorted(self.folder.glob("*.done.json"))}
        frozen = self.recipe.fit.freeze_words and self.backbone.word_table is not None
        return {
            "name": self.recipe.name,
            "version": self.recipe.version,
            "labels": list(self.ids),
            "taxonomy": load_taxonomy().version,
            "normaliser": NORMALISER_VERSION,
            "view": str(View.SIMPLIFIED),
            "window": window_table(self.window),
            "calibration": calibrated_run["calibration"],
            "thresholds": calibrated_run["thresholds"],
            "quantisation": {
                "matrices": parity.pop("matrices"),
                "words": "4-bit blocks of 32, " + ("as the backbone's source has them" if frozen else "rounded"),
            },
            "golden_tolerance": GOLDEN_TOLERANCE,
            "manifest": {
                "recipe": self.recipe.resolved(),
                "backbone": self.backbone.provenance,
                "data": data,
                "stations": {name: {k: v for k, v in row.items() if k != "inputs"} for name, row in stations.items()},
                "environment": {
                    "python": platform.python_version(),
                    "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
                    **{name: importlib.metadata.version(name) for name in _PACKAGES},
                },
                "parity": parity | {"decisions": calibrated_run["decisions"]},
            },
        }
