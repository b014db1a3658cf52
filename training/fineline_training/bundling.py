"""From a trained model to a bundle: the stations export, calibrate and bundle, which every kind of run ends with."""

import hashlib
import importlib.metadata
import json
import platform
from abc import ABC, abstractmethod
from dataclasses import asdict
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from fineline.bundle import window_table, write_bundle
from fineline.calibration import Calibration, calibrated
from fineline.encoding import Encoder, Window, WindowSpec
from fineline.engine import Engine
from fineline.errors import DataError
from fineline.files import replacing, write_text
from fineline.policy import DEFAULT_POLICY, load_policies
from fineline.taxonomy import Taxonomy, load_taxonomy
from fineline.text import NORMALISER_VERSION
from fineline_training.arrays import label_arrays
from fineline_training.backbone import WordTable
from fineline_training.calibrate import calibrate, threshold_table
from fineline_training.examples import Examples, encode_records, first_windows
from fineline_training.export import export_fp32, export_int8
from fineline_training.fit import Fit
from fineline_training.golden import choose_golden
from fineline_training.model import SafetyModel
from fineline_training.optimise import trainable_state
from fineline_training.parity import agreements, check_parity
from fineline_training.predict import predict
from fineline_training.ranges import observe
from fineline_training.recipe import Recipe
from fineline_training.records import Record, read_rows
from fineline_training.sources.registry import AUTHORED
from fineline_training.stations import Stations

WEIGHTS = "model.pt"
PARITY_ROWS_PER_LANG = 100
"""Of 20, the mean difference in a language moved by half of itself from one choice of rows to the next."""
RANGE_ROWS = 2000
"""Texts that the scales of activations are read from."""
GOLDEN_TOLERANCE = 0.75
"""Across CPUs: int8 kernels differ with the instruction set, on the machine it was made on the difference is 0."""
_PACKAGES = ("torch", "transformers", "accelerate", "onnx", "onnxruntime", "tokenizers", "numpy", "scipy")


