"""Batch normalisation over the rows of the whole batch, on every mesh."""

from typing import Any, TypedDict

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.linear import param, per_row

MOMENTUM = 0.1  # share of a batch in the running statistics, torch's default
EPSILON = 1e-5


class Statistics(TypedDict):
    """Mean and variance of each feature, [D] float32, as they lie among the parameters."""

    running_mean: jax.Array
    running_variance: jax.Array


class BatchNorm(nnx.Module):
    """Normalises each feature by its mean and variance over all rows of a batch, and elsewhere by
    running ones.

    The running statistics are among the parameters, so that whoever has the parameters has the
    model. No gradient reaches them: the task sets them (see `tasks.protocols.Prepared.settled`).

    Args:
        width: D.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs) -> None:
        self.scale = param(nnx.initializers.ones, (width,), (None,), rngs)
        self.bias = param(nnx.initializers.zeros, (width,), (None,), rngs)
        self.running_mean = param(nnx.initializers.zeros, (width,), (None,), rngs)
        self.running_variance = param(nnx.initializers.ones, (width,), (None,), rngs)

    def __call__(self, x: jax.Array, *, by_batch: bool = False) -> jax.Array:
        """[..., D] -> [..., D] float32, by the statistics of `x` itself or by the running ones."""
        x = x.astype(jnp.float32)
        if by_batch:
            mean, variance = batch_statistics(x)
        else:
            running = self.running_mean[...], self.running_variance[...]
            mean, variance = jax.lax.stop_gradient(running)
        centred = x - per_row(mean, x)
        y = centred * per_row(jax.lax.rsqrt(variance + EPSILON) * self.scale[...], x)
        return y + per_row(self.bias[...], y)

    def learn(self, x: jax.Array) -> jax.Array:
        """As a call by the statistics of `x` itself; moves the running ones of this module."""
        moved = jax.lax.stop_gradient(self.moved(x))
        self.running_mean[...] = moved["running_mean"]
        self.running_variance[...] = moved["running_variance"]
        return self(x, by_batch=True)

    def moved(self, x: jax.Array) -> Statistics:
        """The running statistics after a batch `x` [..., D]; the variance is the unbiased one."""
        mean, variance = batch_statistics(x.astype(jnp.float32))
        rows = x.size // x.shape[-1]
        variance = variance * rows / max(rows - 1, 1)
        return Statistics(
            running_mean=(1 - MOMENTUM) * self.running_mean[...] + MOMENTUM * mean,
            running_variance=(1 - MOMENTUM) * self.running_variance[...] + MOMENTUM * variance,
        )


def running_statistics(model: nnx.Module) -> dict[str, Any]:
    """The running statistics of all such norms of a model: a part of the tree of its parameters."""
    flat = nnx.traversals.flatten_mapping(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    names = Statistics.__annotations__
    return nnx.traversals.unflatten_mapping({p: x for p, x in flat.items() if p[-1] in names})


def batch_statistics(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each feature over all rows of `x` [..., D]."""
    rows = tuple(range(x.ndim - 1))
    mean = x.mean(rows)
    return mean, jnp.square(x - per_row(mean, x)).mean(rows)
