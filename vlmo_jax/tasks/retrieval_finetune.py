"""Fine-tuning for retrieval: the contrast of the dual encoder, alone or with matching.

The contrast is that of the whole batch, however many parts it goes through the model in (see
gradients.py): the official code reaches its batch of 3,072 by adding up smaller contrasts, whose
negatives are fewer. As there, other captions of the same image are negatives, unless
`mask_duplicates` leaves them out.

Source: VLMo, section 3.3; official `compute_irtr` (contrast) and, for the second task, the losses
of stage 3 without masked words, whose model re-ranks.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.objectives.batch_contrast import BatchContrast, compare_batch
from vlmo_jax.objectives.matching import matching_loss
from vlmo_jax.tasks.abilities import FusesPairs, LearnsToRetrieve
from vlmo_jax.tasks.gradients import contrastive_gradients
from vlmo_jax.tasks.pair_pretrain import PAIR_IDS, Negatives, fetch_negatives, pass_negatives
from vlmo_jax.tasks.protocols import Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless


class Features(NamedTuple):
    """Features [B, D] of length 1, and the logarithm of their scale."""

    image: jax.Array
    text: jax.Array
    logit_scale: jax.Array


@dataclasses.dataclass(frozen=True)
class RetrievalTask(Stateless):
    """The contrast of a dual encoder; a ContrastiveTask without fused passes.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        mask_duplicates: leave pairs with the same image or caption out of the negatives.
        contrast_chunk: how many columns of the similarities are there at a time; 0: all.
        dropout: whether dropout and drop-path draw anything.
    """

    gradients = contrastive_gradients

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    mask_duplicates: bool = False
    contrast_chunk: int = 0
    dropout: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch; ids only where duplicates are looked for."""
        return ("image", "token_ids", "token_mask", *(PAIR_IDS if self.mask_duplicates else ()))

    @property
    def weights(self) -> dict[str, float]:
        """There are no fused losses."""
        return {}

    def features(self, model: LearnsToRetrieve, batch: Batch, key: jax.Array | None) -> Features:
        """Features of a batch or of a part of one."""
        image_key, text_key = (None, None) if key is None else jax.random.split(key)
        image = model.retrieval_image(self.normalize(batch["image"]), image_key)
        text = model.retrieval_text(batch["token_ids"], batch["token_mask"], text_key)
        return Features(image, text, model.retrieval_scale())

    def contrast(
        self, features: Features, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Any, Metrics]:
        """The contrastive loss of the global batch; no negatives are drawn.

        Args:
            features: of the global batch.
            batch: the global batch.
            context: nothing.
            key: not used.
        """
        contrast = self.compare(features, batch)
        return contrast.loss, (), _describe(contrast, features)

    def fused_pairs(self, batch: Batch, negatives: Any) -> dict[str, jax.Array]:
        """There are none."""
        return {}

    def counts(self, batch: Batch) -> dict[str, Any]:
        """There are no fused passes."""
        return {}

    def fused_sums(self, model: Any, batch: Batch, context: Any, key: jax.Array | None) -> Metrics:
        """There are no fused passes."""
        return {}

    def normalize(self, image: jax.Array) -> jax.Array:
        """uint8 images as the model reads them."""
        return jnp.asarray(normalize_image(image, self.mean, self.std))

    def compare(self, features: Features, batch: Batch) -> BatchContrast:
        """Compares the images and texts of the global batch."""
        ids = tuple(batch[name] for name in PAIR_IDS) if self.mask_duplicates else ()
        return compare_batch(*features, ids=ids, chunk=self.contrast_chunk)


@dataclasses.dataclass(frozen=True)
class RetrievalMatchingTask(RetrievalTask):
    """The same with matching of pairs and hard negatives, so that the model can re-rank.

    Args:
        itm_weight: weight of matching in the total; that of the contrast is 1.
    """

    itm_weight: float = 1.0

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the fused losses."""
        return {"itm_loss": self.itm_weight}

    def contrast(
        self, features: Features, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Negatives, Metrics]:
        """The contrastive loss of the global batch, and negatives drawn by its similarities.

        Args:
            features: of the global batch.
            batch: the global batch.
            context: nothing.
            key: random key of the negatives.
        """
        contrast = self.compare(features, batch)
        image_key, text_key = jax.random.split(key)
        negatives = Negatives(*contrast.draw(image_key, text_key))
        return contrast.loss, negatives, _describe(contrast, features)

    def fused_pairs(self, batch: Batch, negatives: Negatives) -> dict[str, jax.Array]:
        """All pairs of the batch, and their negatives."""
        fetch = pass_negatives if self.contrast_chunk else fetch_negatives
        return {**batch, **fetch(batch, negatives)}

    def counts(self, batch: Batch) -> dict[str, Any]:
        """Three matches a pair."""
        matches = 3 * len(batch["token_ids"])
        return {"itm_loss": matches, "itm_accuracy": matches}

    def fused_sums(
        self, model: FusesPairs, batch: Batch, context: Any, key: jax.Array | None
    ) -> Metrics:
        """Loss and accuracy of the three fused passes, summed over their matches.

        Args:
            model: VLMo.
            batch: the global batch or a part of it, with its negatives.
            context: nothing.
            key: random key or None.
        """
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        own = batch["token_ids"], batch["token_mask"]
        other = batch["negative_token_ids"], batch["negative_token_mask"]
        image, other_image = map(self.normalize, (batch["image"], batch["negative_image"]))
        passes = zip((image, other_image, image), (own, own, other), keys, strict=True)
        logits = jnp.stack([model.pair_logits(x, *text, key) for x, text, key in passes], axis=1)
        labels = jnp.broadcast_to(jnp.asarray([1, 0, 0]), logits.shape[:2])
        return {
            "itm_loss": matching_loss(logits, labels).sum(),
            "itm_accuracy": (jnp.argmax(logits, axis=-1) == labels).sum(),
        }


def _describe(contrast: BatchContrast, features: Features) -> Metrics:
    to_text, to_image = contrast.accuracies()
    return {
        "itc_loss": contrast.loss,
        "itc_image_to_text_accuracy": to_text,
        "itc_text_to_image_accuracy": to_image,
        "logit_scale": jnp.exp(features.logit_scale),
    }
