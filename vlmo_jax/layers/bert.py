"""BERT: embeddings and blocks, the last of which may read a memory, as the fusion layers of ALBEF
do.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.blocks import PostNormBlock, Stack
from vlmo_jax.layers.embeddings import TextEmbedding
from vlmo_jax.layers.linear import INIT_STD, split_key


class Bert(nnx.Module):
    """The states of texts, after BERT's last block, and of texts that have read a memory.

    Args:
        vocab_size: V.
        width: D.
        depth: of blocks that read the text alone.
        num_heads: H.
        mlp_dim: F.
        positions: rows of the position table, the longest text.
        fusion_depth: of blocks after them that also read a memory; 0: none.
        memory_width: D' of the memory; None: D.
        pad_id: token that pads texts.
        dropout_rate: of the embedding and of what each part of a block adds.
        remat, scan_layers: see Stack.
        dtype: compute type.
        init_std: deviation that matrices and tables start from.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        positions: int,
        fusion_depth: int = 0,
        memory_width: int | None = None,
        pad_id: int = 0,
        dropout_rate: float = 0.0,
        remat: str = "none",
        scan_layers: bool = True,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dropout_rate=dropout_rate, dtype=dtype, init_std=init_std)

        def stack(depth: int, memory_width: int | None) -> Stack:
            def block(rngs: nnx.Rngs) -> PostNormBlock:
                return PostNormBlock(
                    width, num_heads, mlp_dim, memory_width=memory_width, rngs=rngs, **layers
                )

            return Stack(depth, block, remat=remat, scan_layers=scan_layers, rngs=rngs)

        self.embedding = TextEmbedding(
            vocab_size, width, positions=positions, pad_id=pad_id, rngs=rngs, **layers
        )
        self.blocks = stack(depth, None)
        self.fusion = stack(fusion_depth, memory_width or width) if fusion_depth else None

    def __call__(
        self,
        token_ids: jax.Array,
        token_mask: jax.Array,
        *,
        segments: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """States after the blocks that read the text alone.

        Args:
            token_ids: [B, T] int32.
            token_mask: [B, T] bool, or another mask of attention.py.
            segments: [B, T] int32, rows of the segment table; None: row 0.
            key: turns dropout on.

        Returns:
            [B, T, D].
        """
        embed_key, block_key = split_key(key, 2)
        x = self.embedding(token_ids, embed_key, segments=segments)
        return self.blocks(x, mask=token_mask, key=block_key)

    def fuse(
        self,
        states: jax.Array,
        token_mask: jax.Array,
        memory: jax.Array,
        *,
        memory_mask: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """States after the blocks that read a memory too.

        Args:
            states: [B, T, D] of a call.
            token_mask: [B, T] bool.
            memory: [B, M, D'].
            memory_mask: [B, M] bool; None: all places may be seen.
            key: turns dropout on.

        Returns:
            [B, T, D].
        """
        assert self.fusion is not None, "this BERT was made without blocks that read a memory"
        return self.fusion(states, mask=token_mask, memory=memory, memory_mask=memory_mask, key=key)
