"""Grids of features at other sizes: bilinear resizing, and means over the parts of a grid."""

import jax
import jax.numpy as jnp
import numpy as np


def resize_bilinear(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """A grid at another height and width: bilinear, corners not aligned, not smoothed.

    Args:
        x: [B, h, w, C].
        size: height H and width W.

    Returns:
        [B, H, W, C] in the type of `x`.

    Source: `torch.nn.functional.interpolate`, whose float32 places show in the fifth digit.
    """
    rows, columns = map(linear_weights, x.shape[1:3], size)
    y = jnp.einsum("yh,bhwc->bywc", rows.astype(x.dtype), x, precision="highest")
    return jnp.einsum("xw,bywc->byxc", columns.astype(x.dtype), y, precision="highest")


def linear_weights(size: int, new_size: int) -> np.ndarray:
    """Weights [new_size, size] of linear interpolation, float32; beyond the border stands what
    stands there.
    """
    scale = np.float64(np.float32(size) / np.float32(new_size))
    places = (scale * (np.arange(new_size) + 0.5) - 0.5).clip(0, size - 1).astype(np.float32)
    before = places.astype(np.int64)
    weights = np.zeros((new_size, size), np.float32)
    each = np.arange(new_size)
    weights[each, before] = 1 - (places - before)
    weights[each, np.minimum(before + 1, size - 1)] += places - before
    return weights


def average_parts(x: jax.Array, parts: int) -> jax.Array:
    """Means over parts x parts pieces of a grid, which overlap where its sides do not divide.

    Args:
        x: [B, h, w, C].
        parts: a side.

    Returns:
        [B, parts, parts, C] in the type of `x`.

    Source: `torch.nn.AdaptiveAvgPool2d`.
    """
    rows, columns = (_mean_weights(side, parts).astype(x.dtype) for side in x.shape[1:3])
    y = jnp.einsum("yh,bhwc->bywc", rows, x, precision="highest")
    return jnp.einsum("xw,bywc->byxc", columns, y, precision="highest")


def _mean_weights(size: int, parts: int) -> np.ndarray:
    """Weights [parts, size] of means over parts of a side."""
    weights = np.zeros((parts, size), np.float32)
    for part in range(parts):
        start, end = part * size // parts, -(-(part + 1) * size // parts)
        weights[part, start:end] = 1 / (end - start)
    return weights
