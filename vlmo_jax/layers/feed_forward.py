"""The feed-forward half of a Transformer block."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear, gelu
from vlmo_jax.parallel.sharding import constrain


class FeedForward(nnx.Module):
    """Norm, D -> F, activation, F -> D.

    Args:
        width: D.
        mlp_dim: F.
        activation: function of arrays, such as `linear.gelu`.
        norm_epsilon: of the norm; None: no norm, as in blocks that normalise what they have added.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        width: int,
        mlp_dim: int,
        *,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        norm_epsilon: float | None = 1e-6,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.activation = activation
        self.norm = (
            None if norm_epsilon is None else LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        )
        self.up = Linear(width, mlp_dim, axes=("embed", "mlp"), **layers)
        self.down = Linear(mlp_dim, width, axes=("mlp", "embed"), **layers)

    def __call__(self, x: jax.Array, *, gamma: jax.Array | None = None) -> jax.Array:
        """[B, N, D] -> [B, N, D] in the compute type, times `gamma` [D], without the residual."""
        x = x if self.norm is None else self.norm(x)
        hidden = constrain(self.activation(self.up(x)), "batch", None, "mlp")
        return self.down(hidden, gamma=gamma)
