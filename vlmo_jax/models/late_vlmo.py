"""A VLMo whose modalities meet in the last block alone, so that all pairs of many images and texts
can be matched at little cost.

Up to there images and texts go through the blocks on their own, and what they give does not depend
on their partner: it is computed once an image and once a text. A pair then takes the attention of
one token, the first of the text, and the vision-language expert on it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.layers import relative_position
from vlmo_jax.layers.attention_paths import PaddedAtEnd
from vlmo_jax.layers.linear import split_key
from vlmo_jax.layers.mome_block import MomeBlock, Spans
from vlmo_jax.models import vlmo, vlmo_fields
from vlmo_jax.models.sizes import MeshShape


class Encoded(NamedTuple):
    """Images or texts, each encoded on its own.

    Attributes:
        feature: [B, D] float32 of length 1, the dual encoder's.
        states: [B, N, D], what the last block reads when modalities meet in it.
    """

    feature: jax.Array
    states: jax.Array


class LateVLMo(vlmo.VLMo):
    """As VLMo, but in a fused pass both modalities go through the blocks before the last on their
    own, the upper ones among them by the vision-language expert, and through the last together.

    Args:
        fields: as of VLMo.
    """

    def run_fused(self, x: jax.Array, spans: Spans, **where: Any) -> jax.Array:
        """See `VLMo.run_fused`; the mask is PaddedAtEnd."""
        mask, index = where["mask"], where["index"]
        (image, patches), (text, length) = spans
        image_key, text_key, last_key = split_key(where["key"], 3)
        of_image, of_text = (None, None) if index is None else _corners(index, patches)
        text_mask = PaddedAtEnd(mask.mask[:, patches:])
        parts = [
            self._run_alone(x[:, :patches], image, mask=None, index=of_image, key=image_key),
            self._run_alone(x[:, patches:], text, mask=text_mask, index=of_text, key=text_key),
        ]
        where["key"] = last_key
        states, _ = self.transformer.run_upper(
            jnp.concatenate(parts, axis=1),
            ("vision_language",),
            spans,
            numbers=(self.transformer.depth - 1,),
            **where,
        )
        return self.transformer.norm(states[:, 0])

    def encode_images(self, image: jax.Array, key: jax.Array | None = None) -> Encoded:
        """Images [B, S, S, 3] for search and for `match_all`, in one pass."""
        x, where = self._image(image, key)
        feature, states = self._encode(x, "image", **where)
        return Encoded(self.itc.project_image(feature), states)

    def encode_texts(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> Encoded:
        """Texts [B, T] for search and for `match_all`, in one pass."""
        x, where = self._text(token_ids, token_mask, key)
        feature, states = self._encode(x, "text", **where)
        return Encoded(self.itc.project_text(feature), states)

    def image_states(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The states of `encode_images` alone, [B, S, S, 3] to [B, P, D]."""
        x, where = self._image(image, key)
        return self._run_alone(x, "image", **where)

    def text_states(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """The states of `encode_texts` alone, [B, T] to [B, T, D]."""
        x, where = self._text(token_ids, token_mask, key)
        return self._run_alone(x, "text", **where)

    def _image(self, image, key):
        """Images embedded, and what the blocks are told of them."""
        index = relative_position.image_index(self.grid) if self.relative else None
        return self.embed_image(image), dict(mask=None, index=index, key=key)

    def _text(self, token_ids, token_mask, key):
        """Texts embedded, and what the blocks are told of them."""
        embed_key, encode_key = split_key(key, 2)
        x, index = self.embed_text(token_ids, embed_key), None
        if self.relative:
            index = relative_position.text_index(self.grid, x.shape[1], self.text_positions)
        return x, dict(mask=PaddedAtEnd(token_mask), index=index, key=encode_key)

    def _encode(self, x, modality, **where):
        """The first token [B, D] after all blocks of the modality's own experts, and the states
        that `match_all` reads.
        """
        spans = ((modality, x.shape[1]),)
        x, _ = self.transformer.run_lower(x, spans, **where)
        read = vlmo.first_token(x.shape[0])
        first, _ = self.transformer.run_upper(x, (modality,), spans, read=read, **where)
        return self.transformer.norm(first)[:, 0, 0], self._before_last(x, spans, **where)

    def _run_alone(self, x, modality, **where):
        """One modality [B, N, D] through the blocks before the last, as fused passes have it."""
        spans = ((modality, x.shape[1]),)
        x, _ = self.transformer.run_lower(x, spans, **where)
        return self._before_last(x, spans, **where)

    def _before_last(self, x, spans, **where):
        depth, num_upper = self.transformer.depth, self.transformer.num_upper
        numbers = range(depth - num_upper, depth - 1)
        experts = ("vision_language",)
        return self.transformer.run_upper(x, experts, spans, numbers=numbers, **where)[0][:, 0]

    @jax.named_scope("match_all")
    def match_all(self, image: jax.Array, text: jax.Array, token_mask: jax.Array) -> jax.Array:
        """The log-odds that images and texts belong together, each text with each image: those of
        `pair_logits`, without drop-path.

        Args:
            image: [I, P, D], states of `encode_images`.
            text: [T, N, D], states of `encode_texts`.
            token_mask: [T, N] bool.

        Returns:
            [T, I] float32.
        """
        block, bias = self._last_block(image.shape[1], text.shape[1])
        queries, of_text = block.attention.project(block.norm(text))
        _, of_image = block.attention.project(block.norm(image))
        sums = _attend_to_both(queries[:, :, 0], of_image, of_text, token_mask, bias)
        x = text[:, :1] + block.attention.join(sums, gamma=block.attention_gamma)
        x = block.feed(x, (("vision_language", x.shape[1]),), rate=0.0, key=None)
        logits = self.match_logits(self.transformer.norm(x))
        return logits[..., 1] - logits[..., 0]

    def _last_block(self, patches: int, length: int) -> tuple[MomeBlock, jax.Array | None]:
        """The last block, and the position bias [H, P + N] of a text's first token."""
        graphdef, blocks = nnx.split(self.transformer.upper)
        block = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[-1], blocks))
        tables, index = self.transformer.tables(), self.fused_index(length)
        if tables is None or index is None:
            return block, None
        return block, tables[-1][index[patches]].T


