"""Modality experts: the feed-forward half of a MoME block, and its switch.

Source: VLMo, section 3.1 (Mixture-of-Modality-Experts).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.feed_forward import FeedForward
from vlmo_jax.layers.linear import INIT_STD
from vlmo_jax.parallel.sharding import constrain

# The experts' places on the stacked axis. A block holds the first few: in stage 3, lower blocks two
# and upper blocks three.
EXPERTS = {"image": 0, "text": 1, "vision_language": 2}


class ModalityExperts(nnx.Module):
    """`num_experts` feed-forwards with parameters stacked [E, ...].

    The switch is static: the tokens an expert serves are known when the step is traced, so no
    expert computes a token that it does not serve.

    Args:
        num_experts: E, how many of EXPERTS there are.
        width: D.
        mlp_dim: F.
        norm_epsilon: of the experts' norms.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        num_experts: int,
        width: int,
        mlp_dim: int,
        *,
        norm_epsilon: float = 1e-6,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.names = tuple(EXPERTS)[:num_experts]

        @nnx.split_rngs(splits=num_experts)
        @nnx.vmap(axis_size=num_experts, transform_metadata={nnx.PARTITION_NAME: "experts"})
        def make(rngs: nnx.Rngs) -> FeedForward:
            return FeedForward(
                width, mlp_dim, norm_epsilon=norm_epsilon, dtype=dtype, init_std=init_std, rngs=rngs
            )

        self.stacked = make(rngs)

    def __call__(
        self, x: jax.Array, experts: Sequence[str], *, gamma: jax.Array | None = None
    ) -> jax.Array:
        """Sends branch g of `x` through expert `experts[g]`, all branches in one vmapped call.

        Args:
            x: [B, G, N, D].
            experts: G names out of "image", "text", "vision_language".
            gamma: [D], what all results are multiplied by; None: by nothing.

        Returns:
            [B, G, N, D].

        Raises:
            ValueError: the block holds no such expert.
        """
        if absent := sorted(set(experts) - set(self.names)):
            raise ValueError(
                f"experts {absent} are not in this block; it holds {', '.join(self.names)}"
            )
        # Else a compiler may sum activations over `fsdp` rather than gather weights.
        x = constrain(x, "batch")
        graphdef, params = nnx.split(self.stacked)
        chosen = [self.names.index(name) for name in experts]
        params = jax.tree.map(lambda p: jnp.stack([p[expert] for expert in chosen]), params)
        serve = lambda p, tokens: nnx.merge(graphdef, p)(tokens, gamma=gamma)
        return jax.vmap(serve, in_axes=(0, 1), out_axes=1)(params, x)

    def serve(self, x: jax.Array, expert: str, *, gamma: jax.Array | None = None) -> jax.Array:
        """Sends `x` [B, N, D] through the one expert named."""
        return self(x[:, None], (expert,), gamma=gamma)[:, 0]
