"""Where a bundle is run: its int8 model on the CPU, its fp16 model on a GPU.

The int8 model is made of operators that ONNX Runtime has for the CPU only. A bundle may hold a second model, the same
weights in fp16, for CUDA.
"""

import logging
from collections.abc import Mapping

from fineline.bundle import FP16, MODEL, Bundle
from fineline.engine import BATCH_TOKENS, CPU, CUDA, Engine
from fineline.errors import ConfigError

AUTO = "auto"
DEVICES = (CPU, CUDA, AUTO)

_LOG = logging.getLogger(__name__)


def open_engine(
    bundle: Bundle,
    *,
    pad: int,
    device: str = CPU,
    threads: int | None = None,
    batch_tokens: Mapping[str, int] = BATCH_TOKENS,
) -> Engine:
    """Load the model of a bundle for a device.

    Args:
        bundle: A verified bundle.
        pad: Id of the padding token.
        device: ``cpu``; ``cuda``, in whose place the CPU is taken, with one warning, where the bundle has no fp16 model
            or CUDA cannot be used; ``auto``, which is the same without the warning.
        threads: Threads a run may use on the CPU; all cores when ``None``.
        batch_tokens: Padded tokens of a run, by device.

    Raises:
        ConfigError: The device is unknown.
        BundleError: ONNX Runtime cannot load the model.
    """
    if device not in DEVICES:
        raise ConfigError("device_unknown", f"Device '{device}' is unknown; choose one of {', '.join(DEVICES)}.")
    if device != CPU:
        try:
            if FP16 not in bundle.meta.files:
                raise ConfigError("device_unavailable", f"{bundle.path} has no {FP16}, which CUDA needs.")
            return Engine(bundle.path / FP16, pad=pad, device=CUDA, threads=threads, batch_tokens=batch_tokens[CUDA])
        except ConfigError as error:
            _LOG.log(logging.INFO if device == AUTO else logging.WARNING, "the CPU is used: %s", error.message)
    return Engine(bundle.path / MODEL, pad=pad, threads=threads, batch_tokens=batch_tokens[CPU])
