"""VLMo: one Transformer that encodes images, texts, or both fused.

Source: "VLMo: Unified Vision-Language Pre-Training with Mixture-of-Modality-Experts",
arXiv 2111.02358, and the official code where the two differ (it made the published weights).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers import relative_position
from vlmo_jax.layers.attention import Mask
from vlmo_jax.layers.attention_paths import PaddedAtEnd
from vlmo_jax.layers.embeddings import ImageEmbedding, TextEmbedding
from vlmo_jax.layers.heads import Classifier, ContrastiveProjection, MaskedLanguageHead, Pooler
from vlmo_jax.layers.linear import INIT_STD, Linear, param, per_row, truncated_normal
from vlmo_jax.layers.modality_experts import EXPERTS
from vlmo_jax.layers.mome_block import MomeBlock, Spans
from vlmo_jax.layers.transformer import MomeTransformer
from vlmo_jax.models.caption_writer import CaptionWriter
from vlmo_jax.models.vlmo_fields import HEADS, PRETRAIN_HEADS, check_parts
from vlmo_jax.parallel.sharding import interleave

# The two contrastive branches: states served by the modality's own experts, and states that go
# through the upper blocks with the vision-language expert.
IMAGE_BRANCHES = ("image", "vision_language")
TEXT_BRANCHES = ("text", "vision_language")


class VLMo(CaptionWriter):
    """MoME Transformer, embeddings and heads; by default those of pre-training stage 3.

    Args:
        image_size, patch_size: pixels a side; the size divides by the patch.
        text_length: T, tokens a text is padded to.
        text_positions: longest text the position tables are made for (official: 196, stage 2's).
        vocab_size: V.
        width, depth, num_heads, mlp_dim: sizes of the Transformer.
        num_upper: blocks with a vision-language expert.
        position: "relative" (bias table) or "absolute" (learned embeddings).
        layer_scale: initial gamma, 0 or None for none.
        drop_path_rate: rate of the last block, and of the dropout of the text embedding.
        experts: what the upper blocks hold, all three or (stage 2) image and text; lower blocks
            hold image and text.
        heads: names out of HEADS. "nlvr2" adds a third modality type, the second image's.
        num_answers: classes of the VQA head.
        init_std: deviation of the cut normal that matrices and embeddings start from.
        remat, scan_layers, attention, dtype: see MomeTransformer.

    Shapes of a batch: image [B, S, S, 3] normalised, token_ids [B, T], token_mask [B, T] bool, True
    for real tokens, which come before the padding.

    Raises:
        ValueError: unknown experts or heads.
    """

    block: type[MomeBlock] = MomeBlock  # which variants have another of
    # None where the model has no such head.
    pooler: Any
    itc: Any
    itc_vl: Any
    itm_head: Any
    mlm_head: Any
    vqa_head: Any
    nlvr2_head: Any

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        text_length: int,
        text_positions: int,
        vocab_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        num_upper: int,
        position: str,
        layer_scale: float | None = None,
        drop_path_rate: float = 0.0,
        experts: Sequence[str] = tuple(EXPERTS),
        heads: Sequence[str] = PRETRAIN_HEADS,
        num_answers: int = 3129,
        remat: str = "none",
        scan_layers: bool = True,
        attention: str = "auto",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        check_parts(experts, heads)
        self.grid, self.text_positions = image_size // patch_size, text_positions
        relative = position == "relative"
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.text_embedding = TextEmbedding(
            vocab_size,
            width,
            positions=None if relative else text_length,
            dropout_rate=drop_path_rate,
            **layers,
        )
        self.image_embedding = ImageEmbedding(
            image_size, patch_size, width, positions=not relative, **layers
        )
        # Rows: text, image, and the second image of NLVR2.
        num_types = 3 if "nlvr2" in heads else 2
        self.modality_type = param(
            truncated_normal(init_std), (num_types, width), (None, "embed"), rngs
        )
        self.transformer = MomeTransformer(
            depth,
            num_upper,
            width,
            num_heads,
            mlp_dim,
            layer_scale=layer_scale,
            table_rows=relative_position.num_rows(self.grid, text_positions) if relative else None,
            drop_path_rate=drop_path_rate,
            upper_experts=len(experts),
            remat=remat,
            scan_layers=scan_layers,
            attention=attention,
            block=self.block,
            **layers,
        )
        self.relative = relative
        built = {part for head in heads for part in HEADS[head]}
        self.pooler = Pooler(width, **layers) if "pooler" in built else None
        self.itc = ContrastiveProjection(width, **layers) if "itc" in built else None
        self.itc_vl = ContrastiveProjection(width, **layers) if "itc_vl" in built else None
        self.itm_head = Linear(width, 2, **layers) if "itm_head" in built else None
        self.mlm_head = (
            MaskedLanguageHead(width, vocab_size, **layers) if "mlm_head" in built else None
        )
        self.vqa_head = (
            Classifier(width, 2 * width, num_answers, **layers) if "vqa_head" in built else None
        )
        self.nlvr2_head = (
            Classifier(2 * width, 2 * width, 2, **layers) if "nlvr2_head" in built else None
        )

    def embed_text(
        self, token_ids: jax.Array, key: jax.Array | None = None, first: int | jax.Array = 0
    ) -> jax.Array:
        """[B, T] int32 -> [B, T, D] with the modality type added; `key` turns dropout on, `first`
        is the position of the first token in its text.
        """
        x = self.text_embedding(token_ids, key, first=first)
        return x + per_row(self.modality_type[0].astype(x.dtype), x)

    def embed_image(self, image: jax.Array, modality_type: int = 1) -> jax.Array:
        """[B, S, S, 3] -> [B, P, D] with the modality type added: 1, or 2 for the second image of
        NLVR2.
        """
        x = self.image_embedding(image)
        return x + per_row(self.modality_type[modality_type].astype(x.dtype), x)

    def encode_image(
        self,
        image: jax.Array,
        *,
        branches: Sequence[str] = ("image",),
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes images alone; image embeddings in, states of each branch out.

        Args:
            image: [B, P, D] of `embed_image`.
            branches: experts of the upper blocks, one a branch.
            read: [B, R] int32, positions that are read (the class token is 0); None: all.
            key: turns drop-path on.

        Returns:
            [B, G, P or R, D], after the final norm.
        """
        index = relative_position.image_index(self.grid) if self.relative else None
        with jax.named_scope("encode_image"):
            return self.transformer(
                image, (("image", image.shape[1]),), branches, index=index, read=read, key=key
            )

    def encode_text(
        self,
        text: jax.Array,
        token_mask: jax.Array,
        *,
        branches: Sequence[str] = ("text",),
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes texts alone: [B, T, D] of `embed_text` to [B, G, T or R, D]; see `encode_image`.

        `token_mask` may also be query by key, [B, T, T] (see layers/attention.py).
        """
        spans, index = (("text", text.shape[1]),), None
        if self.relative:
            index = relative_position.text_index(self.grid, text.shape[1], self.text_positions)
        mask = PaddedAtEnd(token_mask) if token_mask.ndim == 2 else token_mask
        with jax.named_scope("encode_text"):
            return self.transformer(
                text, spans, branches, mask=mask, index=index, read=read, key=key
            )

    def encode_fused(
        self,
        text: jax.Array,
        token_mask: jax.Array,
        image: jax.Array,
        *,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Encodes [text; image] jointly: [B, T, D] and [B, P, D] to [B, T+P or R, D].

        Text comes first, so that positions 0 .. T-1 of the result are the text's.
        """
        mask = jnp.pad(token_mask, ((0, 0), (image.shape[1], 0)), constant_values=True)
        return self.fuse(text, image, PaddedAtEnd(mask), read=read, key=key)

    @jax.named_scope("encode_fused")
    def fuse(
        self,
        text: jax.Array,
        image: jax.Array,
        mask: Mask,
        *,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """As `encode_fused`, with the mask of all tokens as they lie inside the Transformer.

        There, text comes last, and so does its padding, as fused attention wants it: attention does
        not mind the order, and the position table is read by the same.

        Args:
            text, image, read, key: as there.
            mask: of [image; text]: PaddedAtEnd, [B, P+T], or query by key.
        """
        length, patches = text.shape[1], image.shape[1]
        if read is not None:
            read = jnp.where(read < length, read + patches, read - length)
        states = self.run_fused(
            jnp.concatenate([image, text], axis=1),
            (("image", patches), ("text", length)),
            mask=mask,
            index=self.fused_index(length),
            read=read,
            key=key,
        )
        return states if read is not None else jnp.roll(states, length, axis=1)

    def run_fused(self, x: jax.Array, spans: Spans, **where: Any) -> jax.Array:
        """The Transformer on [image; text] [B, P+T, D]: [B, P+T or R, D]; see MomeTransformer."""
        return self.transformer(x, spans, ("vision_language",), **where)[:, 0]

    def fused_index(self, text_length: int) -> np.ndarray | None:
        """Rows of the relative position table for [image; text], [P+T, P+T]; None without one."""
        if not self.relative:
            return None
        return relative_position.fused_index(self.grid, text_length, self.text_positions)

    def patch_states(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> states of the patches, row by row, after the last norm [B, P - 1, D]."""
        return self.encode_image(self.embed_image(image))[:, 0, 1:]

    def image_features(
        self, image: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """ITC features of both branches from images [B, S, S, 3]: two arrays [B, D] of length 1."""
        x = self.embed_image(image)
        first = first_token(x.shape[0])
        states = self.encode_image(x, branches=IMAGE_BRANCHES, read=first, key=key)[:, :, 0]
        return self.itc.project_image(states[:, 0]), self.itc_vl.project_image(states[:, 1])

    def text_features(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """ITC features of both branches from texts [B, T]: two arrays [B, D] of length 1."""
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        x = self.embed_text(token_ids, embed_key)
        states = self.encode_text(
            x, token_mask, branches=TEXT_BRANCHES, read=first_token(x.shape[0]), key=encode_key
        )[:, :, 0]
        return self.itc.project_text(states[:, 0]), self.itc_vl.project_text(states[:, 1])

    def retrieval_image(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """The dual encoder's image feature, [B, S, S, 3] -> [B, D]: the V/L branch alone."""
        x = self.embed_image(image)
        states = self.encode_image(x, read=first_token(x.shape[0]), key=key)
        return self.itc.project_image(states[:, 0, 0])

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """The dual encoder's text feature, [B, T] -> [B, D]: the V/L branch alone."""
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        x = self.embed_text(token_ids, embed_key)
        states = self.encode_text(x, token_mask, read=first_token(x.shape[0]), key=encode_key)
        return self.itc.project_text(states[:, 0, 0])

    def retrieval_scale(self) -> jax.Array:
        """The logarithm of the dual encoder's scale."""
        return self.itc.logit_scale[...]

    def logit_scales(self) -> tuple[jax.Array, jax.Array]:
        """The logarithms of the scales of both contrastive branches."""
        return self.itc.logit_scale[...], self.itc_vl.logit_scale[...]

    def match_logits(self, first_tokens: jax.Array) -> jax.Array:
        """Logits of "no match" and "match" from the fused first tokens: [..., D] to [..., 2]
        float32.
        """
        return self.itm_head(self.pooler(first_tokens)).astype(jnp.float32)

    def predict_words(self, states: jax.Array) -> jax.Array:
        """Logits of the masked tokens from the states at their places: [..., D] to [..., V]."""
        return self.mlm_head(states)

    def pair_logits(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of "no match" and "match" of pairs: [B, 2] float32; `key` turns dropout on."""
        pooled = self._pool_pair(image, token_ids, token_mask, key)
        return self.itm_head(pooled).astype(jnp.float32)

    def answer(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of the answers to questions about images (VQA): [B, num_answers] float32; `key`
        turns dropout on.
        """
        return self.vqa_head(self._pool_pair(image, token_ids, token_mask, key))

    def compare(
        self,
        image_0: jax.Array,
        image_1: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of whether a text is true of two images (NLVR2): [B, 2] float32, false and true.

        Each image is fused with the text on its own; the head reads both pooled vectors. `key`
        turns dropout on.
        """
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        # Both passes of an example stand side by side, so that no row leaves its device.
        ids, mask = interleave(token_ids, token_ids), interleave(token_mask, token_mask)
        images = interleave(self.embed_image(image_0), self.embed_image(image_1, modality_type=2))
        pooled = self._pool(self.embed_text(ids, embed_key), mask, images, encode_key)
        return self.nlvr2_head(pooled.reshape(len(token_ids), -1))

    def _pool_pair(self, image, token_ids, token_mask, key):
        """The pooled first token [B, D] of texts fused with images."""
        embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
        text = self.embed_text(token_ids, embed_key)
        return self._pool(text, token_mask, self.embed_image(image), encode_key)

    def _pool(self, text, token_mask, image, key=None):
        """The pooled first token [B, D] of [text; image], both embedded."""
        first = first_token(len(text))
        return self.pooler(self.encode_fused(text, token_mask, image, read=first, key=key)[:, 0])


def first_token(batch_size: int) -> jax.Array:
    """The positions [B, 1] of heads that read the first token only."""
    return jnp.zeros((batch_size, 1), jnp.int32)
