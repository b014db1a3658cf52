"""What makes a retraining small enough for a test."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def built() -> dict[str, Any]:
    """What ``small_corpus`` builds once for all modules."""
    return {}


@pytest.fixture(scope="module")
def small_corpus(built: dict[str, Any]) -> Iterator[None]:
    """A fortieth of the authored corpus is all that a retraining replays."""
    import torch

    from fineline_training import retrain as module

    patch = pytest.MonkeyPatch()
    real = module.build_dataset

    def build(*args: Any, **kwargs: Any) -> Any:
        if not built:
            whole = real(*args, **kwargs)
            dev = [row for row in whole.records if row.split == "dev"]
            train = [row for row in whole.records if row.split == "train"]
            built["small"] = dataclasses.replace(whole, records=(*train[::40], *dev[::24]))
        return built["small"]

    patch.setattr(module, "build_dataset", build)
    yield
    patch.undo()
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module")
def judging_leaves_files() -> Iterator[None]:
    """Evaluation, comparison and card are commands of their own, tested where they are."""
    from fineline_training.judging import Judging

    def call(self: Judging, name: str, *words: object) -> int:
        if words[0] == "eval":
            report = self.folder / ("eval" if name == "evaluate" else "before") / "report.json"
            report.parent.mkdir(exist_ok=True)
            report.write_text(json.dumps({"files": {}, "missing": []}))
        (self.folder / f"{name}.txt").write_text(" ".join(map(str, words)))
        return 0

    patch = pytest.MonkeyPatch()
    patch.setattr(Judging, "_call", call)
    yield
    patch.undo()
