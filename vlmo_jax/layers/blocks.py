"""Plain Transformer blocks, with the norm before or after each half, and stacks of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.attention import CrossAttention, SelfAttention
from vlmo_jax.layers.feed_forward import FeedForward
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, dropout, gelu, split_key
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.parallel.sharding import constrain


class PreNormBlock(nnx.Module):
    """x += attention(norm x), then x += feed_forward(norm x): a block of ViT and of CLIP.

    Args:
        width: D.
        num_heads: H.
        mlp_dim: F.
        activation: of the feed-forward half.
        norm_epsilon: of both norms.
        dropout_rate: of what each half adds.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        *,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        norm_epsilon: float = 1e-6,
        dropout_rate: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.dropout_rate = dropout_rate
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.attention = SelfAttention(width, num_heads, key_bias=True, **layers)
        self.feed_forward = FeedForward(
            width, mlp_dim, activation=activation, norm_epsilon=norm_epsilon, **layers
        )

    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | np.ndarray | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, N, D] -> [B, N, D]; `mask` as in attention.py, `key` turns dropout on."""
        attend_key, feed_key = split_key(key, 2)
        x = x + dropout(self.attention(self.norm(x), mask=mask), self.dropout_rate, attend_key)
        x = x + dropout(self.feed_forward(x), self.dropout_rate, feed_key)
        return constrain(x, "batch")


class PostNormBlock(nnx.Module):
    """x = norm(x + attention(x)), then x = norm(x + feed_forward(x)): a block of BERT.

    With a memory, x = norm(x + cross_attention(x, memory)) stands between the halves, as in ALBEF.

    Args:
        width, num_heads, mlp_dim, activation, dropout_rate, dtype, init_std: as of PreNormBlock.
        memory_width: D' of the memory; None: no cross-attention.
        norm_epsilon: of all norms.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_dim: int,
        *,
        memory_width: int | None = None,
        activation: Callable[[jax.Array], jax.Array] = gelu,
        norm_epsilon: float = 1e-12,
        dropout_rate: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.dropout_rate = dropout_rate
        self.attention = SelfAttention(width, num_heads, key_bias=True, **layers)
        self.attention_norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.cross_attention = (
            None
            if memory_width is None
            else CrossAttention(width, memory_width, num_heads, **layers)
        )
        self.cross_norm = (
            None if memory_width is None else LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        )
        self.feed_forward = FeedForward(
            width, mlp_dim, activation=activation, norm_epsilon=None, **layers
        )
        self.output_norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)

    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | np.ndarray | None = None,
        memory: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Runs the block.

        Args:
            x: [B, N, D].
            mask: see attention.py.
            memory: [B, M, D'], exactly where the block was made for one.
            memory_mask: [B, M] bool; None: all places may be seen.
            key: turns dropout on.

        Returns:
            [B, N, D].
        """
        keys = split_key(key, 3)
        drop = lambda y, key: dropout(y, self.dropout_rate, key)
        x = self.attention_norm(x + drop(self.attention(x, mask=mask), keys[0]))
        if self.cross_attention is not None and self.cross_norm is not None:
            assert memory is not None, "this block was made for a memory"
            y = self.cross_attention(x, memory, mask=memory_mask)
            x = self.cross_norm(x + drop(y, keys[1]))
        x = self.output_norm(x + drop(self.feed_forward(x), keys[2]))
        return constrain(x, "batch")


class Stack(nnx.Module):
    """Blocks of one kind, one after the other, whose parameters lie stacked on an axis `layers`.

    Args:
        depth: of blocks.
        make: function of nnx.Rngs that returns a block.
        remat: a name in REMAT_POLICIES.
        scan_layers: False unrolls the blocks.
    """

    def __init__(
        self,
        depth: int,
        make: Callable[[nnx.Rngs], nnx.Module],
        *,
        remat: str = "none",
        scan_layers: bool = True,
        rngs: nnx.Rngs,
    ) -> None:
        self.depth, self.remat, self.scan_layers = depth, remat, scan_layers

        @nnx.split_rngs(splits=depth)
        @nnx.vmap(axis_size=depth, transform_metadata={nnx.PARTITION_NAME: "layers"})
        def make_all(rngs: nnx.Rngs) -> nnx.Module:
            return make(rngs)

        self.blocks = make_all(rngs)

    def __call__(
        self, x: Any, *, key: jax.Array | None = None, part: range | None = None, **inputs: Any
    ) -> Any:
        """Runs all blocks, or some that follow each other.

        Args:
            x: [B, N, D], or whatever the blocks take and give.
            key: turns dropout on; each block draws its own.
            part: numbers of the blocks to run; None: all.
            inputs: what every block is given beside them, such as `mask`.

        Returns:
            As `x`.
        """
        part = range(self.depth) if part is None else part
        scanned = self.scan_layers and len(part) > 1
        graphdef, blocks = nnx.split(self.blocks)

        def apply(x: Any, layer: tuple) -> tuple[Any, None]:
            params, number = layer
            block_key = None if key is None else jax.random.fold_in(key, number)
            return nnx.merge(graphdef, params)(x, key=block_key, **inputs), None

        if self.remat != "none":
            policy = REMAT_POLICIES[self.remat]
            apply = jax.checkpoint(apply, policy=policy, prevent_cse=not scanned)
        layers = (blocks, np.arange(self.depth))
        if scanned:
            if len(part) < self.depth:
                layers = jax.tree.map(lambda leaf: leaf[part.start : part.stop], layers)
            return jax.lax.scan(apply, x, layers)[0]
        for number in part:
            x, _ = apply(x, layer_of(layers, number))
        return x


def layer_of(stacked: Any, number: int) -> Any:
    """Layer `number` of a tree of arrays [layers, ...]."""
    return jax.tree.map(lambda leaf: leaf[number], stacked)
