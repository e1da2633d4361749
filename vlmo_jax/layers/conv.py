"""Convolution, pooling and upsampling of channels-last images."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.linear import param, per_row


class Conv(nnx.Module):
    """Convolution with zero padding that keeps the size; the kernel is cast to the compute type
    first.

    The kernel [size, size, in, out] starts normal with deviation 1 / sqrt(size^2 in), the bias from
    zero, as in DALL-E's code.

    Args:
        in_features, out_features: channels.
        size: of the square kernel, odd.
        axes: logical axes of the kernel's channels, in and out.
        use_bias: whether there is a bias.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        size: int,
        *,
        axes: tuple[str | None, str | None] = (None, "embed"),
        use_bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype, self.size = dtype, size
        normal = nnx.initializers.normal(1 / math.sqrt(in_features * size**2))
        self.kernel = param(
            normal, (size, size, in_features, out_features), (None, None, *axes), rngs
        )
        self.bias = (
            param(nnx.initializers.zeros, (out_features,), axes[1:], rngs) if use_bias else None
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, in] -> [B, h, w, out] in the compute type."""
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        if self.size == 1:
            y = x @ kernel[0, 0]
        else:
            y = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return y if self.bias is None else y + per_row(self.bias[...].astype(self.dtype), y)


class Doubling(nnx.Module):
    """Each place becomes 2x2 places, each by a matrix of its own: a transposed convolution of size
    and stride 2. The kernel [2, 2, in, out] starts normal with deviation 1 / sqrt(in).

    Args:
        in_features, out_features: channels.
        dtype: compute type.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        normal = nnx.initializers.normal(1 / math.sqrt(in_features))
        axes = (None, None, "embed", "mlp")
        self.kernel = param(normal, (2, 2, in_features, out_features), axes, rngs)
        self.bias = param(nnx.initializers.zeros, (out_features,), axes[3:], rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, in] -> [B, 2 h, 2 w, out] in the compute type."""
        x, kernel = x.astype(self.dtype), self.kernel[...].astype(self.dtype)
        batch, height, width, _ = x.shape
        y = jnp.einsum("bhwi,uvio->bhuwvo", x, kernel).reshape(batch, 2 * height, 2 * width, -1)
        return y + per_row(self.bias[...].astype(self.dtype), y)


def max_pool(x: jax.Array) -> jax.Array:
    """Largest values of 2x2 squares: [B, h, w, C] to [B, h / 2, w / 2, C], rounded down.

    The gradient goes to one of each square, the first of several that are equal, as torch's does.
    It never asks which values equal the largest, as that of `x.max` does: where a compiler computes
    them twice and rounds differently, none may, and the gradient is 0 / 0.
    """
    square = (1, 2, 2, 1)
    lowest = np.array(-np.inf, x.dtype)  # known when traced, or there is no gradient
    return jax.lax.reduce_window(x, lowest, jax.lax.max, square, square, "VALID")


def upsample(x: jax.Array) -> jax.Array:
    """Each value four times, in a 2x2 square: [B, h, w, C] to [B, 2 h, 2 w, C]."""
    batch, height, width, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)