def _corners(index, patches):
    """The parts of an index of [image; text] that are of one modality alone."""
    return index[:patches, :patches], index[patches:, patches:]


def _attend_to_both(query, of_image, of_text, token_mask, bias):
    """The attention of T queries [T, H, K] to their text's N tokens and, one after another, to the
    P tokens of I images: [T, I, H, K].

    A softmax over both is one over each, weighted by the sums of both: a text's is the same for all
    images.
    """
    in_text = jnp.einsum("thk,thnk->thn", query, of_text.keys, preferred_element_type=jnp.float32)
    in_image = jnp.einsum(
        "thk,ihpk->tihp", query, of_image.keys, preferred_element_type=jnp.float32
    )
    if bias is not None:
        patches = in_image.shape[-1]
        in_image += bias[None, None, :, :patches]
        in_text += bias[None, :, patches:]
    in_text = jnp.where(token_mask[:, None], in_text, -jnp.inf)
    share = jax.nn.sigmoid(
        jax.nn.logsumexp(in_image, axis=-1) - jax.nn.logsumexp(in_text, axis=-1)[:, None]
    )[..., None]
    dtype = of_text.values.dtype
    weights = (jax.nn.softmax(in_image, axis=-1) * share).astype(dtype)
    image = jnp.einsum("tihp,ihpk->tihk", weights, of_image.values)
    weights = jax.nn.softmax(in_text, axis=-1).astype(dtype)
    text = jnp.einsum("thn,thnk->thk", weights, of_text.values)
    return image + (1 - share).astype(dtype) * text[:, None]


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a LateVLMo that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    heads = tuple(fields.get("heads", ()))
    require(
        "caption" not in heads,
        f"config.model.heads={heads} writes captions, which config.model.kind='late_vlmo' does not;"
        " use kind 'vlmo'",
    )
    vlmo_fields.check_sizes(fields, mesh_shape)
