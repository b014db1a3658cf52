"""Logits of a model in torch, on rows that are encoded already."""

import numpy as np
import torch
from numpy.typing import NDArray

from fineline_training.examples import Examples, epoch_batches, to_tensors
from fineline_training.model import SafetyModel


@torch.inference_mode()
def predict(model: SafetyModel, examples: Examples, *, pad: int, tokens: int = 8192) -> NDArray[np.float32]:
    """Logits of encoded rows, float32, shape (rows, labels), in row order."""
    model.eval()
    device = next(model.parameters()).device
    logits = np.zeros((len(examples), model.head.out_features), dtype=np.float32)
    for rows in epoch_batches(examples, tokens=tokens, seed="predict"):
        batch = to_tensors(examples, rows, pad)
        inputs = [batch[name].to(device) for name in ("input_ids", "attention_mask", "token_type_ids")]
        logits[rows] = model(*inputs).float().cpu().numpy()
    return logits
