"""Dense layers, normalisation and initialisation shared by all models."""

import string
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from vlmo_jax.layers.products import product

# Deviation of the normal, cut at two deviations, that matrices and embeddings of BEiT and VLMo
# start from.
INIT_STD = 0.02


def truncated_normal(std: float) -> Initializer:
    """Initializer: a normal of deviation `std` cut at two deviations."""
    return nnx.initializers.truncated_normal(std, lower=-2.0, upper=2.0)


def param(
    init: Initializer, shape: Sequence[int], axes: Sequence[str | None], rngs: nnx.Rngs
) -> nnx.Param:
    """A float32 parameter; `axes` are its logical axes, one a dimension."""
    return nnx.Param(init(rngs.params(), shape, jnp.float32), out_sharding=axes)


def per_row(values: jax.Array, x: jax.Array) -> jax.Array:
    """`values` [..., D] with leading axes of length 1 up to those of `x`: the same in every row.

    Arrays of different ranks are never joined without it: a missing axis is a mistake elsewhere.
    """
    return jax.lax.broadcast_to_rank(values, x.ndim)


def scaled(values: jax.Array, gamma: jax.Array | None) -> jax.Array:
    """A kernel or bias [..., D] whose results are to be multiplied by `gamma` [D]; None: as it is.

    A product with it gives at once what else costs a pass over the activations, one over their
    gradients, and the room to keep them for that of `gamma`.
    """
    return values if gamma is None else values * per_row(gamma, values)


class Linear(nnx.Module):
    """x @ kernel + bias over the last axis; the kernel is cast to the compute type first.

    Args:
        in_features: size of the last axis of `x`.
        out_features: size of the last axis of the result.
        axes: logical axes of the kernel, in and out.
        use_bias: whether there is a bias.
        dtype: compute type.
        init_std: deviation that the kernel starts from.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        axes: tuple[str | None, str | None] = ("embed", None),
        use_bias: bool = True,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dtype = dtype
        self.kernel = param(truncated_normal(init_std), (in_features, out_features), axes, rngs)
        self.bias = (
            param(nnx.initializers.zeros, (out_features,), axes[1:], rngs) if use_bias else None
        )

    def __call__(self, x: jax.Array, *, gamma: jax.Array | None = None) -> jax.Array:
        """[..., in_features] -> [..., out_features] in the compute type; `gamma` as of `scaled`."""
        rows = string.ascii_lowercase[: x.ndim - 1]
        y = product(f"{rows}y,yz->{rows}z", x, scaled(self.kernel[...], gamma), self.dtype)
        if self.bias is None:
            return y
        return y + per_row(scaled(self.bias[...], gamma).astype(self.dtype), y)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis in float32, returned in the type of `x`."""

    def __init__(self, width: int, *, epsilon: float, rngs: nnx.Rngs) -> None:
        self.epsilon = epsilon
        self.scale = param(nnx.initializers.ones, (width,), (None,), rngs)
        self.bias = param(nnx.initializers.zeros, (width,), (None,), rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., D] -> [..., D]."""
        y = x.astype(jnp.float32)
        centred = y - y.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        y = y * per_row(self.scale[...], y) + per_row(self.bias[...], y)
        return y.astype(x.dtype)


def gelu(x: jax.Array) -> jax.Array:
    """The exact GELU, by erf: the tanh form differs from it by up to 5e-4."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * jnp.asarray(0.5**0.5, x.dtype)))


def tanh_gelu(x: jax.Array) -> jax.Array:
    """GELU by the tanh formula of Hendrycks and Gimpel, arXiv 1606.08415."""
    return jax.nn.gelu(x, approximate=True)


def quick_gelu(x: jax.Array) -> jax.Array:
    """The activation x sigmoid(1.702 x) of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes entries of `x` with probability `rate` and scales the rest; no key, no dropout."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


def drop_path(x: jax.Array, rate: float | jax.Array, key: jax.Array | None) -> jax.Array:
    """Drops the residual branch `x` [B, ...] of whole examples with probability `rate`: stochastic
    depth.

    `rate` may be a traced scalar. Without a key nothing is dropped.
    """
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return x * (keep / (1.0 - rate)).astype(x.dtype)


def split_key(key: jax.Array | None, count: int) -> list[jax.Array] | list[None]:
    """`count` keys of one; of none, none."""
    return [None] * count if key is None else list(jax.random.split(key, count))
