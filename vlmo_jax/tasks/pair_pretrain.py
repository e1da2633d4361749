"""Stage 3: image-text contrast, hard-negative matching and masked language modelling on pairs.

total = itm + (itc + itc_vl) / 2 + 0.25 * mlm, with the weights in the config.

A step is an image and a text pass with both contrastive branches, then four fused passes that run
as one: MLM, positive pair, hard negative image, hard negative text. The last block of the fused
passes computes only the tokens that ITM and MLM read. The contrastive part is a function of
features alone, so that a step may also be taken in pieces with the negatives of the whole batch
(see gradients.py).
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.layers.linear import split_key
from vlmo_jax.objectives.batch_contrast import compare_batch
from vlmo_jax.objectives.masked_language import masked_counts, masked_totals
from vlmo_jax.objectives.matching import Draw, matching_loss
from vlmo_jax.parallel.ring import take_rows
from vlmo_jax.parallel.sharding import constrain, interleave
from vlmo_jax.tasks.abilities import PretrainsByOneBranch, PretrainsOnPairs
from vlmo_jax.tasks.gradients import contrastive_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless

# The arrays of a batch that the losses read, and those that tell duplicates.
PAIR_ARRAYS = (
    "image",
    "token_ids",
    "token_mask",
    "mlm_token_ids",
    "mlm_positions",
    "mlm_labels",
)
PAIR_IDS = ("image_id", "text_id")


class Features(NamedTuple):
    """ITC features [B, D] of both branches, and the logarithms of both scales."""

    image: jax.Array
    text: jax.Array
    image_vl: jax.Array
    text_vl: jax.Array
    logit_scale: jax.Array
    logit_scale_vl: jax.Array


class Negatives(NamedTuple):
    """Rows of the global batch that serve as hard negatives.

    Attributes:
        image: [B] int32, an image for each text.
        text: [B] int32, a text for each image.
    """

    image: jax.Array
    text: jax.Array


@dataclasses.dataclass(frozen=True)
class PairPretrainTask(Stateless):
    """Losses of stage 3; a ContrastiveTask.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch. Float images are
            taken as normalised already.
        itc_weight, itm_weight, mlm_weight: weights in the total; ITC is the mean of both branches.
        mask_duplicates: leave pairs with the same image or caption out of the negatives.
        num_fused: F, pairs of a batch that take the fused passes, a divisor of the batch; 0: all.
        easier_negatives: 0 draws negatives from the softmax of the similarities, as the paper does,
            1 at random; in between, similarities are multiplied by 1 less this.
        negative_groups: consecutive parts of the batch within which negatives are drawn; 0: one.
        contrast_chunk: how many columns of the similarities are there at a time, and images of
            negatives come past shard by shard; 0: all.
        dropout: whether dropout and drop-path draw anything.
    """

    gradients = contrastive_gradients

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    itc_weight: float = 1.0
    itm_weight: float = 1.0
    mlm_weight: float = 0.25
    mask_duplicates: bool = False
    num_fused: int = 0
    easier_negatives: float = 0.0
    negative_groups: int = 0
    contrast_chunk: int = 0
    dropout: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch; ids only where duplicates are looked for."""
        return PAIR_ARRAYS + (PAIR_IDS if self.mask_duplicates else ())

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the fused losses."""
        return {"itm_loss": self.itm_weight, "mlm_loss": self.mlm_weight}

    def features(self, model: PretrainsOnPairs, batch: Batch, key: jax.Array | None) -> Features:
        """ITC features of a batch or of a part of one."""
        image_key, text_key = split_key(key, 2)
        image, image_vl = model.image_features(self._normalize(batch["image"]), image_key)
        text, text_vl = model.text_features(batch["token_ids"], batch["token_mask"], text_key)
        return Features(image, text, image_vl, text_vl, *model.logit_scales())

    @jax.named_scope("contrastive_loss")
    def contrast(
        self, features: Features, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Negatives, Metrics]:
        """The contrastive loss of the global batch and the negatives drawn by its V/L branch.

        Args:
            features: Features of the global batch.
            batch: the global batch.
            context: nothing.
            key: random key of the negatives.

        Returns:
            Weighted loss, Negatives, and metrics name -> scalar.
        """
        compare = functools.partial(
            compare_batch,
            ids=tuple(batch[name] for name in PAIR_IDS) if self.mask_duplicates else (),
            chunk=self.contrast_chunk,
            how=Draw(self.easier_negatives, self.negative_groups),
        )
        contrast = compare(features.image, features.text, features.logit_scale)
        image_key, text_key = jax.random.split(key)
        negatives = Negatives(*contrast.draw(image_key, text_key))
        to_text, to_image = contrast.accuracies()
        metrics = {
            "itc_loss": self._join_branches(contrast.loss, features, compare),
            "itc_image_to_text_accuracy": to_text,
            "itc_text_to_image_accuracy": to_image,
            "logit_scale": jnp.exp(features.logit_scale),
        }
        return self.itc_weight * metrics["itc_loss"], negatives, metrics

    def fused_pairs(self, batch: Batch, negatives: Negatives) -> dict[str, jax.Array]:
        """The pairs that take the fused passes, spread over the batch and so over its shards, and
        their hard negatives out of the whole batch.
        """
        step = len(batch["image"]) // (self.num_fused or len(batch["image"]))
        rows, negatives = jax.tree.map(lambda x: _every(x, step), (dict(batch), negatives))
        if self.contrast_chunk or self.negative_groups:
            return {**rows, **pass_negatives(batch, negatives, max(1, self.negative_groups))}
        return {**rows, **fetch_negatives(batch, negatives)}

    def counts(self, batch: Batch) -> dict[str, Any]:
        """What the sums of the fused passes are divided by: 3 matches a pair, masked tokens."""
        matches = 3 * len(batch["token_ids"])
        masked = masked_counts(batch["mlm_labels"])
        return {"itm_loss": matches, "itm_accuracy": matches, **masked}

    @jax.named_scope("fused_losses")
    def fused_sums(
        self, model: PretrainsOnPairs, batch: Batch, context: Any, key: jax.Array | None
    ) -> Metrics:
        """The four fused passes: losses and accuracies summed over matches and masked tokens.

        Args:
            model: VLMo.
            batch: the global batch or a part of it with its negatives.
            context: nothing.
            key: random key or None.

        Returns:
            itm_loss, itm_accuracy, mlm_loss, mlm_accuracy: scalars float32.
        """
        states = self._fused_states(model, batch, key)
        itm_logits = model.match_logits(states[:, 1:, 0])
        itm_labels = jnp.broadcast_to(jnp.asarray([1, 0, 0]), itm_logits.shape[:2])
        return {
            "itm_loss": matching_loss(itm_logits, itm_labels).sum(),
            "itm_accuracy": (jnp.argmax(itm_logits, axis=-1) == itm_labels).sum(),
            **masked_totals(model.predict_words(states[:, 0]), batch["mlm_labels"]),
        }

    def _fused_states(self, model, batch, key):
        """States [B, 4, M, D] that the heads read: masked places of pass 0, first tokens of passes
        1 to 3.
        """
        text_keys, encode_key = (None, None) if key is None else jax.random.split(key)
        text_keys = split_key(text_keys, 3)
        image = model.embed_image(self._normalize(batch["image"]))
        negative_image = model.embed_image(self._normalize(batch["negative_image"]))
        ids = (batch["mlm_token_ids"], batch["token_ids"], batch["negative_token_ids"])
        masked, text, negative_text = map(model.embed_text, ids, text_keys)
        mask, negative_mask = batch["token_mask"], batch["negative_token_mask"]
        positions = batch["mlm_positions"]
        first = jnp.zeros_like(positions)
        states = model.encode_fused(
            interleave(masked, text, text, negative_text),
            interleave(mask, mask, mask, negative_mask),
            interleave(image, image, negative_image, image),
            read=interleave(positions, first, first, first),
            key=encode_key,
        )
        return states.reshape(len(image), 4, *states.shape[1:])

    def _join_branches(self, itc, features, compare):
        """The contrast of both branches, of which that of the modalities' own experts is known."""
        other = compare(features.image_vl, features.text_vl, features.logit_scale_vl)
        return 0.5 * (itc + other.loss)

    def _normalize(self, image):
        return normalize_image(image, self.mean, self.std) if image.dtype == jnp.uint8 else image


