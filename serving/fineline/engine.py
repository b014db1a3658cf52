"""ONNX Runtime behind one small interface: batches of windows in, logits out."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from fineline.encoding import Window, collate, length_batches
from fineline.errors import BundleError, ConfigError

BATCH_TOKENS = 512
"""Padded tokens a run: the activations of more than that leave a server CPU's caches (training/LOG.md)."""

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Engine:
    """A loaded model; calls may come from several threads.

    Args:
        model: ONNX file.
        pad: Id of the padding token.
        threads: Threads a run may use; all cores when ``None``.
        device: ``cpu`` or ``cuda``.
        batch_tokens: Padded tokens a run; the memory of a run grows with it.

    Raises:
        ConfigError: The device is unknown or not available in this installation.
        BundleError: The file is not a model that ONNX Runtime can load.
    """

    def __init__(
        self,
        model: Path,
        *,
        pad: int,
        threads: int | None = None,
        device: str = "cpu",
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        provider = _PROVIDERS.get(device)
        if provider is None or provider not in ort.get_available_providers():
            found = [name for name, wanted in _PROVIDERS.items() if wanted in ort.get_available_providers()]
            raise ConfigError("device_unavailable", f"Device '{device}' is not available; here: {', '.join(found)}.")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(model), options, providers=[provider])
        except Exception as error:  # onnxruntime raises several unrelated types for a bad file
            raise BundleError(
                "bundle_model", f"{model}: ONNX Runtime cannot load it ({type(error).__name__})."
            ) from None
        self._pad = pad
        self._batch_tokens = batch_tokens
        self.outputs: int = self._session.get_outputs()[0].shape[1]

    def logits(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Logits of windows in their order, float32, shape (windows, labels)."""
        batches = length_batches([len(window.ids) for window in windows], tokens=self._batch_tokens)
        outputs = [self._session.run(None, collate([windows[i] for i in rows], self._pad))[0] for rows in batches]
        result = np.empty((len(windows), outputs[0].shape[1]), dtype=np.float32)
        for rows, output in zip(batches, outputs, strict=True):
            result[rows] = output
        return result
