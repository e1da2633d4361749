"""ViLBERT: a stream of regions and one of words, which meet in co-attention.

Source: "ViLBERT: Pretraining Task-Agnostic Visiolinguistic Representations for Vision-and-Language
Tasks", arXiv 1908.02265, and the official code of "12-in-1", arXiv 1912.02315.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.blocks import PostNormBlock, Stack
from vlmo_jax.layers.co_attention import CoAttentionBlock, Stream, Streams
from vlmo_jax.layers.embeddings import TextEmbedding
from vlmo_jax.layers.heads import MaskedLanguageHead, TiedLanguageHead
from vlmo_jax.layers.linear import (
    INIT_STD,
    LayerNorm,
    Linear,
    gelu,
    param,
    split_key,
    truncated_normal,
)
from vlmo_jax.layers.regions import RegionEmbedding, Regions, add_global_region, grid_regions
from vlmo_jax.models.vilbert_fields import HEADS, PRETRAIN_HEADS

# How the pooled tokens of both streams become one.
FUSIONS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "product": lambda vision, text: vision * text,
    "sum": lambda vision, text: vision + text,
}


class Pair(NamedTuple):
    """What the streams say of pairs.

    Attributes:
        tokens: of both streams after the last blocks.
        pooled: [B, C] each, of their first tokens.
        fused: [B, C], both as one.
    """

    tokens: Streams
    pooled: Streams
    fused: jax.Array


class ViLBERT(nnx.Module):
    """Two streams with co-attention, and heads; by default those of pre-training.

    A visual input is Regions, without the global one, which is added here; or, where there is a
    `patch_size`, normalised images [B, S, S, 3], whose patches stand in for regions.

    Args:
        image_size, patch_size: pixels a side of images and of patches; 0: regions are given.
        num_regions: R, most regions of an image, the global one left out; 0 with patches.
        region_width: F of their features; 0 with patches, which have 3 patch_size^2.
        region_classes: soft classes that a masked region may be; 0: its features are predicted.
        text_length: T, tokens a text is padded to.
        text_positions: rows of the position table.
        vocab_size: V.
        width, depth, num_heads, mlp_dim: sizes of the text stream.
        vision_width, vision_depth, vision_num_heads, vision_mlp_dim: sizes of the vision stream.
        co_width, co_num_heads: of the co-attention, and of what the poolers give.
        co_blocks, vision_co_blocks: numbers of the blocks of the text and of the vision stream
            before which the co-attention blocks stand, one by one.
        fusion: a name in FUSIONS.
        heads: names out of `vilbert_fields.HEADS`.
        num_answers: classes of the VQA head.
        num_tasks: rows of the table of tasks, of 12-in-1; 0: none.
        task_row: the one that stands behind the first token of every text.
        dropout_rate: of embeddings and of what each half of a block adds.
        init_std: deviation of the cut normal that matrices and embeddings start from.
        remat, scan_layers: see layers.blocks.Stack.
        dtype: compute type.
    """

    # None where the model has no such head.
    mlm_head: Any
    region_head: Any
    itm_head: Any
    rank_head: Any
    vqa_head: Any
    nlvr2_head: Any

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        num_regions: int,
        region_width: int,
        region_classes: int,
        text_length: int,
        text_positions: int,
        vocab_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        vision_width: int,
        vision_depth: int,
        vision_num_heads: int,
        vision_mlp_dim: int,
        co_width: int,
        co_num_heads: int,
        co_blocks: Sequence[int],
        vision_co_blocks: Sequence[int],
        fusion: str = "product",
        heads: Sequence[str] = PRETRAIN_HEADS,
        num_answers: int = 3129,
        num_tasks: int = 0,
        task_row: int = 0,
        dropout_rate: float = 0.0,
        remat: str = "none",
        scan_layers: bool = True,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.patch_size, self.fuse = patch_size, FUSIONS[fusion]
        self.stops = tuple(zip(vision_co_blocks, co_blocks, strict=True))
        seen_width = 3 * patch_size**2 or region_width
        layers: dict[str, Any] = dict(dtype=dtype, init_std=init_std)
        drops: dict[str, Any] = dict(dropout_rate=dropout_rate, **layers)
        stacked: dict[str, Any] = dict(remat=remat, scan_layers=scan_layers, rngs=rngs)
        text, vision = Stream(width, mlp_dim), Stream(vision_width, vision_mlp_dim)
        self.text_embedding = TextEmbedding(
            vocab_size, width, positions=text_positions, **drops, rngs=rngs
        )
        self.region_embedding = RegionEmbedding(seen_width, vision_width, **drops, rngs=rngs)
        self.text = Stack(
            depth,
            lambda rngs: PostNormBlock(width, num_heads, mlp_dim, **drops, rngs=rngs),
            **stacked,
        )
        self.vision = Stack(
            vision_depth,
            lambda rngs: PostNormBlock(
                vision_width, vision_num_heads, vision_mlp_dim, **drops, rngs=rngs
            ),
            **stacked,
        )
        self.co_attention = Stack(
            len(self.stops),
            lambda rngs: CoAttentionBlock(
                vision, text, width=co_width, num_heads=co_num_heads, **drops, rngs=rngs
            ),
            **stacked,
        )
        self.task_rows = (
            param(truncated_normal(init_std), (num_tasks, width), (None, "embed"), rngs)
            if num_tasks
            else None
        )
        self.task_row = task_row
        self.text_pooler = Linear(width, co_width, **layers, rngs=rngs)
        self.vision_pooler = Linear(vision_width, co_width, **layers, rngs=rngs)
        make: dict[str, Callable[[], nnx.Module]] = {
            "mlm": lambda: TiedLanguageHead(width, vocab_size, **layers, rngs=rngs),
            "region": lambda: MaskedLanguageHead(
                vision_width, region_classes or seen_width, **layers, rngs=rngs
            ),
            "itm": lambda: Linear(co_width, 2, **layers, rngs=rngs),
            "rank": lambda: Linear(co_width, 1, **layers, rngs=rngs),
            "vqa": lambda: AnswerHead(co_width, 2 * co_width, num_answers, **layers, rngs=rngs),
            "nlvr2": lambda: AnswerHead(2 * co_width, 2 * co_width, 2, **layers, rngs=rngs),
        }
        for head in HEADS:
            setattr(self, f"{head}_head", nnx.data(make[head]()) if head in heads else None)

    def see(self, visual: jax.Array | Regions) -> Regions:
        """The regions of a visual input, without the global one."""
        if not self.patch_size:
            assert isinstance(visual, tuple), "this model was made for regions, not for images"
            return Regions(*visual)
        assert not isinstance(visual, tuple), "this model was made for images, not for regions"
        return grid_regions(visual, self.patch_size)

    def encode_regions(
        self,
        regions: Regions,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
        *,
        segments: jax.Array | None = None,
    ) -> Pair:
        """Runs both streams.

        Args:
            regions: with the global one in front.
            token_ids, token_mask: [B, T].
            key: turns dropout on.
            segments: [B, T], rows of the segment table; None: row 0.
        """
        keys = split_key(key, 5)
        second = None
        if self.task_rows is not None:
            second = self.task_rows[self.task_row]
            token_mask = jnp.concatenate([token_mask[:, :1], token_mask], axis=1)
        tokens = Streams(
            vision=self.region_embedding(regions, keys[0]),
            text=self.text_embedding(token_ids, keys[1], segments=segments, second=second),
        )
        tokens = self._run_streams(tokens, regions.mask, token_mask, keys[2:])
        if second is not None:
            text = jnp.concatenate([tokens.text[:, :1], tokens.text[:, 2:]], axis=1)
            tokens = tokens._replace(text=text)
        vision = jax.nn.relu(self.vision_pooler(tokens.vision[:, 0]))
        text = jax.nn.relu(self.text_pooler(tokens.text[:, 0]))
        return Pair(tokens, Streams(vision, text), self.fuse(vision, text))

    def _run_streams(self, tokens, region_mask, token_mask, keys):
        """Blocks of both streams up to each co-attention block, that block, and the rest."""
        vision, text, (at_vision, at_text) = tokens.vision, tokens.text, (0, 0)
        ends = (*self.stops, (self.vision.depth, self.text.depth))
        for number, (vision_end, text_end) in enumerate(ends):
            parts = range(at_vision, vision_end), range(at_text, text_end)
            vision = self.vision(vision, mask=region_mask, part=parts[0], key=keys[0])
            text = self.text(text, mask=token_mask, part=parts[1], key=keys[1])
            if number < len(self.stops):
                vision, text = self.co_attention(
                    Streams(vision, text),
                    region_mask=region_mask,
                    token_mask=token_mask,
                    part=range(number, number + 1),
                    key=keys[2],
                )
            at_vision, at_text = vision_end, text_end
        return Streams(vision, text)

    def predict_words(self, states: jax.Array) -> jax.Array:
        """States of the text [..., D] -> logits of tokens [..., V] float32."""
        return self.mlm_head(states, self.text_embedding.word[...])

    def predict_regions(self, states: jax.Array) -> jax.Array:
        """States of regions [..., D] -> logits of their classes, or their features, float32."""
        return self.region_head(states)

    def match_logits(self, fused: jax.Array) -> jax.Array:
        """[..., C] -> logits of "no match" and "match" [..., 2] float32, which the official head
        has the other way round.
        """
        return self.itm_head(fused).astype(jnp.float32)[..., ::-1]

    def pair_logits(
        self,
        image: jax.Array | Regions,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """A visual input and [B, T] -> logits of "no match" and "match" [B, 2] float32; of a model
        that ranks, 0 and its score.
        """
        if self.rank_head is not None:
            scores = self.rank_scores(image, token_ids, token_mask, key)
            return jnp.stack([jnp.zeros_like(scores), scores], axis=-1)
        return self.match_logits(self._fused(image, token_ids, token_mask, key))

    def rank_scores(
        self,
        image: jax.Array | Regions,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """A visual input and [B, T] -> scores by which pairs are ranked [B] float32."""
        fused = self._fused(image, token_ids, token_mask, key)
        return self.rank_head(fused).astype(jnp.float32)[:, 0]

    def answer(
        self,
        image: jax.Array | Regions,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """A visual input and [B, T] -> logits of the answers [B, num_answers] float32."""
        return self.vqa_head(self._fused(image, token_ids, token_mask, key))

    def compare(
        self,
        image_0: jax.Array | Regions,
        image_1: jax.Array | Regions,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Two visual inputs and [B, T] -> logits of false and true [B, 2] float32."""
        keys = split_key(key, 2)
        fused = [
            self._fused(image, token_ids, token_mask, key)
            for image, key in zip((image_0, image_1), keys, strict=True)
        ]
        return self.nlvr2_head(jnp.concatenate(fused, axis=-1))

    def _fused(self, image, token_ids, token_mask, key):
        regions = add_global_region(self.see(image))
        return self.encode_regions(regions, token_ids, token_mask, key).fused


class AnswerHead(nnx.Module):
    """dense, GELU, LayerNorm, dense to the classes: the official `SimpleClassifier`."""

    def __init__(
        self,
        in_features: int,
        hidden: int,
        num_classes: int,
        *,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dense = Linear(in_features, hidden, dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(hidden, epsilon=1e-12, rngs=rngs)
        self.out = Linear(hidden, num_classes, dtype=dtype, init_std=init_std, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Features [..., in_features] to logits [..., num_classes] float32."""
        return self.out(self.norm(gelu(self.dense(x)))).astype(jnp.float32)
