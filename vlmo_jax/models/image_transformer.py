"""What BEiT and the models that are fine-tuned from it share: an image encoder that starts as
BEiT's.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers import relative_position
from vlmo_jax.layers.embeddings import ImageEmbedding
from vlmo_jax.layers.linear import INIT_STD
from vlmo_jax.layers.transformer import MomeTransformer

# What tells tokens their place: a bias on attention logits, embeddings added to the tokens, or
# both.
POSITIONS = ("relative", "absolute", "both")


class ImageTransformer(nnx.Module):
    """The embedding of an image and a MoME Transformer with image experts only.

    What VLMo has too lies at the same paths; there is no modality type embedding.

    Args:
        image_size, patch_size: pixels a side; the size divides by the patch.
        width, depth, num_heads, mlp_dim, num_upper, layer_scale, drop_path_rate, remat,
            scan_layers, attention, dtype, init_std: see models.vlmo.VLMo. `num_upper` only says how
            blocks are stored, in the stacks `lower` and `upper`.
        position: one of POSITIONS.
        shared_table: one relative position table for all layers instead of one a layer.
        norm_epsilon: of all norms.
        mask_token: whether patches can be hidden.
        final_norm: whether a norm stands behind the last block.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        num_upper: int,
        position: str = "relative",
        shared_table: bool = False,
        layer_scale: float | None = None,
        norm_epsilon: float = 1e-6,
        drop_path_rate: float = 0.0,
        remat: str = "none",
        scan_layers: bool = True,
        attention: str = "auto",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        mask_token: bool,
        final_norm: bool,
        rngs: nnx.Rngs,
    ) -> None:
        assert position in POSITIONS
        self.grid, self.relative = image_size // patch_size, position in ("relative", "both")
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.image_embedding = ImageEmbedding(
            image_size,
            patch_size,
            width,
            positions=position in ("absolute", "both"),
            mask_token=mask_token,
            **layers,
        )
        self.transformer = MomeTransformer(
            depth,
            num_upper,
            width,
            num_heads,
            mlp_dim,
            lower_experts=1,
            upper_experts=1,
            layer_scale=layer_scale,
            table_rows=relative_position.num_image_rows(self.grid) if self.relative else None,
            shared_table=shared_table,
            norm_epsilon=norm_epsilon,
            final_norm=final_norm,
            drop_path_rate=drop_path_rate,
            remat=remat,
            scan_layers=scan_layers,
            attention=attention,
            **layers,
        )
        _shrink_with_depth(self.transformer)

    def encode_image(
        self,
        image: jax.Array,
        *,
        hidden: jax.Array | None = None,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes images.

        Args:
            image: [B, S, S, 3], normalised.
            hidden: [B, P-1] bool, patches that the mask token replaces; None: none.
            read: [B, R] int32, tokens that are read (0 is the class token); None: all.
            key: turns drop-path on.

        Returns:
            [B, P or R, D], after the final norm if there is one.
        """
        x = self.image_embedding(image, hidden)
        spans = (("image", x.shape[1]),)
        return self.transformer(x, spans, ("image",), index=self._index(), read=read, key=key)[:, 0]

    def block_states(
        self, image: jax.Array, blocks: Sequence[int], key: jax.Array | None = None
    ) -> list[jax.Array]:
        """What chosen blocks give.

        Args:
            image: [B, S, S, 3], normalised.
            blocks: numbers of the blocks, 0 .. depth - 1; -1 is what goes into the first.
            key: turns drop-path on.

        Returns:
            The states [B, P, D] after each of these blocks; the class token is the first.
        """
        x = self.image_embedding(image)
        chosen = [block for block in blocks if block >= 0]
        states = self.transformer.block_states(
            x, (("image", x.shape[1]),), "image", chosen, index=self._index(), key=key
        )
        by_block = dict(zip(chosen, states, strict=True)) | {-1: x}
        return [by_block[block] for block in blocks]

    def _index(self) -> np.ndarray | None:
        return relative_position.image_index(self.grid) if self.relative else None


def _shrink_with_depth(transformer: MomeTransformer) -> None:
    """Divides what block l adds to the residual stream at the start by sqrt(2 l), l from 1: BEiT's
    own initialisation.
    """
    number = 1
    for stack, size in (
        (transformer.lower, transformer.depth - transformer.num_upper),
        (transformer.upper, transformer.num_upper),
    ):
        factors = 1 / np.sqrt(2.0 * (number + np.arange(size, dtype=np.float32)))
        for matrix in (stack.attention.out, stack.experts.stacked.down.kernel):
            matrix[...] *= factors.reshape(-1, *[1] * (matrix.ndim - 1)).astype(np.float32)
        number += size
