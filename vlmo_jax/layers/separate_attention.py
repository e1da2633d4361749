"""MoME blocks in which each modality has attention weights of its own: what shared attention is
compared with.

Source: VLMo, section 4.4 (the ablation "shared self-attention").
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.attention import Mask, SelfAttention, by_query, read_tokens
from vlmo_jax.layers.attention_paths import KeyValues, attend
from vlmo_jax.layers.linear import INIT_STD
from vlmo_jax.layers.modality_experts import EXPERTS
from vlmo_jax.layers.mome_block import MomeBlock, Spans

# Places on the stacked axis, those of the experts: an image's tokens and a text's.
MODALITIES = {name: EXPERTS[name] for name in ("image", "text")}


class SeparateAttention(nnx.Module):
    """Self-attention with weights stacked [2, ...], one set for images and one for texts: tokens of
    both meet in one softmax, by queries, keys, values and outputs of their own.

    Args:
        width, num_heads, path, dtype, init_std: as of SelfAttention.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        *,
        path: str = "xla",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        @nnx.split_rngs(splits=len(MODALITIES))
        @nnx.vmap(axis_size=len(MODALITIES), transform_metadata={nnx.PARTITION_NAME: "experts"})
        def make(rngs: nnx.Rngs) -> SelfAttention:
            return SelfAttention(width, num_heads, dtype=dtype, init_std=init_std, rngs=rngs)

        self.stacked, self.path = make(rngs), path

    def __call__(
        self,
        x: jax.Array,
        spans: Spans,
        *,
        mask: Mask = None,
        bias: jax.Array | None = None,
        read: jax.Array | None = None,
        gamma: jax.Array | None = None,
    ) -> jax.Array:
        """Attends from the tokens that are read to all tokens.

        Args:
            x: [B, N, D].
            spans: (modality, tokens) pairs that cover the N tokens in order.
            mask, bias, read, gamma: as of SelfAttention; all outputs are computed, whatever is
                read.

        Returns:
            [B, N or R, D] in the compute type.
        """
        attentions = [self._of(name) for name, _ in spans]
        ends = np.cumsum([length for _, length in spans])[:-1]
        parts = zip(attentions, jnp.split(x, ends, axis=1), strict=True)
        queries, seen = zip(*(one.project(part) for one, part in parts), strict=True)
        joined = KeyValues(*(jnp.concatenate(arrays, axis=2) for arrays in zip(*seen, strict=True)))
        bias = None if bias is None else bias[None]
        visible, q = by_query(mask), jnp.concatenate(queries, axis=2)
        sums = attend(q, joined, mask=visible, bias=bias, path=self.path)
        outputs = zip(attentions, jnp.split(sums, ends, axis=1), strict=True)
        y = jnp.concatenate([one.join(part, gamma=gamma) for one, part in outputs], axis=1)
        return y if read is None else read_tokens(y, read)

    def _of(self, modality: str) -> SelfAttention:
        """The attention of one modality."""
        graphdef, params = nnx.split(self.stacked)
        return nnx.merge(graphdef, jax.tree.map(lambda p: p[MODALITIES[modality]], params))


class SeparateBlock(MomeBlock):
    """A MoME block whose attention is a SeparateAttention.

    Args:
        num_experts, width, num_heads, mlp_dim, attention, options: as of MomeBlock.
    """

    def __init__(
        self,
        num_experts: int,
        width: int,
        num_heads: int,
        mlp_dim: int,
        *,
        attention: str = "xla",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        super().__init__(num_experts, width, num_heads, mlp_dim, **options, **layers)
        self.attention = SeparateAttention(width, num_heads, path=attention, **layers)

    def mix(self, x: jax.Array, spans: Spans, **options: Any) -> jax.Array:
        """Attention of normed tokens, by weights of their modality."""
        return self.attention(x, spans, **options)
