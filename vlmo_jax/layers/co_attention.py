"""Co-attention: two streams of tokens, each of which attends to the other.

Source: "ViLBERT: Pretraining Task-Agnostic Visiolinguistic Representations", arXiv 1908.02265,
section 2.2; the official `BertConnectionLayer`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.attention import CrossAttention
from vlmo_jax.layers.feed_forward import FeedForward
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, dropout, split_key
from vlmo_jax.parallel.sharding import constrain


class Stream(NamedTuple):
    """Sizes of a stream.

    Attributes:
        width: D of its tokens.
        mlp_dim: F of the feed-forward half of its blocks.
    """

    width: int
    mlp_dim: int


class Streams(NamedTuple):
    """The tokens of both streams.

    Attributes:
        vision: [B, R, D].
        text: [B, T, D'].
    """

    vision: jax.Array
    text: jax.Array


class OneSide(nnx.Module):
    """A stream's half of co-attention: x = norm(x + attention(x, the other)), then
    x = norm(x + feed_forward(x)).

    Args:
        stream: sizes of the stream whose tokens attend.
        other_width: of the tokens that they attend to.
        num_heads: H.
        head_width: K.
        dropout_rate: of what each half adds.
        norm_epsilon: of both norms.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        stream: Stream,
        other_width: int,
        num_heads: int,
        head_width: int,
        *,
        dropout_rate: float,
        norm_epsilon: float,
        dtype: DTypeLike,
        init_std: float,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.dropout_rate = dropout_rate
        self.attention = CrossAttention(
            stream.width, other_width, num_heads, head_width=head_width, **layers
        )
        self.attention_norm = LayerNorm(stream.width, epsilon=norm_epsilon, rngs=rngs)
        self.feed_forward = FeedForward(stream.width, stream.mlp_dim, norm_epsilon=None, **layers)
        self.output_norm = LayerNorm(stream.width, epsilon=norm_epsilon, rngs=rngs)

    def __call__(
        self, x: jax.Array, other: jax.Array, other_mask: jax.Array, key: jax.Array | None
    ) -> jax.Array:
        """[B, N, D], [B, M, D'] and [B, M] bool -> [B, N, D]; `key` turns dropout on."""
        keys = split_key(key, 2)
        y = self.attention(x, other, mask=other_mask)
        x = self.attention_norm(x + dropout(y, self.dropout_rate, keys[0]))
        y = self.feed_forward(x)
        return constrain(self.output_norm(x + dropout(y, self.dropout_rate, keys[1])), "batch")


class CoAttentionBlock(nnx.Module):
    """A block in which both streams attend to each other at once, in a width of its own.

    Args:
        vision, text: sizes of the streams.
        width: of queries, keys and values of all heads together.
        num_heads: H; heads are `width` / H wide.
        dropout_rate: of what each half of each side adds.
        norm_epsilon: of all norms.
        dtype: compute type.
        init_std: deviation that matrices start from.

    The official dropout of attention weights is left out, as everywhere here.
    """

    def __init__(
        self,
        vision: Stream,
        text: Stream,
        *,
        width: int,
        num_heads: int,
        dropout_rate: float = 0.0,
        norm_epsilon: float = 1e-12,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        sizes: dict[str, Any] = dict(num_heads=num_heads, head_width=width // num_heads)
        others: dict[str, Any] = dict(
            dropout_rate=dropout_rate,
            norm_epsilon=norm_epsilon,
            dtype=dtype,
            init_std=init_std,
            rngs=rngs,
        )
        self.vision = OneSide(vision, text.width, **sizes, **others)
        self.text = OneSide(text, vision.width, **sizes, **others)

    def __call__(
        self,
        streams: Streams,
        *,
        region_mask: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> Streams:
        """Runs the block.

        Args:
            streams: the tokens.
            region_mask: [B, R] bool, regions that may be seen.
            token_mask: [B, T] bool, tokens of the text that may be seen.
            key: turns dropout on.
        """
        vision_key, text_key = split_key(key, 2)
        return Streams(
            vision=self.vision(streams.vision, streams.text, token_mask, vision_key),
            text=self.text(streams.text, streams.vision, region_mask, text_key),
        )
