"""A dual encoder, and beside it a model that matches what it finds, with parameters of its own.

Matching that shares its blocks with the dual encoder errs where that does. Here each has its own
embeddings and blocks, learned from the same batches, and their scores are added.
"""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.layers.linear import split_key
from vlmo_jax.models import late_vlmo, memory, vlmo
from vlmo_jax.models.late_vlmo import Encoded
from vlmo_jax.models.sizes import MeshShape

# The heads of each part.
PARTS = {"dual": ("retrieval",), "matcher": ("itm",)}
HEADS = tuple(head for heads in PARTS.values() for head in heads)


class TwinVLMo(nnx.Module):
    """A VLMo that gives images and texts vectors, and a LateVLMo of the same sizes that matches.

    Args:
        heads: HEADS.
        fields: as of VLMo.
    """

    def __init__(self, *, heads: tuple[str, ...] = HEADS, rngs: nnx.Rngs, **fields: Any) -> None:
        self.dual = vlmo.VLMo(heads=PARTS["dual"], **fields, rngs=rngs)
        self.matcher = late_vlmo.LateVLMo(heads=PARTS["matcher"], **fields, rngs=rngs)

    def retrieval_image(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """See `VLMo.retrieval_image`."""
        return self.dual.retrieval_image(image, key)

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """See `VLMo.retrieval_text`."""
        return self.dual.retrieval_text(token_ids, token_mask, key)

    def retrieval_scale(self) -> jax.Array:
        """See `VLMo.retrieval_scale`."""
        return self.dual.retrieval_scale()

    def pair_logits(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """See `VLMo.pair_logits`."""
        return self.matcher.pair_logits(image, token_ids, token_mask, key)

    def encode_images(self, image: jax.Array, key: jax.Array | None = None) -> Encoded:
        """The vectors of the one and the states of the other for images [B, S, S, 3]."""
        dual_key, matcher_key = split_key(key, 2)
        feature = self.dual.retrieval_image(image, dual_key)
        return Encoded(feature, self.matcher.image_states(image, matcher_key))

    def encode_texts(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> Encoded:
        """The same for texts [B, T]."""
        dual_key, matcher_key = split_key(key, 2)
        feature = self.dual.retrieval_text(token_ids, token_mask, dual_key)
        return Encoded(feature, self.matcher.text_states(token_ids, token_mask, matcher_key))

    def match_all(self, image: jax.Array, text: jax.Array, token_mask: jax.Array) -> jax.Array:
        """See `LateVLMo.match_all`."""
        return self.matcher.match_all(image, text, token_mask)


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a TwinVLMo that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    heads = tuple(fields.get("heads", HEADS))
    require(
        heads == HEADS,
        f"config.model.heads={heads}: a twin_vlmo is a dual encoder and a matcher; use {HEADS}, or"
        " config.model.kind='vlmo' for others",
    )
    late_vlmo.check_sizes({**fields, "heads": PARTS["matcher"]}, mesh_shape)


def count_params(fields: Mapping[str, Any]) -> int:
    """Parameters of a TwinVLMo."""
    return sum(memory.count_vlmo({**fields, "heads": heads}) for heads in PARTS.values())


def values_at_once(fields: Mapping[str, Any], *, images: int, text: bool) -> tuple[int, int]:
    """See `memory.values_of_transformer`: both parts keep theirs, one block is computed at once."""
    kept, computed = memory.values_of_dual_vlmo(fields, images=images, text=text)
    return 2 * kept, computed
