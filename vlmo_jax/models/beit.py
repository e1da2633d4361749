"""BEiT: the model of stage 1, masked image modelling on images alone.

Source: "BEiT: BERT Pre-Training of Image Transformers", arXiv 2106.08254, and its official code.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.fields import Extra, Flag, Kind, Number
from vlmo_jax.layers.linear import INIT_STD, Linear
from vlmo_jax.models.image_transformer import ImageTransformer
from vlmo_jax.models.sizes import TRANSFORMER_FIELDS, MeshShape, check_transformer, check_vocabulary

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    **TRANSFORMER_FIELDS,
    "shared_table": Extra(Flag()),
    "norm_epsilon": Extra(Number(above=0)),
}


class BEiT(ImageTransformer):
    """An image encoder that predicts a visual token for each hidden patch.

    Args:
        vocab_size: V, codes of the visual tokenizer.
        width, dtype, init_std, **encoder: see ImageTransformer.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        width: int,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
        **encoder: Any,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        super().__init__(width=width, mask_token=True, final_norm=True, **layers, **encoder)
        self.mim_head = Linear(width, vocab_size, axes=("embed", "vocab"), **layers)

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
