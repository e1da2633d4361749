"""ALBEF: a ViT and a BERT that are aligned by contrast, and BERT's upper layers fuse them.

Source: "Align before Fuse: Vision and Language Representation Learning with Momentum Distillation",
arXiv 2107.07651, and its official code.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.bert import Bert
from vlmo_jax.layers.blocks import PreNormBlock, Stack
from vlmo_jax.layers.embeddings import ImageEmbedding
from vlmo_jax.layers.heads import Classifier, TiedLanguageHead, l2_normalize
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear, param, split_key
from vlmo_jax.models.albef_fields import HEADS, PRETRAIN_HEADS, TEMPERATURES


class Alignment(nnx.Module):
    """Projections of image and text to one space, where they have length 1, and the temperature by
    which similarities are divided.

    Args:
        image_width, text_width: of the states that are projected.
        width: of the space.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        image_width: int,
        text_width: int,
        width: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.image = Linear(image_width, width, **layers)
        self.text = Linear(text_width, width, **layers)
        self.temperature = param(nnx.initializers.constant(0.07), (), (), rngs)


class ALBEF(nnx.Module):
    """A ViT, a BERT of which the upper layers read the image too, and heads.

    Args:
        image_size, patch_size: pixels a side; the size divides by the patch.
        vision_width, vision_depth, vision_num_heads, vision_mlp_dim: of the ViT.
        text_length: T, tokens of a text.
        text_positions: rows of BERT's position table, at least T.
        vocab_size: V.
        width, num_heads, mlp_dim: D, H and F of BERT.
        depth: of BERT's layers that read the text alone.
        fusion_depth: of those after them that read the image too.
        embed_dim: of the space that images and texts are aligned in.
        dropout_rate: of BERT.
        heads: out of albef_fields.HEADS.
        num_answers: A, of the head "vqa".
        init_std: deviation that matrices and embeddings start from.
        remat, scan_layers: see Stack.
        dtype: compute type.

    Shapes of a batch: image [B, S, S, 3] normalised, token_ids [B, T], token_mask [B, T] bool.
    """

    # None where the model has no such head.
    itc: Any
    itm_head: Any
    mlm_head: Any
    vqa_head: Any

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        vision_width: int,
        vision_depth: int,
        vision_num_heads: int,
        vision_mlp_dim: int,
        text_length: int,
        text_positions: int,
        vocab_size: int,
        width: int,
        num_heads: int,
        mlp_dim: int,
        depth: int,
        fusion_depth: int,
        embed_dim: int,
        dropout_rate: float = 0.0,
        heads: Sequence[str] = PRETRAIN_HEADS,
        num_answers: int = 3129,
        init_std: float = INIT_STD,
        remat: str = "none",
        scan_layers: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        typed: dict[str, Any] = dict(dtype=dtype, init_std=init_std)
        run: dict[str, Any] = dict(remat=remat, scan_layers=scan_layers)

        def block(rngs: nnx.Rngs) -> PreNormBlock:
            return PreNormBlock(vision_width, vision_num_heads, vision_mlp_dim, rngs=rngs, **typed)

        self.image_embedding = ImageEmbedding(
            image_size, patch_size, vision_width, positions=True, rngs=rngs, **typed
        )
        self.image_encoder = Stack(vision_depth, block, rngs=rngs, **run)
        self.image_norm = LayerNorm(vision_width, epsilon=1e-6, rngs=rngs)
        self.text_encoder = Bert(
            vocab_size=vocab_size,
            width=width,
            depth=depth,
            num_heads=num_heads,
            mlp_dim=mlp_dim,
            positions=text_positions,
            fusion_depth=fusion_depth,
            memory_width=vision_width,
            dropout_rate=dropout_rate,
            rngs=rngs,
            **typed,
            **run,
        )
        built = {HEADS[head] for head in heads}
        typed["rngs"] = rngs
        self.itc = Alignment(vision_width, width, embed_dim, **typed) if "itc" in built else None
        self.itm_head = Linear(width, 2, **typed) if "itm_head" in built else None
        self.mlm_head = (
            TiedLanguageHead(width, vocab_size, **typed) if "mlm_head" in built else None
        )
        self.vqa_head = (
            Classifier(width, 2 * width, num_answers, **typed) if "vqa_head" in built else None
        )

    def encode_image(self, image: jax.Array) -> jax.Array:
        """Images [B, S, S, 3] to states [B, P, vision_width], the class token first; the ViT has no
        dropout.
        """
        return self.image_norm(self.image_encoder(self.image_embedding(image)))

    def encode_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Texts [B, T] to states [B, T, D] of the layers that read the text alone; `key` turns
        dropout on.
        """
        return self.text_encoder(token_ids, token_mask, key=key)

    def fuse(
        self,
        text: jax.Array,
        token_mask: jax.Array,
        image: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """States of texts that have read their images: [B, T, D] of `encode_text` and [B, P, D'] of
        `encode_image` to [B, T, D].
        """
        return self.text_encoder.fuse(text, token_mask, image, key=key)

    def image_vector(self, states: jax.Array) -> jax.Array:
        """States of images [B, P, D'] to vectors [B, embed_dim] float32 of length 1."""
        return l2_normalize(self.itc.image(states[:, 0]))

    def text_vector(self, states: jax.Array) -> jax.Array:
        """States of texts [B, T, D] to vectors [B, embed_dim] float32 of length 1."""
        return l2_normalize(self.itc.text(states[:, 0]))

    def temperature(self) -> jax.Array:
        """By which similarities are divided, within TEMPERATURES. The gradient is that of the value
        within: the official code changes the parameter before it reads it.
        """
        value = self.itc.temperature[...]
        within = jax.lax.stop_gradient(jnp.clip(value, *TEMPERATURES))
        return within + (value - jax.lax.stop_gradient(value))

    def match_logits(self, first_tokens: jax.Array) -> jax.Array:
        """Logits of "no match" and "match" from the fused first tokens: [..., D] to [..., 2]
        float32.
        """
        return self.itm_head(first_tokens).astype(jnp.float32)

    def predict_words(self, states: jax.Array) -> jax.Array:
        """Logits of the masked tokens from the states at their places: [..., D] to [..., V]."""
        return self.mlm_head(states, self.text_encoder.embedding.word[...])

    def retrieval_image(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Vectors of images: [B, S, S, 3] -> [B, embed_dim] float32 of length 1."""
        return self.image_vector(self.encode_image(image))

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Vectors of texts: [B, T] -> [B, embed_dim] float32 of length 1."""
        return self.text_vector(self.encode_text(token_ids, token_mask, key))

    def retrieval_scale(self) -> jax.Array:
        """The logarithm of what similarities are multiplied by."""
        return -jnp.log(self.temperature())

    def pair_logits(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of "no match" and "match" of pairs: [B, 2] float32; `key` turns dropout on."""
        return self.match_logits(self._first_fused(image, token_ids, token_mask, key))

    def answer(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of the answers to questions about images: [B, num_answers] float32; `key` turns
        dropout on. The official model writes answers with a decoder; this one chooses.
        """
        return self.vqa_head(self._first_fused(image, token_ids, token_mask, key))

    def _first_fused(self, image, token_ids, token_mask, key):
        """The first token [B, D] of texts that have read their images."""
        text_key, fuse_key = split_key(key, 2)
        text = self.encode_text(token_ids, token_mask, text_key)
        return self.fuse(text, token_mask, self.encode_image(image), fuse_key)[:, 0]
