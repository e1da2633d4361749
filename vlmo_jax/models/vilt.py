"""ViLT: one Transformer over the words of a text and the patches of an image, without any encoder
before it.

Source: "ViLT: Vision-and-Language Transformer Without Convolution or Region Supervision",
arXiv 2102.03334, and the official code, which made the published weights.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.blocks import PreNormBlock, Stack
from vlmo_jax.layers.embeddings import TextEmbedding
from vlmo_jax.layers.heads import Classifier, MaskedLanguageHead, Pooler
from vlmo_jax.layers.linear import (
    INIT_STD,
    LayerNorm,
    Linear,
    param,
    per_row,
    split_key,
    truncated_normal,
)
from vlmo_jax.layers.patch_grid import PatchGrid, PatchGridEmbedding, all_patches, sample_patches
from vlmo_jax.models.vilt_fields import HEADS, PRETRAIN_HEADS, check_heads, most_patches


class PairStates(NamedTuple):
    """What a pair becomes.

    Attributes:
        text: [B, T, D], states of the tokens.
        image: [B, P, D], of the class token and the patches.
        image_mask: [B, P] bool, False where there is no patch.
    """

    text: jax.Array
    image: jax.Array
    image_mask: jax.Array


class ViLT(nnx.Module):
    """A ViT over [text; image], and heads.

    Args:
        image_size: shorter side of images at most, in pixels; the position table is of a square of
            it.
        longest_side: longer side of images at most.
        patch_size: pixels a side.
        sampled_patches: patches of an image that are drawn where a key is given; 0: all.
        text_length: T, tokens a text is padded to; the rows of the position table.
        vocab_size: V.
        width, depth, num_heads, mlp_dim: sizes of the Transformer.
        dropout_rate: of both embeddings and of what each half of a block adds.
        heads: names out of HEADS. "nlvr2" adds a third modality type, the second image's.
        num_answers: classes of the VQA head.
        init_std: deviation of the cut normal that matrices and embeddings start from.
        remat, scan_layers: see layers.blocks.Stack.
        dtype: compute type.

    Shapes of a batch: image PatchGrid, token_ids [B, T], token_mask [B, T] bool.

    Raises:
        ValueError: unknown heads.
    """

    # None where the model has no such head.
    pooler: Any
    mlm_head: Any
    itm_head: Any
    rank_head: Any
    vqa_head: Any
    nlvr2_head: Any

    def __init__(
        self,
        *,
        image_size: int,
        longest_side: int,
        patch_size: int,
        text_length: int,
        vocab_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        sampled_patches: int = 0,
        dropout_rate: float = 0.0,
        heads: Sequence[str] = PRETRAIN_HEADS,
        num_answers: int = 3129,
        remat: str = "none",
        scan_layers: bool = True,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        check_heads(heads)
        self.most_patches = most_patches(image_size, longest_side, patch_size)
        self.sampled_patches, self.dropout_rate = sampled_patches, dropout_rate
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.text_embedding = TextEmbedding(
            vocab_size, width, positions=text_length, dropout_rate=dropout_rate, **layers
        )
        self.image_embedding = PatchGridEmbedding(
            image_size, patch_size, width, positions=True, **layers
        )
        # Rows: text, image, and the second image of NLVR2.
        num_types = 3 if "nlvr2" in heads else 2
        self.modality_type = param(
            truncated_normal(init_std), (num_types, width), (None, "embed"), rngs
        )
        block: dict[str, Any] = dict(dropout_rate=dropout_rate, dtype=dtype, init_std=init_std)
        self.transformer = Stack(
            depth,
            lambda rngs: PreNormBlock(width, num_heads, mlp_dim, **block, rngs=rngs),
            remat=remat,
            scan_layers=scan_layers,
            rngs=rngs,
        )
        self.norm = LayerNorm(width, epsilon=1e-6, rngs=rngs)
        makers: dict[str, Any] = {
            "pooler": lambda: Pooler(width, **layers),
            "mlm_head": lambda: MaskedLanguageHead(width, vocab_size, **layers),
            "itm_head": lambda: Linear(width, 2, **layers),
            "rank_head": lambda: Linear(width, 1, **layers),
            "vqa_head": lambda: Classifier(width, 2 * width, num_answers, **layers),
            "nlvr2_head": lambda: Classifier(2 * width, 2 * width, 2, **layers),
        }
        built = {part for head in heads for part in HEADS[head]}
        for name, make in makers.items():
            setattr(self, name, make() if name in built else None)

    def encode_pair(
        self,
        image: PatchGrid,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
        *,
        modality_type: int = 1,
    ) -> PairStates:
        """Encodes [text; image], after the final norm.

        Args:
            image: see PatchGrid.
            token_ids: [B, T] int32.
            token_mask: [B, T] bool.
            key: turns dropout and the draw of patches on.
            modality_type: 1, or 2 for the second image of NLVR2.
        """
        text_key, draw_key, image_key, encode_key = split_key(key, 4)
        text = self.text_embedding(token_ids, text_key)
        text = text + per_row(self.modality_type[0].astype(text.dtype), text)
        most = self.most_patches
        if draw_key is None or not 0 < self.sampled_patches < most:
            patches = all_patches(image.grid, most)
        else:
            patches = sample_patches(image.grid, most, self.sampled_patches, draw_key)
        embedded = self.image_embedding.embed(
            image, patches, dropout_rate=self.dropout_rate, key=image_key
        )
        embedded = embedded + per_row(
            self.modality_type[modality_type].astype(embedded.dtype), embedded
        )
        image_mask = jnp.pad(patches.mask, ((0, 0), (1, 0)), constant_values=True)
        x = jnp.concatenate([text, embedded], axis=1)
        mask = jnp.concatenate([token_mask, image_mask], axis=1)
        x = self.norm(self.transformer(x, mask=mask, key=encode_key))
        length = token_ids.shape[1]
        return PairStates(x[:, :length], x[:, length:], image_mask)

    def match_logits(self, first_tokens: jax.Array) -> jax.Array:
        """Logits of "no match" and "match" from first tokens: [..., D] to [..., 2] float32."""
        return self.itm_head(self.pooler(first_tokens)).astype(jnp.float32)

    def predict_words(self, states: jax.Array) -> jax.Array:
        """Logits of tokens from states at their places: [..., D] to [..., V] float32."""
        return self.mlm_head(states)

    def rank_scores(
        self,
        image: PatchGrid,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """The score of pairs by which they are ranked, [B] float32: of the head "rank"."""
        pooled = self._pool(image, token_ids, token_mask, key)
        return self.rank_head(pooled)[:, 0].astype(jnp.float32)

    def pair_logits(
        self,
        image: PatchGrid,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of "no match" and "match" of pairs: [B, 2] float32; `key` turns dropout on.

        A model with the head "rank" says 0 and the score by which it ranks.
        """
        if self.rank_head is not None:
            scores = self.rank_scores(image, token_ids, token_mask, key)
            return jnp.stack([jnp.zeros_like(scores), scores], axis=-1)
        pooled = self._pool(image, token_ids, token_mask, key)
        return self.itm_head(pooled).astype(jnp.float32)

    def answer(
        self,
        image: PatchGrid,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of the answers to questions about images (VQA): [B, num_answers] float32; `key`
        turns dropout on.
        """
        return self.vqa_head(self._pool(image, token_ids, token_mask, key))

    def compare(
        self,
        image_0: PatchGrid,
        image_1: PatchGrid,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of whether a text is true of two images (NLVR2): [B, 2] float32, false and true.

        Each image is read with the text on its own; the head reads both pooled vectors.
        """
        keys = split_key(key, 2)
        pooled = [
            self._pool(image, token_ids, token_mask, its_key, modality_type=number)
            for number, image, its_key in zip((1, 2), (image_0, image_1), keys, strict=True)
        ]
        return self.nlvr2_head(jnp.concatenate(pooled, axis=-1))

    def _pool(self, image, token_ids, token_mask, key, modality_type=1):
        """The pooled first token [B, D] of pairs."""
        states = self.encode_pair(image, token_ids, token_mask, key, modality_type=modality_type)
        return self.pooler(states.text[:, 0])
