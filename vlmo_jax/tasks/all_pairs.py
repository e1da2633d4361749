"""Contrast and matching, each over all pairs of a batch.

Matching is learned as the contrast is: which of a batch's images belongs to a text, and which of
its texts to an image, by the cross-entropy of the scores of all pairs. So it sees all negatives,
the hard ones among them, and needs no draw. It takes a model that scores pairs at little cost, see
`models.late_vlmo`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.layers.linear import split_key
from vlmo_jax.objectives.batch_contrast import compare_batch
from vlmo_jax.objectives.contrastive import (
    contrastive_loss,
    duplicate_pairs,
    retrieval_accuracy,
)
from vlmo_jax.parallel.sharding import all_gather, constrain
from vlmo_jax.tasks.abilities import MatchesAllPairs
from vlmo_jax.tasks.pair_pretrain import PAIR_IDS
from vlmo_jax.tasks.protocols import Batch, Build, Metrics, Prepared
from vlmo_jax.tasks.stateless import Stateless


@dataclasses.dataclass(frozen=True)
class AllPairsTask(Stateless):
    """Losses of the dual encoder and of matching; a Task that takes a batch in one piece.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        itc_weight, match_weight: weights in the total.
        mask_duplicates: leave pairs with the same image or caption out of the negatives.
        dropout: whether dropout and drop-path draw anything.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    itc_weight: float = 1.0
    match_weight: float = 1.0
    mask_duplicates: bool = False
    dropout: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch; ids only where duplicates are looked for."""
        return ("image", "token_ids", "token_mask", *(PAIR_IDS if self.mask_duplicates else ()))

    def gradients(
        self, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
    ) -> tuple[Any, Metrics]:
        """Gradients like `params`, and metrics; `parts` is 1, as the recipe sees to."""

        def loss(params):
            return self.losses(build(params), prepared.batch, key if self.dropout else None)

        return jax.grad(loss, has_aux=True)(params)

    def losses(
        self, model: MatchesAllPairs, batch: Batch, key: jax.Array | None
    ) -> tuple[jax.Array, Metrics]:
        """The total and the metrics of a batch.

        Args:
            model: LateVLMo.
            batch: the global batch.
            key: random key or None.
        """
        image_key, text_key = split_key(key, 2)
        image = jnp.asarray(normalize_image(batch["image"], self.mean, self.std))
        images = model.encode_images(image, image_key)
        texts = model.encode_texts(batch["token_ids"], batch["token_mask"], text_key)
        scale = model.retrieval_scale()
        ids = tuple(batch[name] for name in PAIR_IDS) if self.mask_duplicates else ()
        contrast = compare_batch(images.feature, texts.feature, scale, ids=ids)
        scores = model.match_all(all_gather(images.states), texts.states, batch["token_mask"])
        by_image = constrain(scores.T, "batch")
        ignored = duplicate_pairs(*ids) if ids else None
        match_loss = contrastive_loss(by_image, scores, ignored)
        to_text, to_image = contrast.accuracies()
        total = self.itc_weight * contrast.loss + self.match_weight * match_loss
        return total, {
            "loss": total,
            "itc_loss": contrast.loss,
            "itc_image_to_text_accuracy": to_text,
            "itc_text_to_image_accuracy": to_image,
            "logit_scale": jnp.exp(scale),
            "match_loss": match_loss,
            "match_image_to_text_accuracy": retrieval_accuracy(by_image),
            "match_text_to_image_accuracy": retrieval_accuracy(scores),
        }
