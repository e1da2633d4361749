"""A block of the MoME Transformer: shared attention, then switched experts.

Source: VLMo, section 3.1.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.attention import Mask, SelfAttention, read_tokens
from vlmo_jax.layers.attention_paths import KeyValues
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, drop_path, param
from vlmo_jax.layers.modality_experts import ModalityExperts
from vlmo_jax.parallel.sharding import constrain

# (expert, number of tokens) pairs that cover a sequence in order.
Spans = Sequence[tuple[str, int]]

# The order in which the spans of a sequence are dealt their random keys, however they are laid out.
DRAWING_ORDER = ("text", "image", "vision_language")


class MomeBlock(nnx.Module):
    """x += drop_path(gamma_1 attention(norm x)), then x += drop_path(gamma_2 expert(x)).

    Attention is shared by all modalities; see separate_attention.py for blocks in which it is not.

    Args:
        num_experts: E; see ModalityExperts.
        width, num_heads, mlp_dim, layer_scale, norm_epsilon, attention, dtype, init_std: see
            MomeTransformer.
    """

    def __init__(
        self,
        num_experts: int,
        width: int,
        num_heads: int,
        mlp_dim: int,
        *,
        layer_scale: float | None = None,
        norm_epsilon: float = 1e-6,
        attention: str = "xla",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.attention: Any = SelfAttention(width, num_heads, path=attention, **layers)
        self.experts = ModalityExperts(
            num_experts, width, mlp_dim, norm_epsilon=norm_epsilon, **layers
        )
        gamma = nnx.initializers.constant(layer_scale) if layer_scale else None
        self.attention_scale = param(gamma, (width,), (None,), rngs) if gamma else None
        self.expert_scale = param(gamma, (width,), (None,), rngs) if gamma else None

    @property
    def attention_gamma(self) -> jax.Array | None:
        """gamma_1 [D], or None."""
        return None if self.attention_scale is None else self.attention_scale[...]

    @property
    def expert_gamma(self) -> jax.Array | None:
        """gamma_2 [D], or None."""
        return None if self.expert_scale is None else self.expert_scale[...]

    def attend(
        self,
        x: jax.Array,
        *,
        mask: Mask,
        bias: jax.Array | None,
        rate: float | jax.Array,
        key: jax.Array | None,
        read: jax.Array | None = None,
        spans: Spans = (),
    ) -> jax.Array:
        """The attention half.

        Args:
            x: [B, N, D].
            mask, bias, read: see SelfAttention.
            rate: drop-path rate.
            key: random key; None turns drop-path off.
            spans: which modality each token is of, for `mix`.

        Returns:
            [B, N or R, D].
        """
        with jax.named_scope("attention"):
            gamma = self.attention_gamma
            y = self.mix(self.norm(x), spans, mask=mask, bias=bias, read=read, gamma=gamma)
        x = x if read is None else read_tokens(x, read)
        return constrain(x + drop_path(y, rate, key), "batch")

    def mix(self, x: jax.Array, spans: Spans, **options: Any) -> jax.Array:
        """Attention of normed tokens, the same whatever modality they are of."""
        return self.attention(x, **options)

    def extend(
        self,
        x: jax.Array,
        expert: str,
        cache: KeyValues,
        position: int | jax.Array,
        *,
        mask: jax.Array,
        bias: jax.Array | None,
    ) -> tuple[jax.Array, KeyValues]:
        """Both halves for the next tokens [B, S, D] of a sequence, all of one expert, without
        drop-path; the other arguments, and what is returned, as of `SelfAttention.extend`.
        """
        y, cache = self.attention.extend(
            self.norm(x), cache, position, mask=mask, bias=bias, gamma=self.attention_gamma
        )
        x = constrain(x + y, "batch")
        return self.feed(x, ((expert, x.shape[1]),), rate=0.0, key=None), cache

    def feed(
        self, x: jax.Array, spans: Spans, *, rate: float | jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """The expert half for a sequence of spans, each served by one expert.

        Args:
            x: [B, N, D].
            spans: (expert name, number of tokens) pairs that cover the N tokens in order. Each span
                draws its own drop-path mask.
            rate, key: as in `attend`.

        Returns:
            [B, N, D].
        """
        ends = np.cumsum([length for _, length in spans])
        parts = jnp.split(x, ends[:-1], axis=1) if len(spans) > 1 else [x]
        fed = []
        for (expert, _), part, part_key in zip(spans, parts, _deal(key, spans), strict=True):
            with jax.named_scope(f"{expert}_expert"):
                y = self.experts.serve(part, expert, gamma=self.expert_gamma)
            fed.append(part + drop_path(y, rate, part_key))
        return constrain(jnp.concatenate(fed, axis=1) if len(fed) > 1 else fed[0], "batch")

    def feed_branches(
        self,
        x: jax.Array,
        experts: Sequence[str],
        *,
        rate: float | jax.Array,
        key: jax.Array | None,
    ) -> jax.Array:
        """The expert half for G branches.

        Args:
            x: [B, G, N, D].
            experts: G names; `experts[g]` serves branch g, which draws its own drop-path mask.
            rate, key: as in `attend`.

        Returns:
            [B, G, N, D].
        """
        with jax.named_scope("experts"):
            y = self.experts(x, experts, gamma=self.expert_gamma)
        if key is not None:
            keys = jax.random.split(key, len(experts))
            dropped = [drop_path(y[:, g], rate, keys[g]) for g in range(len(experts))]
            y = jnp.stack(dropped, axis=1)
        return constrain(x + y, "batch")


def _deal(key, spans):
    """A key for each span; which one hangs on its modality and not on its place."""
    if key is None:
        return [None] * len(spans)
    order = sorted(range(len(spans)), key=lambda place: DRAWING_ORDER.index(spans[place][0]))
    keys = jax.random.split(key, len(spans))
    return [keys[order.index(place)] for place in range(len(spans))]
