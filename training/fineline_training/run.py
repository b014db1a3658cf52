"""A run from a recipe: data, fit, export, calibrate, bundle; where the recipe has teachers, their runs come first.

The mean of its teachers' weights is where a run begins (Wortsman et al. 2022, "Model Soups"), the mean of their logits
is what it learns beside its rows: several models err less than one, and one can learn it from them (Hinton et al.
2015, "Distilling the Knowledge in a Neural Network").

Killing a run anywhere and starting it again continues from the last station, and inside the fit from the last
checkpoint.
"""

import fnmatch
import hashlib
import json
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from tokenizers import Tokenizer

from fineline.encoding import Encoder, WindowSpec
from fineline.errors import ConfigError
from fineline.files import sha256_of, write_text
from fineline.policy import POLICIES
from fineline.taxonomy import TAXONOMY_FILE, load_taxonomy
from fineline.text import NORMALISER_VERSION
from fineline_training.backbone import Backbone, WordTable, load_backbone
from fineline_training.build import build_dataset
from fineline_training.bundling import WEIGHTS, Bundling
from fineline_training.corpus.loader import CORPUS_DIR
from fineline_training.examples import encode_records
from fineline_training.fit import CHECKPOINT, Fit
from fineline_training.mixture import Mixture
from fineline_training.model import SafetyModel
from fineline_training.optimise import load_trainable_state, mean_state
from fineline_training.predict import predict
from fineline_training.recipe import Recipe, load_teachers
from fineline_training.records import Record, write_rows
from fineline_training.sources.registry import AUTHORED, REGISTRY_FILE
from fineline_training.teacher import Ensemble, write_teacher

STATIONS = ("data", "fit", "export", "calibrate", "bundle")
TEACHING = ("data", "fit")
"""What a teacher needs: its weights."""


def inputs_hash(recipe: Recipe, mirror: Path | None, *more: str) -> str:
    """Digest of all that decides a run: recipe, corpus, registry, taxonomy, policies, normaliser and teachers.

    Args:
        recipe: The resolved recipe.
        mirror: The mirror, or ``None``; the registry pins what is in it.
        more: Digests of what else goes in.
    """
    files = [*sorted(CORPUS_DIR.rglob("*.yaml")), *sorted(POLICIES.glob("*.toml")), REGISTRY_FILE, TAXONOMY_FILE]
    settings = json.dumps(recipe.resolved(), sort_keys=True)
    taught_by = [inputs_hash(teacher, mirror) for teacher in load_teachers(recipe).values()]
    parts = [settings, NORMALISER_VERSION, str(mirror is not None), *taught_by, *more]
    return hashlib.sha256("\n".join([*parts, *map(sha256_of, files)]).encode()).hexdigest()


