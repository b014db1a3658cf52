"""What rows chosen by ``fineline labels suggest`` teach, against as many at random.

On development rows of EDOS and COLD (flagged or lawful; the shipped model did not train on them) and on the rows of
``retrain_sets`` (a label that it does not have), a linear classifier on the model's features is trained on the chosen
rows and judged on others. Evaluation sets take no part.

    python training/bench/suggest_bench.py --mirror DATA --out FILE.json
"""

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import track
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fineline import Classifier
from fineline.files import write_text
from fineline_training.build import build_dataset
from fineline_training.labels.features import text_features
from fineline_training.labels.suggest import suggest
from retrain_sets import LABEL, vulgar_rows

SETS = ("edos", "cold", LABEL)
PREVALENCES = (0.05, 0.3)
SIZES = (100, 300)
JUDGED, POOL, MOST = 1000, 1600, 4000


def _rows(mirror: Path, name: str) -> tuple[list[str], NDArray[np.bool_]]:
    """Texts of a set and whether each is flagged."""
    if name == LABEL:
        rows = vulgar_rows(mirror, MOST)
        flagged = [2 * sum(mark[LABEL] for mark in row["votes"].values()) > len(row["votes"]) for row in rows]
        texts = [row["text"] for row in rows]
    else:
        records = [row for row in build_dataset([name], mirror).records if row.split == "dev"]
        texts, flagged = (
            [row.text for row in records],
            [bool(row.any_of or any(row.labels.values())) for row in records],
        )
    kept = random.Random(0).sample(range(len(texts)), min(MOST, len(texts)))
    return [texts[row] for row in kept], np.array([flagged[row] for row in kept])


def _deal(flagged: NDArray[np.bool_], prevalence: float, rng: random.Random) -> tuple[list[int], list[int]]:
    """Rows of a pool with a share of flagged rows, and the rows that judge, with the share of the set."""
    order = rng.sample(range(len(flagged)), len(flagged))
    judged, others = order[:JUDGED], order[JUDGED:]
    sides = [[row for row in others if flagged[row] == side] for side in (True, False)]
    size = int(min(POOL, len(sides[0]) / prevalence, len(sides[1]) / (1 - prevalence)))
    count = round(size * prevalence)
    return sides[0][:count] + sides[1][: size - count], judged


def _suggested(texts: Sequence[str], pool: Sequence[int], number: int, classifier: Classifier) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "pool.jsonl", Path(folder) / "out.jsonl"
        file.write_text("".join(json.dumps({"id": str(row), "text": texts[row]}) + "\n" for row in pool))
        suggest(str(file), out, classifier=classifier, number=number)
        return [int(json.loads(line)["id"]) for line in out.read_text().splitlines()]


def _precision(
    features: NDArray[np.float32], flagged: NDArray[np.bool_], chosen: list[int], judged: list[int]
) -> float:
    """Average precision of a linear classifier; what a score without any skill has where one class was chosen."""
    if len(set(flagged[chosen].tolist())) < 2:
        return float(flagged[judged].mean())
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"))
    model.fit(features[chosen], flagged[chosen])
    return float(average_precision_score(flagged[judged], model.decision_function(features[judged])))


def _draws(name: str, mirror: Path, classifier: Classifier, seeds: int) -> Iterator[dict[str, Any]]:
    texts, flagged = _rows(mirror, name)
    features = text_features(classifier.bundle.path, texts, [None] * len(texts))
    for seed in track(range(seeds), name):
        for prevalence in PREVALENCES:
            pool, judged = _deal(flagged, prevalence, random.Random(seed))
            for size in SIZES:
                chosen = _suggested(texts, pool, size, classifier)
                sample = random.Random(seed).sample(pool, len(chosen))
                yield {
                    "set": name,
                    "pool": len(pool),
                    "prevalence": prevalence,
                    "rows": len(chosen),
                    "seed": seed,
                    "flagged": {"suggest": float(flagged[chosen].mean()), "random": float(flagged[sample].mean())},
                    "average_precision": {
                        "suggest": _precision(features, flagged, chosen, judged),
                        "random": _precision(features, flagged, sample, judged),
                    },
                }


def _summary(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means, and the difference with a 95 % interval from draws of the seeds, which share their rows."""
    seeds = sorted({draw["seed"] for draw in draws})
    gains = [
        float(
            np.mean(
                [
                    d["average_precision"]["suggest"] - d["average_precision"]["random"]
                    for d in draws
                    if d["seed"] == seed
                ]
            )
        )
        for seed in seeds
    ]
    again = np.random.default_rng(0).choice(gains, (10_000, len(gains))).mean(axis=1)
    means = {
        kind: {way: float(np.mean([draw[kind][way] for draw in draws])) for way in ("suggest", "random")}
        for kind in ("average_precision", "flagged")
    }
    low, high = np.quantile(again, (0.025, 0.975))
    return {
        "draws": len(draws),
        **means,
        "gain": {"mean": float(np.mean(gains)), "low": float(low), "high": float(high)},
    }


def main(
    mirror: Annotated[Path, typer.Option(help="Folder of the public sources.")],
    out: Annotated[Path, typer.Option(help="JSON to write.")],
    seeds: Annotated[int, typer.Option(help="Pools drawn of each set and share of flagged rows.")] = 5,
) -> None:
    """Measure set by set."""
    classifier = Classifier.load()
    draws = [draw for name in SETS for draw in _draws(name, mirror, classifier, seeds)]
    groups = {f"{share:.0%} flagged, {size} rows": (share, size) for share in PREVALENCES for size in SIZES}
    result = {
        "model": classifier.bundle.model_id,
        "all": _summary(draws),
        "sets": {name: _summary([draw for draw in draws if draw["set"] == name]) for name in SETS},
        "pools": {
            name: _summary([draw for draw in draws if (draw["prevalence"], draw["rows"]) == group])
            for name, group in groups.items()
        },
        "draws": draws,
    }
    write_text(out, json.dumps(result, indent=1) + "\n")
    typer.echo(json.dumps({kind: result[kind] for kind in ("all", "sets", "pools")}, indent=1))


if __name__ == "__main__":
    typer.run(main)
