"""Modality experts: the feed-forward half of a MoME block and its switch.

Source: VLMo, section 3.1 (Mixture-of-Modality-Experts).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear, gelu
from vlmo_jax.parallel.sharding import constrain

# The experts' places on the stacked axis. A block holds the first few: in stage 3, lower blocks two
# and upper blocks three.
EXPERTS = {"image": 0, "text": 1, "vision_language": 2}


class FeedForward(nnx.Module):
    """One expert: its own norm, D -> F, exact GELU, F -> D."""

    def __init__(
        self, width, mlp_dim, *, norm_epsilon=1e-6, dtype=jnp.float32, init_std=INIT_STD, rngs
    ):
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.up = Linear(
            width, mlp_dim, axes=("embed", "mlp"), dtype=dtype, init_std=init_std, rngs=rngs
        )
        self.down = Linear(
            mlp_dim, width, axes=("mlp", "embed"), dtype=dtype, init_std=init_std, rngs=rngs
        )

    def __call__(self, x):
        return self.down(constrain(gelu(self.up(self.norm(x))), "batch", None, "mlp"))


class ModalityExperts(nnx.Module):
    """`num_experts` feed-forwards with parameters stacked [E, ...].

    The switch is static: the tokens an expert serves are known when the step is traced, so no
    expert computes a token that it does not serve.
    """

    def __init__(
        self,
        num_experts,
        width,
        mlp_dim,
        *,
        norm_epsilon=1e-6,
        dtype=jnp.float32,
        init_std=INIT_STD,
        rngs,
    ):
        self.names = tuple(EXPERTS)[:num_experts]

        @nnx.split_rngs(splits=num_experts)
        @nnx.vmap(axis_size=num_experts, transform_metadata={nnx.PARTITION_NAME: "experts"})
        def make(rngs):
            return FeedForward(
                width, mlp_dim, norm_epsilon=norm_epsilon, dtype=dtype, init_std=init_std, rngs=rngs
            )

        self.stacked = make(rngs)

    def __call__(self, x, experts):
        """Sends branch g of `x` through expert `experts[g]`, all branches in one vmapped call.

        Args:
            x: [B, G, N, D].
            experts: G names out of "image", "text", "vision_language".

        Returns:
            [B, G, N, D].

        Raises:
            ValueError: the block holds no such expert.
        """
        if absent := sorted(set(experts) - set(self.names)):
            raise ValueError(
                f"experts {absent} are not in this block; it holds {', '.join(self.names)}"
            )
        x = constrain(
            x, "batch"
        )  # else a compiler may sum activations over `fsdp` rather than gather weights
        graphdef, params = nnx.split(self.stacked)
        chosen = [self.names.index(name) for name in experts]
        params = jax.tree.map(lambda p: jnp.stack([p[expert] for expert in chosen]), params)
        return jax.vmap(
            lambda p, tokens: nnx.merge(graphdef, p)(tokens), in_axes=(0, 1), out_axes=1
        )(params, x)

    def serve(self, x, expert):
        """Sends `x` [B, N, D] through the one expert named."""
        return self(x[:, None], (expert,))[:, 0]
