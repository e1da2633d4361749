"""A VLMo whose answers and judgements come from separate vectors of images and texts: the dual
encoder that fusion is compared with.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.config_errors import require
from vlmo_jax.layers.heads import Classifier
from vlmo_jax.layers.linear import INIT_STD
from vlmo_jax.models import vlmo, vlmo_fields
from vlmo_jax.models.sizes import MeshShape

# Heads of a VLMo that read a fused token there, and here the first tokens of so many passes.
PASSES = {"vqa": 2, "nlvr2": 3}


class DualVLMo(vlmo.VLMo):
    """As VLMo, but `answer` and `compare` read the first tokens of images and texts that were
    encoded on their own, by the experts of the two modalities, beside each other. No token of a
    text ever meets one of an image before the head.

    Args:
        width, heads, num_answers, dtype, init_std, rngs, sizes: as of VLMo. Each image of NLVR2
            has a place of its own in what the head reads, and needs no modality type of its own.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: Sequence[str],
        num_answers: int = 3129,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
        **sizes: Any,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        others = tuple(head for head in heads if head not in PASSES)
        super().__init__(width=width, heads=others, **sizes, **layers)
        classes = {"vqa": num_answers, "nlvr2": 2}
        for head in (head for head in PASSES if head in heads):
            built = Classifier(PASSES[head] * width, 2 * width, classes[head], **layers)
            setattr(self, f"{head}_head", nnx.data(built))  # None until now

    def answer(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """See `VLMo.answer`: [B, num_answers] float32."""
        image_key, text_key = (None, None) if key is None else jax.random.split(key)
        vectors = [
            self._image_vector(image, image_key),
            self._text_vector(token_ids, token_mask, text_key),
        ]
        return self.vqa_head(jnp.concatenate(vectors, axis=-1))

    def compare(
        self,
        image_0: jax.Array,
        image_1: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """See `VLMo.compare`: [B, 2] float32, false and true."""
        keys = (None, None, None) if key is None else jax.random.split(key, 3)
        vectors = [
            self._image_vector(image_0, keys[0]),
            self._image_vector(image_1, keys[1]),
            self._text_vector(token_ids, token_mask, keys[2]),
        ]
        return self.nlvr2_head(jnp.concatenate(vectors, axis=-1))

    def _image_vector(self, image, key):
        x = self.embed_image(image)
        return self.encode_image(x, read=vlmo.first_token(len(x)), key=key)[:, 0, 0]

    def _text_vector(self, token_ids, token_mask, key):
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        x = self.embed_text(token_ids, embed_key)
        return self.encode_text(x, token_mask, read=vlmo.first_token(len(x)), key=encode_key)[
            :, 0, 0
        ]


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a dual encoder that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    heads = fields.get("heads", ())
    require(
        bool(set(heads) & set(PASSES)),
        f"config.model.heads={tuple(heads)} has none of {', '.join(PASSES)}, which a dual_vlmo is"
        " made for; use config.model.kind='vlmo' for others",
    )
    vlmo_fields.check_sizes(
        {**fields, "heads": tuple(h for h in heads if h not in PASSES)}, mesh_shape
    )
