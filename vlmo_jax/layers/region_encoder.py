"""Features of regions, or of the places of a grid, to one vector of an image."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.batch_norm import BatchNorm, Statistics
from vlmo_jax.layers.generalized_pooling import POOLINGS
from vlmo_jax.layers.linear import INIT_STD, Linear

LENGTH_EPSILON = 1e-8


def unit_length(x: jax.Array) -> jax.Array:
    """X / (length of x + 1e-8) over the last axis, as VSE-infinity has it."""
    squares = jnp.square(x.astype(jnp.float32)).sum(-1, keepdims=True)
    length = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))  # a slope where it is 0, too
    return x / (jnp.where(squares > 0, length, 0.0) + LENGTH_EPSILON)


class RegionMlp(nnx.Module):
    """Dense, BatchNorm, ReLU, Dense.

    Args:
        in_features: F of the regions.
        hidden: of the layer between.
        out_features: E.
        dtype, init_std: as of `Linear`.
    """

    def __init__(
        self,
        in_features: int,
        hidden: int,
        out_features: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers = dict(dtype=dtype, init_std=init_std)
        self.up = Linear(in_features, hidden, rngs=rngs, **layers)  # type: ignore[arg-type]
        self.norm = BatchNorm(hidden, rngs=rngs)
        self.down = Linear(hidden, out_features, rngs=rngs, **layers)  # type: ignore[arg-type]

    def __call__(self, x: jax.Array, *, by_batch: bool = False) -> jax.Array:
        """[B, R, F] -> [B, R, E]; `by_batch` as of `BatchNorm`, padded rows included."""
        return self.down(jax.nn.relu(self.norm(self.up(x), by_batch=by_batch)))


class RegionEncoder(nnx.Module):
    """Dense [+ RegionMlp], pooling, length 1: VSE-infinity's `EncoderImageAggr`.

    Args:
        in_features: F.
        out_features: E.
        mlp_hidden: width of the MLP's inner layer; 0: no MLP, as for grids.
        pooling: a name in POOLINGS.
        dtype, init_std: as of `Linear`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        mlp_hidden: int = 0,
        pooling: str = "gpo",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dense = Linear(in_features, out_features, dtype=dtype, init_std=init_std, rngs=rngs)
        self.mlp = (
            RegionMlp(
                in_features, mlp_hidden, out_features, dtype=dtype, init_std=init_std, rngs=rngs
            )
            if mlp_hidden
            else None
        )
        self.pooling = POOLINGS[pooling](rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array, *, by_batch: bool = False) -> jax.Array:
        """Features and which of them are there to vectors.

        Args:
            x: [B, R, F].
            mask: [B, R] bool.
            by_batch: see `BatchNorm`; it counts the rows that are not there, too.

        Returns:
            [B, E] float32 of length 1.
        """
        y = self.dense(x)
        if self.mlp is not None:
            y = self.mlp(x, by_batch=by_batch) + y
        return unit_length(self.pooling(y, mask))

    def moved_statistics(self, x: jax.Array) -> Statistics:
        """The running statistics after a batch [B, R, F], of an encoder with an MLP."""
        assert self.mlp is not None, "this encoder has no BatchNorm"
        return self.mlp.norm.moved(self.mlp.up(x))
