"""Stage 3: image-text contrast, hard-negative matching and masked language modelling on pairs.

total = itm + (itc + itc_vl) / 2 + 0.25 * mlm, with the weights in the config.

A step is an image and a text pass with both contrastive branches, then four fused passes that run
as one: MLM, positive pair, hard negative image, hard negative text. The last block of the fused
passes computes only the tokens that ITM and MLM read. The contrastive part is a function of
features alone, so that a step may also be taken in pieces with the negatives of the whole batch
(see gradients.py).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.objectives.contrastive import (
    contrastive_logits,
    contrastive_loss,
    duplicate_pairs,
    retrieval_accuracy,
)
from vlmo_jax.objectives.masked_language import count_masked, masked_language_metrics
from vlmo_jax.objectives.matching import matching_loss, sample_hard_negatives
from vlmo_jax.parallel.sharding import constrain
from vlmo_jax.tasks.gradients import cached_gradients


class Features(NamedTuple):
    """ITC features [B, D] of both branches, and the logarithms of both scales."""

    image: jax.Array
    text: jax.Array
    image_vl: jax.Array
    text_vl: jax.Array
    logit_scale: jax.Array
    logit_scale_vl: jax.Array


class Shared(NamedTuple):
    """What the fused passes of any part of the batch need of the whole batch."""

    image_negatives: jax.Array  # [B] int32, a row of the global batch for each text
    text_negatives: jax.Array  # [B] int32, a row of the global batch for each image
    num_masked: jax.Array  # scalar float32, masked tokens in the global batch


@dataclasses.dataclass(frozen=True)
class PretrainTask:
    """Losses of stage 3.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch. Float images are
            taken as normalised already.
        itc_weight, itm_weight, mlm_weight: weights in the total; ITC is the mean of both branches.
        mask_duplicates: leave pairs with the same image or caption out of the negatives.
        dropout: whether dropout and drop-path draw anything.
    """

    gradients = cached_gradients

    mean: tuple = (0.5, 0.5, 0.5)
    std: tuple = (0.5, 0.5, 0.5)
    itc_weight: float = 1.0
    itm_weight: float = 1.0
    mlm_weight: float = 0.25
    mask_duplicates: bool = False
    dropout: bool = False

    def prepare(self, batch, extra):
        """The batch as it is: what its parts share depends on the features (see `contrast`)."""
        return batch, ()

    def features(self, model, batch, key):
        """ITC features of a batch or of a part of one."""
        image_key, text_key = _split(key, 2)
        image, image_vl = model.image_features(self._normalize(batch["image"]), image_key)
        text, text_vl = model.text_features(batch["token_ids"], batch["token_mask"], text_key)
        return Features(
            image,
            text,
            image_vl,
            text_vl,
            model.itc.logit_scale[...],
            model.itc_vl.logit_scale[...],
        )

    def contrast(self, features, batch, key):
        """The contrastive loss of the global batch and the negatives drawn by its V/L branch.

        Args:
            features: Features of the global batch.
            batch: the global batch.
            key: random key of the negatives.

        Returns:
            Weighted loss, Shared, and metrics name -> scalar.
        """
        ignored = (
            duplicate_pairs(batch["image_id"], batch["text_id"]) if self.mask_duplicates else None
        )
        image_to_text, text_to_image = contrastive_logits(
            features.image, features.text, features.logit_scale
        )
        itc = contrastive_loss(image_to_text, text_to_image, ignored)
        itc_vl = contrastive_loss(
            *contrastive_logits(features.image_vl, features.text_vl, features.logit_scale_vl),
            ignored,
        )
        image_key, text_key = jax.random.split(key)
        shared = Shared(
            image_negatives=sample_hard_negatives(image_key, text_to_image, ignored),
            text_negatives=sample_hard_negatives(text_key, image_to_text, ignored),
            num_masked=count_masked(batch["mlm_labels"]),
        )
        metrics = {
            "itc_loss": 0.5 * (itc + itc_vl),
            "itc_image_to_text_accuracy": retrieval_accuracy(image_to_text),
            "itc_text_to_image_accuracy": retrieval_accuracy(text_to_image),
            "logit_scale": jnp.exp(features.logit_scale),
        }
        return self.itc_weight * metrics["itc_loss"], shared, metrics

    def negatives(self, batch, shared):
        """Fetches the hard negatives of the whole batch: images (as they came, uint8) and texts.

        Images are gathered before they become floats: a fourth of the bytes between devices.
        """
        rows = constrain(shared.image_negatives, None)
        images = constrain(jnp.take(constrain(batch["image"], None), rows, axis=0), "batch")
        texts = {
            name: jnp.take(batch[name], shared.text_negatives, axis=0)
            for name in ("token_ids", "token_mask")
        }
        return {
            "negative_image": images,
            **{f"negative_{name}": value for name, value in texts.items()},
        }

    def fuse(self, model, batch, shared, global_batch_size, key):
        """The four fused passes: this part's share of the global ITM and MLM losses.

        Args:
            model: VLMo.
            batch: the global batch or a part of it with its negatives.
            shared: see `contrast`.
            global_batch_size: B of the whole batch; sums over parts are means over the batch.
            key: random key or None.

        Returns:
            Weighted loss and metrics, to be summed over the parts.
        """
        states = self._fused_states(model, batch, key)
        itm_logits = model.itm_head(model.pooler(states[:, 1:, 0])).astype(jnp.float32)
        itm_labels = jnp.broadcast_to(jnp.asarray([1, 0, 0]), itm_logits.shape[:2])
        itm = matching_loss(itm_logits, itm_labels).sum() / (3 * global_batch_size)
        mlm = masked_language_metrics(
            model.mlm_head(states[:, 0]), batch["mlm_labels"], shared.num_masked
        )
        right = (jnp.argmax(itm_logits, axis=-1) == itm_labels).sum() / (3 * global_batch_size)
        metrics = {"itm_loss": itm, "itm_accuracy": right, **mlm}
        return self.itm_weight * itm + self.mlm_weight * mlm["mlm_loss"], metrics

    def _fused_states(self, model, batch, key):
        """States [B, 4, M, D] that the heads read: masked places of pass 0, first tokens of passes
        1 to 3.
        """
        text_keys, encode_key = (None, None) if key is None else jax.random.split(key)
        text_keys = _split(text_keys, 3)
        image = model.embed_image(self._normalize(batch["image"]))
        negative_image = model.embed_image(self._normalize(batch["negative_image"]))
        ids = (batch["mlm_token_ids"], batch["token_ids"], batch["negative_token_ids"])
        masked, text, negative_text = (model.embed_text(i, k) for i, k in zip(ids, text_keys))
        mask, negative_mask = batch["token_mask"], batch["negative_token_mask"]
        positions = batch["mlm_positions"]
        first = jnp.zeros_like(positions)
        states = model.encode_fused(
            _interleave(masked, text, text, negative_text),
            _interleave(mask, mask, mask, negative_mask),
            _interleave(image, image, negative_image, image),
            read=_interleave(positions, first, first, first),
            key=encode_key,
        )
        return states.reshape(len(image), 4, *states.shape[1:])

    def _normalize(self, image):
        return normalize_image(image, self.mean, self.std) if image.dtype == jnp.uint8 else image


def _interleave(*passes):
    """Stacks passes [B, ...] to [B * passes, ...], example by example: no row leaves its device."""
    x = jnp.stack(passes, axis=1)
    return constrain(x.reshape(-1, *x.shape[2:]), "batch")


def _split(key, count):
    return [None] * count if key is None else jax.random.split(key, count)
