"""What a device can do: its peak, and the memory in use."""

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Dense bfloat16 TFLOP/s of one chip by the makers' data sheets. The first name found in jax's
# `device_kind` decides.
PEAK_TFLOPS = (
    ("B200", 2250),
    ("GH200", 989),
    ("H200", 989),
    ("H100 PCIe", 756),
    ("H100 NVL", 835),
    ("H100", 989),
    ("A100", 312),
    ("TPU v6", 918),  # v6e, "TPU v6 lite"
    ("TPU v5 lite", 197),
    ("TPU v5e", 197),
    ("TPU v5", 459),  # v5p
    ("TPU v4", 275),
)


class Peak(NamedTuple):
    """FLOP/s of one device, and in words where the number is from."""

    flops: float
    source: str


def find_peak(dtype: str) -> Peak:
    """The peak to state shares of: from the table, or for a device that is not in it a matrix
    product measured now.

    Args:
        dtype: compute type of that product.
    """
    device = jax.local_devices()[0]
    if teraflops := table_peak(device.device_kind):
        return Peak(teraflops * 1e12, f"dense bfloat16 peak of {device.device_kind}")
    size = 2048 if device.platform == "cpu" else 8192
    return Peak(
        measure_matmul(device, dtype, size),
        f"a {size} x {size} {dtype} matrix product measured in this run",
    )


def table_peak(device_kind: str) -> float | None:
    """TFLOP/s of a chip that the table knows, or None."""
    return next((teraflops for name, teraflops in PEAK_TFLOPS if name in device_kind), None)


def measure_matmul(device: jax.Device, dtype: str, size: int, repeats: int = 8) -> float:
    """FLOP/s of the fastest of `repeats` square matrix products on one device."""
    # Drawn: a card computes faster with equal numbers than with those of a model.
    x = jax.device_put(jax.random.normal(jax.random.key(0), (size, size), dtype), device)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(product(x, x))
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def measure_copy(device: jax.Device, size: int, repeats: int = 8) -> float:
    """Bytes a second, read and written, of the fastest of `repeats` copies of `size` bytes."""
    x = jax.device_put(jnp.ones(size // 4, jnp.float32), device)
    copy = jax.jit(lambda x: x + 1)
    jax.block_until_ready(copy(x))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(copy(x))
        seconds.append(time.perf_counter() - start)
    return 2 * size / min(seconds)


def device_peak_bytes() -> int | None:
    """Most bytes in use at once on one device of this process so far, or None where the backend
    does not count (CPU).
    """
    peaks = [
        (device.memory_stats() or {}).get("peak_bytes_in_use") for device in jax.local_devices()
    ]
    return max((peak for peak in peaks if peak is not None), default=None)