class OneBranch(NamedTuple):
    """ITC features [B, D] of the modalities' own experts, and the logarithm of the scale."""

    image: jax.Array
    text: jax.Array
    logit_scale: jax.Array


@dataclasses.dataclass(frozen=True)
class OneBranchPretrainTask(PairPretrainTask):
    """The same with one contrastive branch, that of the modalities' own experts."""

    def features(  # type: ignore[override]  # of another branch less
        self, model: PretrainsByOneBranch, batch: Batch, key: jax.Array | None
    ) -> OneBranch:
        """ITC features of a batch or of a part of one."""
        image_key, text_key = split_key(key, 2)
        image = model.retrieval_image(self._normalize(batch["image"]), image_key)
        text = model.retrieval_text(batch["token_ids"], batch["token_mask"], text_key)
        return OneBranch(image, text, model.retrieval_scale())

    def _join_branches(self, itc, features, compare):
        return itc


@jax.named_scope("fetch_negatives")
def fetch_negatives(batch: Batch, negatives: Negatives) -> dict[str, jax.Array]:
    """Fetches hard negatives out of the whole batch: images (as they came, uint8) and texts.

    Images are gathered before they become floats: a fourth of the bytes between devices.
    """
    rows = constrain(negatives.image, None)
    images = constrain(jnp.take(constrain(batch["image"], None), rows, axis=0), "batch")
    texts = {
        f"negative_{name}": jnp.take(batch[name], negatives.text, axis=0)
        for name in ("token_ids", "token_mask")
    }
    return {"negative_image": images, **texts}


@jax.named_scope("fetch_negatives")
def pass_negatives(batch: Batch, negatives: Negatives, groups: int = 1) -> dict[str, jax.Array]:
    """The same arrays as of `fetch_negatives`, on devices of which none holds more images than its
    own and those of one other shard.

    As many bytes go between devices as there, those of the whole batch; with groups those of a
    group, and none where no group is of several shards.

    Args:
        batch, negatives: as there.
        groups: consecutive parts of the batch, out of which their negatives are; see `take_rows`.
    """
    images = take_rows({"negative_image": batch["image"]}, negatives.image, groups)
    texts = {f"negative_{name}": batch[name] for name in ("token_ids", "token_mask")}
    return {**images, **take_rows(texts, negatives.text, groups)}


def _every(x, step):
    """Every so manieth row of [B, ...]."""
    return x if step == 1 else constrain(x[::step], "batch")
