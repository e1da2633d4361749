"""What the compiler is told of the programs that a start waits for."""

import os
from collections.abc import Iterable

import jax

_LEVEL = "xla_backend_optimization_level"


def quick_start(devices: Iterable[jax.Device]) -> dict[str, str | bool]:
    """Options for `jax.jit(..., compiler_options=)` of a program that a start waits for.

    On CPU LLVM's first level in place of the third: random parameters are the same bit for bit and
    there in less than half of the time, and a step is compiled in nine tenths and runs as fast
    (docs/PERFORMANCE.md). Elsewhere, and where XLA_FLAGS says a level, nothing is told.

    Args:
        devices: that the program is compiled for, which may be others than those of this machine.
    """
    on_cpu = all(device.platform == "cpu" for device in devices)
    return {_LEVEL: "1"} if on_cpu and _LEVEL not in os.environ.get("XLA_FLAGS", "") else {}
