"""The image encoder of VLMo and BEiT with a head for classes.

Source: BEiT, arXiv 2106.08254, section 3.1, and the official code, `modeling_finetune.py`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.fields import Extra, Flag, Kind, Number
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear
from vlmo_jax.models.image_transformer import ImageTransformer
from vlmo_jax.models.sizes import SIZE, TRANSFORMER_FIELDS, MeshShape, check_transformer

HEAD_SCALE = 0.001  # of the deviation that all matrices start from

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    **{name: kind for name, kind in TRANSFORMER_FIELDS.items() if name != "vocab_size"},
    "num_classes": SIZE,
    "shared_table": Extra(Flag()),
    "norm_epsilon": Extra(Number(above=0)),
}


class ImageClassifier(ImageTransformer):
    """An image encoder; the mean of its patches is normed and classified.

    The class token is there, as in pre-training, and nothing reads it. No norm stands between the
    last block and the mean.

    Args:
        num_classes: K.
        width, norm_epsilon, dtype, init_std, **encoder: see ImageTransformer.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        width: int,
        norm_epsilon: float = 1e-6,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
        **encoder: Any,
    ) -> None:
        encoder |= dict(width=width, norm_epsilon=norm_epsilon, dtype=dtype, init_std=init_std)
        super().__init__(mask_token=False, final_norm=False, rngs=rngs, **encoder)
        self.pool_norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.head = Linear(
            width,
            num_classes,
            axes=("embed", None),
            dtype=dtype,
            init_std=HEAD_SCALE * init_std,
            rngs=rngs,
        )

    def pool(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Images [B, S, S, 3] to the normed mean of their patches [B, D]; `key` turns drop-path
        on.
        """
        return self.pool_norm(self.encode_image(image, key=key)[:, 1:].mean(axis=1))

    def class_logits(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits of the classes [B, K] float32 of images [B, S, S, 3]; `key` turns drop-path on."""
        return self.head(self.pool(image, key)).astype(jnp.float32)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a classifier that is impossible, or does not lie on the mesh."""
    check_transformer(fields, mesh_shape)
