"""ONNX Runtime behind one small interface: batches of windows in, logits out."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from fineline.encoding import Window, collate, equal_batches
from fineline.errors import BundleError, ConfigError

CPU, CUDA = "cpu", "cuda"
BATCH_TOKENS = {CPU: 512, CUDA: 16_384}
"""Tokens a run, by device: the activations of more than that leave a server CPU's caches (training/LOG.md)."""

_PROVIDERS = {CPU: "CPUExecutionProvider", CUDA: "CUDAExecutionProvider"}


def session_options(threads: int) -> ort.SessionOptions:
    """Options of a session: the threads of a run, and no more memory than the speed needs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # A plan of the memory of each shape of batch costs tens of megabytes and, beside the arena, saves no time.
    options.enable_mem_pattern = False
    # The arena doubles what it takes: with the weights in it, its first step for a run would be as large as they are.
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


class Engine:
    """A loaded model; calls may come from several threads.

    Args:
        model: ONNX file.
        pad: Id of the padding token.
        threads: Threads a call may use; all cores when ``None``.
        device: ``cpu`` or ``cuda``.
        batch_tokens: Tokens a run; the memory of a run grows with it. By default ``BATCH_TOKENS`` of the device.

    Raises:
        ConfigError: The device is unknown or cannot be used here.
        BundleError: The file is not a model that ONNX Runtime can load.
    """

    def __init__(
        self,
        model: Path,
        *,
        pad: int,
        threads: int | None = None,
        device: str = CPU,
        batch_tokens: int | None = None,
    ) -> None:
        provider = _PROVIDERS.get(device)
        if provider is None or provider not in ort.get_available_providers():
            found = [name for name, wanted in _PROVIDERS.items() if wanted in ort.get_available_providers()]
            raise ConfigError("device_unavailable", f"Device '{device}' is not available; here: {', '.join(found)}.")
        self._model, self.device = model, device
        self._threads = threads or os.cpu_count() or 1
        # ONNX Runtime's builds for Windows report events to their maker unless they are told not to, and nothing that
        # judges texts reports to anybody.
        ort.disable_telemetry_events()
        self._session = self._load(self._threads)
        self._pad = pad
        self._batch_tokens = batch_tokens or BATCH_TOKENS[device]
        self.outputs: int = self._session.get_outputs()[0].shape[1]

    def _load(self, threads: int) -> ort.InferenceSession:
        provider = _PROVIDERS[self.device]
        # The CPU computes what a GPU has no operator for. ONNX Runtime would also take it for everything, without an
        # error, where the GPU's driver or libraries are missing.
        providers = list(dict.fromkeys([provider, _PROVIDERS[CPU]]))
        try:
            session = ort.InferenceSession(
                str(self._model), session_options(threads), providers=providers, enable_fallback=0
            )
        except Exception as error:  # onnxruntime raises several unrelated types for a bad file, and for a bad device
            if self.device != CPU:
                raise _unusable(self.device, type(error).__name__) from None
            raise BundleError(
                "bundle_model", f"{self._model}: ONNX Runtime cannot load it ({type(error).__name__})."
            ) from None
        if provider not in session.get_providers():
            raise _unusable(self.device, "its driver or libraries are missing")
        return session

    @cached_property
    def _single(self) -> ort.InferenceSession:
        """For many batches: cores with a batch each need not wait for one another after every operator."""
        return self._load(1)

    def logits(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Logits of windows in their order, float32, shape (windows, labels)."""
        batches = equal_batches([len(window.ids) for window in windows], tokens=self._batch_tokens)
        result = np.empty((len(windows), self.outputs), dtype=np.float32)
        together = self._threads > 1 and self.device == CPU and len(batches) >= 2 * self._threads
        session = self._single if together else self._session

        def run(rows: list[int]) -> None:
            result[rows] = session.run(None, collate([windows[i] for i in rows], self._pad))[0]

        if together:
            with ThreadPoolExecutor(self._threads) as pool:
                # Longest first, so that the cores end together.
                list(pool.map(run, reversed(batches)))
        else:
            for rows in batches:
                run(rows)
        return result


def _unusable(device: str, why: str) -> ConfigError:
    return ConfigError("device_unavailable", f"Device '{device}' cannot be used: {why}.")