class Bundling(Stations, ABC):
    """The common end of runs. A kind of run adds the stations before it, and says what they made.

    Args:
        names: All stations in order.
        recipe: What to do.
        folder: Where everything of the run is kept: ``train`` and ``dev`` rows, ``data.json`` of the station data.
        taxonomy: Labels in output order, a team's own among them.
        window: Sizes of a window.
        inputs_hash: See ``Stations``.
        console: Where progress is told.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        recipe: Recipe,
        folder: Path,
        *,
        taxonomy: Taxonomy,
        window: WindowSpec,
        inputs_hash: str,
        console: Console | None,
    ) -> None:
        super().__init__(names, folder, inputs_hash, console)
        self.recipe, self.taxonomy, self.window = recipe, taxonomy, window
        self.ids = taxonomy.ids

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """Encoder with the run's window."""

    @property
    @abstractmethod
    def model(self) -> SafetyModel:
        """The trained model, on the CPU."""

    @property
    @abstractmethod
    def words(self) -> WordTable | None:
        """The exact 4-bit words where they stayed frozen, ``None`` where they were trained."""

    @property
    @abstractmethod
    def origin(self) -> dict[str, str]:
        """Name and licence of the pretrained encoder."""

    def more_manifest(self) -> dict[str, Any]:
        """Entries of the manifest that only this kind of run has."""
        return {}

    def rows(self, split: str) -> list[Record]:
        """Rows that the station data wrote.

        Raises:
            DataError: The file is damaged.
        """
        rows = read_rows(self.folder / f"{split}.jsonl.gz", ids=self.ids)
        if rows.refused:
            raise DataError(
                "run_rows", f"{self.folder}/{split}.jsonl.gz is damaged: delete data.done.json and run again."
            )
        return list(rows.records)

    @cached_property
    def dev(self) -> list[Record]:
        """Development rows, at most ``dev_cap`` a public source, all of the others."""
        taken: dict[str, int] = {}
        rows = []
        for row in self.rows("dev"):
            taken[row.source] = taken.get(row.source, 0) + 1
            if row.source not in self.recipe.data.public or taken[row.source] <= self.recipe.data.dev_cap:
                rows.append(row)
        return rows

    def train(self, fit: Fit) -> float:
        """Train, from the last checkpoint if there is one, and write the trained parameters.

        Returns:
            Minutes of training and of the checks in it, those before a kill included.
        """
        if fit.resume():
            self.tell(f"resuming at epoch {fit.position.epoch + 1}, step {fit.position.step}")
        state = trainable_state(fit.run())
        if self.processes.is_main_process:
            with replacing(self.folder / WEIGHTS) as file:
                torch.save(state, file)
        return fit.seconds / 60

    def trained(self) -> dict[str, Tensor]:
        """The parameters that ``train`` wrote, by name."""
        state: dict[str, Tensor] = torch.load(self.folder / WEIGHTS, weights_only=True)
        return state

    def export(self) -> None:
        """Write both artefacts and check them against torch on golden and development rows of every language."""
        fp32, int8 = self.folder / "fp32.onnx", self.folder / "model.onnx"
        export_fp32(self.model, fp32)
        seen = observe(self.model, self.typical_windows(), self.encoder.pad)
        stored = export_int8(fp32, int8, model=self.model, table=self.words, ranges=seen)
        rows, examples, reference = self.reference()
        outputs = [Engine(path, pad=self.encoder.pad).logits(examples.windows) for path in (fp32, int8)]
        engine = Engine(int8, pad=self.encoder.pad)
        alone = np.concatenate([engine.logits([window]) for window in examples.windows])
        report = check_parity(reference, outputs[0], outputs[1], [row.lang for row in rows], alone)
        write_text(self.folder / "parity.json", json.dumps({"matrices": stored} | report, indent=1) + "\n")

    def reference(self) -> tuple[list[Record], Examples, NDArray[np.float32]]:
        """Rows of every language, and what the trained model computes for them."""
        rows = choose_golden(self.dev, PARITY_ROWS_PER_LANG)
        examples = encode_records(rows, self.encoder, self.ids)
        return rows, examples, predict(self.model, examples, pad=self.encoder.pad)

    def typical_windows(self) -> list[Window]:
        """Windows of training texts, which set the artefact's scales; the choice depends on the texts alone."""
        rows = [row for row in self.rows("train") if row.source not in self.recipe.data.public]
        rows.sort(key=lambda row: hashlib.sha256(row.text.encode()).hexdigest())
        return first_windows(rows[:RANGE_ROWS], self.encoder)

    def served(self, rows: list[Record], artefact: str = "model.onnx") -> NDArray[np.float32]:
        """Logits of one of the artefacts over all windows of each row, as serving computes them."""
        engine = Engine(self.folder / artefact, pad=self.encoder.pad)
        encoded = self.encoder.encode([row.text for row in rows], [row.context for row in rows])
        flat = engine.logits([window for windows in encoded for window in windows])
        counts = np.cumsum([0, *(len(windows) for windows in encoded)])
        return np.stack([flat[low:high].max(axis=0) for low, high in pairwise(counts)])

    def calibrate(self) -> None:
        """Fit calibration and thresholds on development rows, with the artefact that is served."""
        scales, limits = self.inherited()
        labels, _ = label_arrays(self.dev, self.ids)
        authored = [index for index, row in enumerate(self.dev) if row.source == AUTHORED]
        compared = authored[:: self.recipe.data.fp32_every]
        # The others tell nothing of what is fitted: beside inherited thresholds a label's is chosen on its own rows.
        known = labels >= 0
        asked = np.array(known[:, [label not in scales for label in self.ids]].any(axis=1), dtype=np.bool_)
        asked[compared] = True
        rows, labels = [row for row, wanted in zip(self.dev, asked, strict=True) if wanted], labels[asked]
        logits = self.served(rows)
        fitted = calibrate(logits, labels, self.ids) | scales
        probabilities = calibrated(logits, [fitted[label] for label in self.ids])
        own = [label for label in self.ids if label not in scales and (scales or label not in load_taxonomy().ids)]
        # Lawful texts that were written at what a model got wrong do not count to the share that may be flagged.
        counted = np.array([not row.meta.get("aimed") for row in rows], dtype=np.bool_)
        thresholds = threshold_table(probabilities, labels, self.ids, load_policies(), own=own, counted=counted)
        thresholds = {policy: table | limits.get(policy, {}) for policy, table in thresholds.items()}
        kept = np.searchsorted(np.flatnonzero(asked), compared)
        full = calibrated(
            self.served([self.dev[index] for index in compared], "fp32.onnx"), [fitted[label] for label in self.ids]
        )
        chosen = np.array([thresholds[DEFAULT_POLICY][label] for label in self.ids])
        # Of our labels: with a label more, any bundle would agree on fewer texts than the one it is held against.
        ours = [column for column, label in enumerate(self.ids) if label in load_taxonomy().ids]
        langs = [self.dev[index].lang for index in compared]
        same = agreements(full[:, ours], probabilities[kept][:, ours], chosen[ours], langs)
        report = {
            "calibration": {k: asdict(v) for k, v in fitted.items()},
            "thresholds": thresholds,
            "decisions": [asdict(row) for row in same],
        }
        write_text(self.folder / "calibration.json", json.dumps(report, indent=1) + "\n")

    def inherited(self) -> tuple[dict[str, Calibration], dict[str, dict[str, float]]]:
        """Calibration, and thresholds by policy, of labels that keep what an earlier bundle has."""
        return {}, {}

    def bundle(self) -> None:
        """Write and verify the bundle, golden file included."""
        report = json.loads((self.folder / "calibration.json").read_text())
        golden = choose_golden([row for row in self.dev if row.source == AUTHORED], 3)
        logits = self.served(golden)
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
        files = {name: self.folder / name for name in ("model.onnx", "tokenizer.json", "golden.jsonl")}
        write_bundle(self.folder / "bundle", files, self._stub_card(), self._meta(report))

    def _stub_card(self) -> str:
        title = f"# {self.recipe.name} {self.recipe.version}"
        return f"{title}\n\nNot evaluated yet: run `fineline eval` and `fineline card`.\n"

    def _meta(self, calibrated_run: dict[str, Any]) -> dict[str, Any]:
        data, parity = (json.loads((self.folder / name).read_text()) for name in ("data.json", "parity.json"))
        return {
            "name": self.recipe.name,
            "version": self.recipe.version,
            "labels": list(self.ids),
            "taxonomy": self.taxonomy.version,
            "own_labels": [label.as_table() for label in self.taxonomy.own],
            "normaliser": NORMALISER_VERSION,
            "view": str(self.encoder.view),
            "window": window_table(self.window),
            "calibration": calibrated_run["calibration"],
            "thresholds": calibrated_run["thresholds"],
            "quantisation": {
                "matrices": parity.pop("matrices"),
                "words": "4-bit blocks of 32, " + ("as the backbone's source has them" if self.words else "rounded"),
            },
            "golden_tolerance": GOLDEN_TOLERANCE,
            "manifest": {
                "recipe": self.recipe.resolved(),
                "backbone": self.origin,
                "data": data,
                "stations": self.passed(),
                "environment": {
                    "python": platform.python_version(),
                    "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
                    **{name: importlib.metadata.version(name) for name in _PACKAGES},
                },
                "parity": parity | {"decisions": calibrated_run["decisions"]},
                **self.more_manifest(),
            },
        }
