"""BEiT: the model of stage 1, masked image modelling on images alone.

Source: "BEiT: BERT Pre-Training of Image Transformers", arXiv 2106.08254, and its official code.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.fields import Extra, Flag, Kind, Number
from vlmo_jax.layers import relative_position
from vlmo_jax.layers.embeddings import ImageEmbedding
from vlmo_jax.layers.linear import INIT_STD, Linear
from vlmo_jax.layers.transformer import MomeTransformer
from vlmo_jax.models.sizes import (
    TRANSFORMER_FIELDS,
    MeshShape,
    check_transformer,
    check_vocabulary,
)

# What tells tokens their place: a bias on attention logits, embeddings added to the tokens, or
# both.
POSITIONS = ("relative", "absolute", "both")

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    **TRANSFORMER_FIELDS,
    "shared_table": Extra(Flag()),
    "norm_epsilon": Extra(Number(above=0)),
}


class BEiT(nnx.Module):
    """A MoME Transformer with image experts only, that predicts a visual token for each hidden
    patch.

    What VLMo has too lies at the same paths; there is no modality type embedding.

    Args:
        image_size, patch_size: pixels a side; the size divides by the patch.
        vocab_size: V, codes of the visual tokenizer.
        width, depth, num_heads, mlp_dim, num_upper, layer_scale, drop_path_rate, remat,
            scan_layers, attention, dtype, init_std: see models.vlmo.VLMo. `num_upper` only says how
            blocks are stored, in the stacks `lower` and `upper`.
        position: one of POSITIONS.
        shared_table: one relative position table for all layers instead of one a layer.
        norm_epsilon: of all norms.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        vocab_size: int,
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
        rngs: nnx.Rngs,
    ) -> None:
        self.grid, self.relative = image_size // patch_size, position in ("relative", "both")
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.image_embedding = ImageEmbedding(
            image_size,
            patch_size,
            width,
            positions=position in ("absolute", "both"),
            mask_token=True,
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
            drop_path_rate=drop_path_rate,
            remat=remat,
            scan_layers=scan_layers,
            attention=attention,
            **layers,
        )
        shrink_with_depth(self.transformer)
        self.mim_head = Linear(width, vocab_size, axes=("embed", "vocab"), **layers)

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
            [B, P or R, D], after the final norm.
        """
        x = self.image_embedding(image, hidden)
        index = relative_position.image_index(self.grid) if self.relative else None
        return self.transformer(
            x, (("image", x.shape[1]),), ("image",), index=index, read=read, key=key
        )[:, 0]

    def patch_states(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> states of the patches, row by row, after the last norm [B, P - 1, D]."""
        return self.encode_image(image)[:, 1:]

    def predict_masked(
        self, image: jax.Array, masked_positions: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Hides patches and predicts their visual tokens; the last block and the head compute no
        other place.

        Args:
            image: [B, S, S, 3], normalised.
            masked_positions: [B, M] int32, numbers of the hidden patches row by row; -1: unused,
                whose logits mean nothing.
            key: turns drop-path on.

        Returns:
            [B, M, V] float32.
        """
        hidden = (masked_positions[:, :, None] == jnp.arange(self.grid**2)[None, None]).any(axis=1)
        # Patch n is token n + 1, behind the class token, which the unused places read.
        states = self.encode_image(image, hidden=hidden, read=masked_positions + 1, key=key)
        return self.mim_head(states).astype(jnp.float32)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a BEiT that is impossible, or does not lie on the mesh; see vlmo_fields.py."""
    check_transformer(fields, mesh_shape)
    check_vocabulary(fields, mesh_shape)


def shrink_with_depth(transformer: MomeTransformer) -> None:
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
