"""The image encoder of VLMo and BEiT with a head for classes.

Source: BEiT, arXiv 2106.08254, section 3.1, and the official code, `modeling_finetune.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.fields import Extra, Flag, Kind, Number
from vlmo_jax.layers import relative_position
from vlmo_jax.layers.embeddings import ImageEmbedding
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear
from vlmo_jax.layers.transformer import MomeTransformer
from vlmo_jax.models.beit import POSITIONS, shrink_with_depth
from vlmo_jax.models.sizes import SIZE, TRANSFORMER_FIELDS, MeshShape, check_transformer

HEAD_SCALE = 0.001  # of the deviation that all matrices start from

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    **{name: kind for name, kind in TRANSFORMER_FIELDS.items() if name != "vocab_size"},
    "num_classes": SIZE,
    "shared_table": Extra(Flag()),
    "norm_epsilon": Extra(Number(above=0)),
}


class ImageClassifier(nnx.Module):
    """A MoME Transformer with image experts only; the mean of its patches is normed and classified.

    The class token is there, as in pre-training, and nothing reads it. No norm stands between the
    last block and the mean. What VLMo and BEiT have too lies at the same paths.

    Args:
        num_classes: K.
        image_size, patch_size, width, depth, num_heads, mlp_dim, num_upper, position, shared_table,
            layer_scale, norm_epsilon, drop_path_rate, remat, scan_layers, attention, dtype,
            init_std: see models.beit.BEiT.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_classes: int,
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
        assert position in POSITIONS
        self.grid, self.relative = image_size // patch_size, position in ("relative", "both")
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.image_embedding = ImageEmbedding(
            image_size, patch_size, width, positions=position in ("absolute", "both"), **layers
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
            final_norm=False,
            drop_path_rate=drop_path_rate,
            remat=remat,
            scan_layers=scan_layers,
            attention=attention,
            **layers,
        )
        shrink_with_depth(self.transformer)
        self.pool_norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.head = Linear(
            width,
            num_classes,
            axes=("embed", None),
            dtype=dtype,
            init_std=HEAD_SCALE * init_std,
            rngs=rngs,
        )

    def block_states(
        self, image: jax.Array, blocks: Sequence[int], key: jax.Array | None = None
    ) -> list[jax.Array]:
        """What chosen blocks give.

        Args:
            image: [B, S, S, 3], normalised.
            blocks: numbers of the blocks, 0 .. depth - 1.
            key: turns drop-path on.

        Returns:
            The states [B, P, D] after each of these blocks; the class token is the first.
        """
        x, spans = self._embed(image)
        index = self._index
        return self.transformer.block_states(x, spans, "image", blocks, index=index, key=key)

    def pool(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Images [B, S, S, 3] to the normed mean of their patches [B, D]; `key` turns drop-path
        on.
        """
        x, spans = self._embed(image)
        states = self.transformer(x, spans, ("image",), index=self._index, key=key)[:, 0]
        return self.pool_norm(states[:, 1:].mean(axis=1))

    def class_logits(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Logits of the classes [B, K] float32 of images [B, S, S, 3]; `key` turns drop-path on."""
        return self.head(self.pool(image, key)).astype(jnp.float32)

    @property
    def _index(self):
        return relative_position.image_index(self.grid) if self.relative else None

    def _embed(self, image):
        x = self.image_embedding(image)
        return x, (("image", x.shape[1]),)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a classifier that is impossible, or does not lie on the mesh."""
    check_transformer(fields, mesh_shape)
