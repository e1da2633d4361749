"""The contrast of a batch, its accuracies and its hard negatives: out of the similarities of all
pairs, or out of chunks of them in less memory.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from vlmo_jax.objectives.chunked_contrast import Ids, RowStatistics, chunked_contrast, draw_chunked
from vlmo_jax.objectives.contrastive import (
    contrastive_logits,
    contrastive_loss,
    duplicate_pairs,
    retrieval_accuracy,
)
from vlmo_jax.objectives.matching import WHOLE_BATCH, Draw, sample_hard_negatives


class BatchContrast(Protocol):
    """Images and texts of a batch, compared.

    Attributes:
        loss: scalar float32, see `contrastive.contrastive_loss`.
    """

    @property
    def loss(self) -> jax.Array:
        """The mean of both cross-entropies."""

    def accuracies(self) -> tuple[jax.Array, jax.Array]:
        """Shares of images whose most similar text is their own, and of texts, scalars float32."""

    def draw(self, image_key: jax.Array, text_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Hard negatives: an image for each text and a text for each image, [B] int32 each."""


def compare_batch(
    image: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array,
    *,
    ids: Ids = (),
    chunk: int = 0,
    how: Draw = WHOLE_BATCH,
) -> BatchContrast:
    """Compares the images and texts of a batch.

    Args:
        image, text: [B, D] float32 of length 1, the i-th text being right for the i-th image.
        logit_scale: scalar, logarithm of the scale.
        ids: none, or those of images and of texts, [B] integers each: rows that agree in one are no
            negatives of each other.
        chunk: similarities of so many columns at a time, a divisor of the rows of a shard; 0: all.
        how: hard negatives are drawn.
    """
    if chunk:
        return _Chunked.of(image, text, logit_scale, ids, chunk, how)
    ignored = duplicate_pairs(*ids) if ids else None
    logits = contrastive_logits(image, text, logit_scale)
    return _Whole(contrastive_loss(*logits, ignored), *logits, ignored, how)


class _Whole(NamedTuple):
    """A BatchContrast that holds the logits [B, B] of both directions."""

    loss: jax.Array
    image_to_text: jax.Array
    text_to_image: jax.Array
    ignored: jax.Array | None
    how: Draw

    def accuracies(self) -> tuple[jax.Array, jax.Array]:
        """See `BatchContrast`."""
        return retrieval_accuracy(self.image_to_text), retrieval_accuracy(self.text_to_image)

    def draw(self, image_key: jax.Array, text_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `BatchContrast`."""
        return (
            sample_hard_negatives(image_key, self.text_to_image, self.ignored, self.how),
            sample_hard_negatives(text_key, self.image_to_text, self.ignored, self.how),
        )


class _Chunked(NamedTuple):
    """A BatchContrast that holds the features, and of the logits statistics alone."""

    loss: jax.Array
    image_to_text: RowStatistics
    text_to_image: RowStatistics
    features: tuple[jax.Array, jax.Array, jax.Array]
    ids: Ids
    chunk: int
    how: Draw

    @classmethod
    def of(
        cls,
        image: jax.Array,
        text: jax.Array,
        logit_scale: jax.Array,
        ids: Ids,
        chunk: int,
        how: Draw,
    ) -> "_Chunked":
        """Compares in chunks; arguments as of `chunked_contrast`."""
        logit_scale = jnp.asarray(logit_scale)
        compared = chunked_contrast(image, text, logit_scale, ids, chunk, how)
        return cls(*compared, (image, text, logit_scale), ids, chunk, how)

    def accuracies(self) -> tuple[jax.Array, jax.Array]:
        """See `BatchContrast`."""
        rows = jnp.arange(len(self.image_to_text.best))
        to_text, to_image = (
            (side.best == rows).mean(dtype=jnp.float32)
            for side in (self.image_to_text, self.text_to_image)
        )
        return to_text, to_image

    def draw(self, image_key: jax.Array, text_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """See `BatchContrast`."""
        image, text, scale = self.features
        how = self.ids, self.chunk, self.how
        return (
            draw_chunked(image_key, text, image, scale, self.text_to_image, *how),
            draw_chunked(text_key, image, text, scale, self.image_to_text, *how),
        )
