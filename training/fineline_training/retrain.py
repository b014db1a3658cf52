"""Going on from a bundle with a team's rows: check, data, fit, export, calibrate, bundle, evaluate, compare, card.

What a team brings is small beside what the bundle was trained on. So its rows are mixed with rows of the original
mixture, the bundle's own scores hold what was learned before, only the upper layers move, and the fit stops on gates
(``watch``). The last three stations call the commands that anybody can call; all can be killed and started again.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from tokenizers import Tokenizer

from fineline.bundle import MODEL, TOKENIZER, Bundle
from fineline.calibration import Calibration
from fineline.encoding import Encoder
from fineline.engine import Engine
from fineline.files import write_text
from fineline.taxonomy import Label, load_taxonomy
from fineline.text import View
from fineline_training.backbone import WordTable
from fineline_training.build import build_dataset
from fineline_training.bundling import Bundling
from fineline_training.curves import draw_curves
from fineline_training.examples import encode_records, first_windows
from fineline_training.fit import CHECKPOINT, Fit
from fineline_training.judging import Judging
from fineline_training.labels.store import LabelStore
from fineline_training.mixture import Mixture
from fineline_training.model import SafetyModel
from fineline_training.optimise import load_trainable_state
from fineline_training.recipe import Recipe, SourceSpec, StartSpec
from fineline_training.records import Record, write_rows
from fineline_training.replay import draw_replay, narrowed
from fineline_training.restore import Restored, restore
from fineline_training.run import inputs_hash
from fineline_training.sources.registry import AUTHORED, load_registry
from fineline_training.teacher import Anchor, write_teacher
from fineline_training.team import HELD, TEAM, read_team
from fineline_training.watch import Watch

STATIONS = ("check", "data", "fit", "export", "calibrate", "bundle", "evaluate", "compare", "card")


def replayed_sources(start: Bundle, named: dict[str, SourceSpec], mirror: Path | None) -> dict[str, SourceSpec]:
    """Sources of the original mixture that can be replayed.

    Args:
        start: The bundle; its manifest names what it was trained on.
        named: Sources that the recipe names instead.
        mirror: The mirror; without one only the corpus that the project owns can be read.
    """
    manifest: Any = start.meta.manifest
    entries = manifest.get("recipe", {}).get("data", {}).get("sources", {})
    sources = named or {name: SourceSpec() for name in entries if name in load_registry()}
    sources = sources or {AUTHORED: SourceSpec()}
    return {name: share for name, share in sources.items() if mirror is not None or name == AUTHORED}


class Retrain(Bundling):
    """One store of labels on one bundle, in one folder.

    Args:
        recipe: What to do; it has a section ``start``.
        folder: Where everything of the run is kept.
        start: The bundle to go on from.
        store: The team's label store.
        own_labels: Labels that the team adds or defines anew, besides those of its store and of the bundle.
        mirror: Local copy of the public sources, or ``None``.
        console: Where progress is told.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        start: Bundle,
        store: LabelStore,
        own_labels: Sequence[Label] = (),
        mirror: Path | None = None,
        console: Console | None = None,
    ) -> None:
        sources = replayed_sources(start, recipe.data.sources, mirror)
        window = start.meta.window
        recipe = replace(
            recipe, data=replace(recipe.data, sources=sources), fit=replace(recipe.fit, window=window.size)
        )
        given = {label.id: label for label in (*start.taxonomy.own, *store.own_labels, *own_labels)}
        taxonomy = start.taxonomy.extended(given.values())
        tables = json.dumps([label.as_table() for label in taxonomy.own], sort_keys=True)
        super().__init__(
            STATIONS,
            recipe,
            folder,
            taxonomy=taxonomy,
            window=window,
            inputs_hash=inputs_hash(recipe, mirror, start.meta.digest, store.digest(), tables),
            console=console,
        )
        before = start.meta.labels
        self.new = tuple(label.id for label in taxonomy.own if label.id not in before)
        self.free = tuple(label for label in before if taxonomy[label] != start.taxonomy[label])
        ours = load_taxonomy().ids
        self.redefined = tuple(label.id for label in taxonomy.own if label.id in ours)
        self.ids = (*before, *self.new)  # a bundle may lack labels of ours, and goes on lacking them
        assert recipe.start is not None
        self.spec: StartSpec = recipe.start
        self.start, self.store, self.mirror = start, store, mirror
        self._judging = Judging(folder, start, mirror)

    def all(self) -> None:
        """Run every station that is not done; the bundle is in the folder ``bundle``, its card in it."""
        write_text(self.folder / "recipe.json", json.dumps(self.recipe.resolved(), indent=1) + "\n")
        self.pass_all()

    def check(self) -> None:
        """Settle the team's rows, prove that they pass the gates, and hold some back."""
        found = read_team(self.store, self.spec, learned=(*self.new, *self.free))
        write_rows(self.folder / "team.jsonl.gz", found.records)
        write_text(self.folder / "team.json", json.dumps(found.report, ensure_ascii=False, indent=1) + "\n")

    def data(self) -> None:
        """Draw what is replayed, write ``train`` and ``dev`` rows, and note what the bundle says of each epoch."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)  # it belongs to other rows
        spec, team = self.recipe.data, self.rows("team")
        built = build_dataset(
            list(spec.sources),
            self.mirror,
            required=spec.required,
            unlawful_limit=spec.unlawful_limit,
            progress=True,
        )
        split = {name: [row for row in team if row.split == name] for name in ("train", "dev", HELD)}
        mixture = narrowed([row for row in built.records if row.split == "train"], self.redefined)
        wanted = self.spec.replay * self._repeats(split["train"]) * len(split["train"]) * self.recipe.fit.epochs
        replayed = draw_replay(mixture, round(wanted), self.recipe.seed)
        held_back = narrowed([row for row in built.records if row.split == "dev"], self.redefined)
        write_rows(self.folder / "train.jsonl.gz", [*replayed, *split["train"]])
        write_rows(self.folder / "dev.jsonl.gz", [*held_back, *split["dev"]])
        write_rows(self.folder / "held.jsonl.gz", split[HELD])
        manifest = built.manifest.to_dict() | {"replayed": len(replayed)}
        write_text(self.folder / "data.json", json.dumps(manifest, ensure_ascii=False, indent=1) + "\n")
        drawn = self._mixture(self.rows("train"))
        epochs = [drawn.epoch(number) for number in range(self.recipe.fit.epochs)]
        engine = Engine(self.start.path / MODEL, pad=self.encoder.pad)
        write_teacher(lambda rows: engine.logits(first_windows(rows, self.encoder)), epochs, self.folder)

    def _repeats(self, rows: Sequence[Record]) -> int:
        """How often each of the team's rows stands in an epoch: a few hundred rows need more steps than one pass."""
        wanted = -(-self.spec.least_rows // max(1, len(rows)))
        return min(wanted, self.spec.most_repeats)

    def _mixture(self, rows: list[Record]) -> Mixture:
        """Every epoch all of the team's rows, and its part of the replayed ones."""
        team = [row for row in rows if row.source == TEAM]
        sources = {name: SourceSpec(weight=1 / self.recipe.fit.epochs) for name in self.recipe.data.sources}
        sources[TEAM] = SourceSpec(weight=float(self._repeats(team)))
        data = replace(self.recipe.data, sources=sources)
        return Mixture(rows, data, self.recipe.seed, never=self.redefined)

    @cached_property
    def encoder(self) -> Encoder:
        """Encoder of the bundle."""
        tokenizer = Tokenizer.from_file(str(self.start.path / TOKENIZER))
        return Encoder(tokenizer, self.window, View(self.start.meta.view))

    def _restored(self) -> Restored:
        """The bundle's model with outputs for the new labels; only what trains asks for gradients.

        Outputs that are held to the bundle's scores keep their part of the head: near the teacher gradients are noise,
        and Adam takes steps of full size in noise.
        """
        fit = self.recipe.fit
        found = restore(self.start, len(self.ids), dropout=fit.dropout, encoder_dropout=fit.encoder_dropout)
        encoder: Any = found.model.encoder
        for part in (encoder.embeddings, *encoder.encoder.layer[: -self.spec.layers]):
            part.requires_grad_(False)
        learned = torch.tensor([label in self.free or label in self.new for label in self.ids], dtype=torch.float32)
        head: Any = found.model.head  # torch does not type hooks
        for parameter in head.parameters():
            parameter.register_hook(lambda slope: slope * learned.to(slope).reshape(-1, *[1] * (slope.ndim - 1)))
        return found

    @property
    def words(self) -> WordTable:
        """The words of the bundle: they stay frozen."""
        return self._served[1]

    @property
    def origin(self) -> dict[str, str]:
        """Name and licence of the pretrained encoder, as the bundle's manifest has them."""
        manifest: Any = self.start.meta.manifest
        return dict(manifest.get("backbone", {}))

    def fit(self) -> float:
        """Train within the gates; returns the minutes that took, those before a kill included."""
        mixture = [row for row in self.dev if row.source == AUTHORED]
        team = [row for row in self.dev if row.source == TEAM]
        watched = [*mixture[:: max(1, len(mixture) // self.spec.watched)], *team]
        watch = Watch(
            encode_records(watched, self.encoder, self.ids),
            team=np.array([row.source == TEAM for row in watched], dtype=np.bool_),
            bundle=self.start,
            anchored=[column for column, label in enumerate(self.start.meta.labels) if label not in self.free],
            before=Engine(self.start.path / MODEL, pad=self.encoder.pad).logits(first_windows(watched, self.encoder)),
            spec=self.spec,
        )
        fit = Fit(
            model=self._restored().model,
            encoder=self.encoder,
            label_ids=self.ids,
            mixture=self._mixture(self.rows("train")),
            spec=self.recipe.fit,
            seed=self.recipe.seed,
            folder=self.folder,
            dev=[],
            teacher=Anchor(self.folder, self.ids, team=TEAM, free=self.free),
            watch=watch,
        )
        minutes = self.train(fit)
        if self.processes.is_main_process:
            watch.check_gain()
            write_text(self.folder / "curves.json", json.dumps(watch.history(), indent=1) + "\n")
            write_text(self.folder / "curves.svg", draw_curves(watch.checks, watch.best))
        return minutes

    def inherited(self) -> tuple[dict[str, Calibration], dict[str, dict[str, float]]]:
        """What the bundle has, for labels that mean the same as before.

        Chosen anew, from fewer rows, thresholds moved more decisions than the training did (training/LOG.md).
        """
        meta = self.start.meta
        kept = [label for label in meta.labels if label not in self.free]
        limits = {policy: {label: table[label] for label in kept} for policy, table in meta.thresholds.items()}
        return {label: meta.calibration[label] for label in kept}, limits

    @cached_property
    def _served(self) -> Restored:
        restored = self._restored()
        load_trainable_state(restored.model, self.trained())
        return Restored(restored.model.eval(), restored.words)

    @property
    def model(self) -> SafetyModel:
        """The bundle's model with what was trained."""
        return self._served.model

    def more_manifest(self) -> dict[str, Any]:
        """The bundle that was gone on from, and what is known of the team's rows."""
        team, checks = (json.loads((self.folder / name).read_text()) for name in ("team.json", "curves.json"))
        start = {"model": self.start.model_id, "digest": self.start.meta.digest, "files": dict(self.start.meta.files)}
        return {"start": start, "team": team, "checks": checks}

    def evaluate(self) -> None:
        """Judge the new bundle on all suites that the mirror has, and on the rows that were held back."""
        self._judging.evaluate()

    def compare(self) -> None:
        """Hold it against the bundle that was gone on from."""
        self._judging.compare()

    def card(self) -> None:
        """Write its card."""
        self._judging.card()