class Run(Bundling):
    """One recipe in one folder.

    Args:
        recipe: What to do.
        folder: Where everything of the run is kept.
        mirror: Local copy of the public sources, or ``None``.
        console: Where progress is told.
        backbone: Loads the backbone; tests give a small one.
        names: The stations to pass, from the first on.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        mirror: Path | None = None,
        console: Console | None = None,
        backbone: Callable[[], Backbone] | None = None,
        names: tuple[str, ...] = STATIONS,
    ) -> None:
        self._taught_by = load_teachers(recipe)
        super().__init__(
            names,
            recipe,
            folder,
            taxonomy=load_taxonomy(),
            window=WindowSpec(size=recipe.fit.window),
            inputs_hash=inputs_hash(recipe, mirror),
            console=console,
        )
        self.mirror = mirror
        self._load_backbone = backbone or (lambda: load_backbone(recipe.backbone, vocabulary=recipe.vocabulary))

    def teachers(self) -> dict[str, "Run"]:
        """The runs of its teachers by name, made anew at each call: what they load goes with them."""
        return {
            name: Run(
                recipe,
                self.folder / "teachers" / name,
                mirror=self.mirror,
                console=self.console,
                backbone=self._load_backbone,
                names=TEACHING,
            )
            for name, recipe in self._taught_by.items()
        }

    def all(self) -> None:
        """Run every station that is not done, those of teachers first; the bundle is in the folder ``bundle``."""
        for name, teacher in self.teachers().items():
            self.tell(f"teacher {name}")
            teacher.all()
        write_text(self.folder / "recipe.json", json.dumps(self.recipe.resolved(), indent=1) + "\n")
        self.pass_all()

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
        self._check_late({row.meta.get("file", "") for row in built.records})
        for split in ("train", "dev"):
            rows = [record for record in built.records if record.split == split]
            write_rows(self.folder / f"{split}.jsonl.gz", rows)
        manifest = json.dumps(built.manifest.to_dict(), ensure_ascii=False, indent=1)
        write_text(self.folder / "data.json", manifest + "\n")
        if self._taught_by:
            mixture = self._mixture
            epochs = [mixture.epoch(number) for number in range(self.recipe.fit.epochs)]
            write_teacher(self._mean_of_teachers(), epochs, self.folder)

    def _check_late(self, files: Collection[str]) -> None:
        """Refuse a pattern that would change nothing.

        Raises:
            ConfigError: No corpus file matches it.
        """
        for pattern in self.recipe.data.late:
            if not fnmatch.filter(files, pattern):
                raise ConfigError(
                    "recipe_pattern", f"data.late: '{pattern}' matches no corpus file; correct or drop it."
                )

    def _mean_of_teachers(self) -> Callable[[list[Record]], NDArray[np.float32]]:
        """What scores rows as the mean of the teachers' logits."""
        device = self.processes.device
        models = [teacher.model.to(device) for teacher in self.teachers().values()]
        half = self.recipe.fit.precision == "bf16"

        def score(rows: list[Record]) -> NDArray[np.float32]:
            examples = encode_records(rows, self.encoder, self.ids)
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                logits = [predict(model, examples, pad=self.encoder.pad) for model in models]
            mean: NDArray[np.float32] = np.mean(logits, axis=0, dtype=np.float32)
            return mean

        return score

    @property
    def _mixture(self) -> Mixture:
        return Mixture(self.rows("train"), self.recipe.data, self.recipe.seed)

    @cached_property
    def backbone(self) -> Backbone:
        """The pretrained encoder, loaded once."""
        return self._load_backbone()

    @property
    def words(self) -> WordTable | None:
        """The backbone's own words where they stayed frozen."""
        return self.backbone.word_table if self.recipe.fit.freeze_words else None

    @property
    def origin(self) -> dict[str, str]:
        """Name and licence of the backbone."""
        return self.backbone.provenance

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder with the backbone's tokenizer."""
        return Encoder(Tokenizer.from_str(self.backbone.tokenizer.to_str()), self.window)

    def _new_model(self) -> SafetyModel:
        torch.manual_seed(self.recipe.seed)
        spec = self.recipe.fit
        return SafetyModel(self.backbone.model, len(self.ids), spec.dropout, spec.encoder_dropout)

    def fit(self) -> float:
        """Train on the mixture; returns the minutes that took, those before a kill included."""
        authored = [row for row in self.dev if row.source == AUTHORED]
        model = self._new_model()
        load_trainable_state(model, mean_state([teacher.trained() for teacher in self.teachers().values()]))
        fit = Fit(
            model=model,
            encoder=self.encoder,
            label_ids=self.ids,
            mixture=self._mixture,
            spec=self.recipe.fit,
            seed=self.recipe.seed,
            folder=self.folder,
            dev=authored[:: max(1, len(authored) // self.recipe.data.dev_cap)],
            teacher=Ensemble(self.folder) if self._taught_by else None,
        )
        return self.train(fit)

    def more_manifest(self) -> dict[str, Any]:
        """The teachers and how each was made, where there are any."""
        made = {
            name: {
                "recipe": teacher.recipe.resolved(),
                "stations": teacher.passed(),
                "weights": sha256_of(teacher.folder / WEIGHTS),
            }
            for name, teacher in self.teachers().items()
        }
        return {"teachers": made} if made else {}

    @cached_property
    def model(self) -> SafetyModel:
        """The trained model."""
        model = self._new_model().cpu()
        load_trainable_state(model, self.trained())
        return model.eval()
