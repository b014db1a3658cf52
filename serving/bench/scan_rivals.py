"""What a scan is compared with: one ``Classifier`` in process, and a transformers pipeline under ``datasets.map``."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fineline import Classifier


def in_process(texts: Sequence[str], bundle: Path) -> float:
    """Documents a second of one ``Classifier`` with all cores."""
    classifier = Classifier.load(bundle)
    classifier.logits(texts[:32])
    began = time.perf_counter()
    classifier.logits(texts)
    return round(len(texts) / (time.perf_counter() - began), 2)


def transformers_pipeline(texts: Sequence[str], run: Path, recipe: str, batch: int, cache: Path) -> float:
    """Documents a second of the usual way: a ``transformers`` pipeline under ``datasets.map``, same weights, fp32."""
    from datasets import Dataset

    pipe = pipeline_of(run, recipe)
    rows = Dataset.from_dict({"text": list(texts)})

    def judged(given: dict[str, list[str]]) -> dict[str, list[Any]]:
        return {"scores": pipe(given["text"], batch_size=batch, truncation=True)}

    pipe(list(texts[:8]), truncation=True)
    began = time.perf_counter()
    rows.map(judged, batched=True, batch_size=max(batch, 64), cache_file_name=str(cache / f"pipeline-{batch}.arrow"))
    return round(len(texts) / (time.perf_counter() - began), 2)


def pipeline_of(run: Path, recipe: str) -> Any:
    """A ``transformers`` text-classification pipeline of a run's trained model in fp32, on all cores."""
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast, TextClassificationPipeline
    from transformers.modeling_outputs import SequenceClassifierOutput

    from fineline_training.recipe import load_recipe
    from fineline_training.run import Run

    trained = Run(load_recipe(recipe), run)
    # The encoder inside keeps its own configuration and its fast attention.
    options: dict[str, Any] = {"id2label": dict(enumerate(trained.ids)), "attn_implementation": "eager"}
    config = PretrainedConfig(**options)

    class Wrapped(PreTrainedModel):
        """The trained model with the interface that the pipeline wants."""

        def __init__(self) -> None:
            super().__init__(config)
            self.inner = trained.model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any, **_: Any) -> Any:
            return SequenceClassifierOutput(logits=self.inner(input_ids, attention_mask, token_type_ids))

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained.encoder.tokenizer,
        model_max_length=trained.window.size,
        pad_token="<pad>",
        model_input_names=["input_ids", "attention_mask", "token_type_ids"],
    )
    torch.set_num_threads(os.cpu_count() or 1)
    return TextClassificationPipeline(
        model=Wrapped().eval(), tokenizer=tokenizer, function_to_apply="sigmoid", top_k=None, device="cpu"
    )
