"""What the compiler is told of a run's programs."""

import os
from collections.abc import Iterable

import jax

from vlmo_jax.parallel.platform import is_nvidia

_LEVEL = "xla_backend_optimization_level"
_MERGER, _TRITON = "xla_gpu_dot_merger_threshold_mb", "xla_gpu_enable_triton_gemm"


def compiler_options(devices: Iterable[jax.Device]) -> dict[str, str | bool]:
    """Options for `jax.jit(..., compiler_options=)`, what XLA_FLAGS says of the same aside.

    On CPU LLVM's first level in place of the third, for programs that a start waits for: random
    parameters are the same but for rounding and there in less than half of the time, and a step
    is compiled in nine tenths and runs as fast. On NVIDIA GPUs products of several passes with the
    same weights stay products of their own: XLA would join them where one is small, and copy the
    large ones' activations for it. And it tries none in Triton, which takes longer than all else
    and cannot be tried on a machine without the GPU. docs/PERFORMANCE.md and GPU.md say what
    they are worth.

    Args:
        devices: that the program is compiled for, which may be others than those of this machine.
    """
    devices = list(devices)
    told: dict[str, str | bool] = {}
    if all(device.platform == "cpu" for device in devices):
        told = {_LEVEL: "1"}
    elif all(is_nvidia(device.platform, device.device_kind) for device in devices):
        told = {_MERGER: "0", _TRITON: False}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in told.items() if name not in flags}
