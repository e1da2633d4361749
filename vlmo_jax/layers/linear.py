"""Dense layers, normalisation and initialisation shared by all models."""

import jax
import jax.numpy as jnp
from flax import nnx

# Deviation of the normal, cut at two deviations, that matrices and embeddings of BEiT and VLMo
# start from.
INIT_STD = 0.02


def truncated_normal(std):
    """Initializer: a normal of deviation `std` cut at two deviations."""
    return nnx.initializers.truncated_normal(std, lower=-2.0, upper=2.0)


def param(init, shape, axes, rngs):
    """A float32 parameter; `axes` are its logical axes, one a dimension."""
    return nnx.Param(init(rngs.params(), shape, jnp.float32), out_sharding=axes)


class Linear(nnx.Module):
    """x @ kernel + bias over the last axis; the kernel is cast to the compute type first."""

    def __init__(
        self,
        in_features,
        out_features,
        *,
        axes=("embed", None),
        use_bias=True,
        dtype=jnp.float32,
        init_std=INIT_STD,
        rngs,
    ):
        self.dtype = dtype
        self.kernel = param(truncated_normal(init_std), (in_features, out_features), axes, rngs)
        self.bias = (
            param(nnx.initializers.zeros, (out_features,), axes[1:], rngs) if use_bias else None
        )

    def __call__(self, x):
        y = x.astype(self.dtype) @ self.kernel[...].astype(self.dtype)
        return y if self.bias is None else y + self.bias[...].astype(self.dtype)


class LayerNorm(nnx.Module):
    """Layer normalisation over the last axis in float32, returned in the type of `x`."""

    def __init__(self, width, *, epsilon, rngs):
        self.epsilon = epsilon
        self.scale = param(nnx.initializers.ones, (width,), (None,), rngs)
        self.bias = param(nnx.initializers.zeros, (width,), (None,), rngs)

    def __call__(self, x):
        y = x.astype(jnp.float32)
        centred = y - y.mean(-1, keepdims=True)
        y = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon)
        return (y * self.scale[...] + self.bias[...]).astype(x.dtype)


def gelu(x):
    """The exact GELU, by erf: the tanh form differs from it by up to 5e-4."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * jnp.asarray(0.5**0.5, x.dtype)))


def dropout(x, rate, key):
    """Zeroes entries of `x` with probability `rate` and scales the rest; no key, no dropout."""
    if key is None or rate == 0.0:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(keep, x / (1.0 - rate), 0).astype(x.dtype)


def drop_path(x, rate, key):
    """Drops the residual branch `x` [B, ...] of whole examples with probability `rate` (stochastic
    depth).

    `rate` may be a traced scalar. Without a key nothing is dropped.
    """
    if key is None:
        return x
    keep = jax.random.bernoulli(key, 1.0 - rate, (x.shape[0],) + (1,) * (x.ndim - 1))
    return x * (keep / (1.0 - rate)).astype(x.dtype)
