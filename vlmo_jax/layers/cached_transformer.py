"""The MoME Transformer token by token: keys and values of what was read are kept."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.layers.attention_paths import KeyValues
from vlmo_jax.layers.mome_block import MomeBlock
from vlmo_jax.layers.relative_position import position_bias
from vlmo_jax.layers.transformer import MomeTransformer


class Cache(NamedTuple):
    """Keys and values of all blocks, [layers, B, H, L, K] each.

    Attributes:
        lower, upper: of the lower and of the upper blocks.
    """

    lower: KeyValues
    upper: KeyValues

    @property
    def length(self) -> int:
        """L, places of a sequence."""
        return self.lower.keys.shape[-2]


def empty_cache(transformer: MomeTransformer, batch_size: int, length: int) -> Cache:
    """The cache for sequences of up to `length` tokens, of zeros."""

    def zeros(blocks: MomeBlock) -> KeyValues:
        layers, num_heads, head_width = blocks.attention.q_bias.shape
        empty = jnp.zeros(
            (layers, batch_size, num_heads, length, head_width), blocks.attention.dtype
        )
        return KeyValues(empty, empty)

    return Cache(zeros(transformer.lower), zeros(transformer.upper))


def extend(
    transformer: MomeTransformer,
    x: jax.Array,
    expert: str,
    upper_expert: str,
    cache: Cache,
    position: int | jax.Array,
    *,
    mask: jax.Array | np.ndarray,
    index: np.ndarray | None,
) -> tuple[jax.Array, Cache]:
    """Runs the next tokens of a sequence through all blocks and the final norm, if there is one.

    The states are those of a call with the whole sequence, the same mask and the same index.

    Args:
        transformer: the blocks.
        x: [B, S, D], tokens `position` .. `position` + S - 1 of the sequence, all of one kind.
        expert, upper_expert: that serve them in the lower and in the upper blocks.
        cache: of `empty_cache`, or of the call before; L places.
        position: of the first token of `x`; may be traced.
        mask: [1, L, L] bool of the whole sequence, query by key. No token of `x` may see a place
            that is not filled yet.
        index: int32 [L, L], rows of the relative position table; None: there is none.

    Returns:
        [B, S, D], and the cache with the keys and values of `x`.
    """
    rows = lambda a, axis: jax.lax.dynamic_slice_in_dim(
        jnp.asarray(a), position, x.shape[1], axis=axis
    )
    seen = rows(mask, 1)
    offsets: Any = None if index is None else rows(index, 0)
    tables, num_lower = transformer.tables(), transformer.depth - transformer.num_upper

    def run(x: jax.Array, blocks: MomeBlock, cached: KeyValues, name: str, start: int):
        graphdef, params = nnx.split(blocks)

        def apply(x: jax.Array, layer: tuple) -> tuple[jax.Array, KeyValues]:
            block_params, block_cache, table = layer
            block = nnx.merge(graphdef, block_params)
            bias = None if table is None else position_bias(table, offsets)
            return block.extend(x, name, block_cache, position, mask=seen, bias=bias)

        size = cached.keys.shape[0]
        own = None if tables is None else tables[start : start + size]
        return jax.lax.scan(apply, x, (params, cached, own), unroll=not transformer.scan_layers)

    x, lower = run(x, transformer.lower, cache.lower, expert, 0)
    x, upper = run(x, transformer.upper, cache.upper, upper_expert, num_lower)
    return x if transformer.norm is None else transformer.norm(x), Cache(lower, upper)
