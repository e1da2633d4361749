"""The triplet loss over a whole batch, for dual encoders that pool what they see.

At first all negatives count, then the hardest of each query alone, from which nothing is learned at
the start.

Source: Chen et al., section 5, and woodfrog/vse_infty.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.objectives.contrastive import contrastive_logits, duplicate_pairs, retrieval_accuracy
from vlmo_jax.objectives.triplet import triplet_loss, triplet_losses
from vlmo_jax.tasks.abilities import PoolsPairs
from vlmo_jax.tasks.gradients import contrastive_gradients
from vlmo_jax.tasks.pair_pretrain import PAIR_IDS
from vlmo_jax.tasks.protocols import Batch, Metrics, Prepared
from vlmo_jax.tasks.visual import IMAGES, visual_input

COLLAPSED = "collapsed"  # the metric that is 1 where all vectors of a batch are alike
UPDATES = "updates"  # in TrainState.extra: how many there were
ALIKE = 0.01  # deviation of the similarities of a batch below which they say nothing
STUCK = (
    0.98  # of the margin: the loss of a query whose hardest negative is as near as what is right
)


class Features(NamedTuple):
    """Vectors [B, E] of length 1."""

    image: jax.Array
    text: jax.Array


@dataclasses.dataclass(frozen=True)
class TripletTask:
    """The triplet loss; a ContrastiveTask without fused passes.

    Args:
        graphdef: of the model, which the task asks for its running statistics.
        seen: the arrays of a batch that the model sees, of tasks/visual.py.
        mean, std: normalise uint8 images.
        margin: by which what is right should be ahead of negatives.
        warmup_steps: updates in which all negatives count.
        mask_duplicates: leave pairs with the same image or caption out of the negatives.
        dropped_patches: share of the places of a grid that are left out.
        text_dropout: whether the texts' dropout draws anything.
    """

    gradients = contrastive_gradients
    extra_axes: ClassVar[Mapping[str, tuple]] = {UPDATES: ()}
    weights: ClassVar[Mapping[str, float]] = {}

    graphdef: nnx.GraphDef
    seen: tuple[str, ...] = IMAGES
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    margin: float = 0.2
    warmup_steps: int = 0
    mask_duplicates: bool = False
    dropped_patches: float = 0.0
    text_dropout: bool = False

    @property
    def dropout(self) -> bool:
        """Whether the model draws anything."""
        return self.text_dropout or self.dropped_patches > 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch; ids only where duplicates are looked for."""
        ids = PAIR_IDS if self.mask_duplicates else ()
        return (*self.seen, "token_ids", "token_mask", *ids)

    def initial_extra(self, params: Any) -> dict[str, Any]:
        """No update so far."""
        return {UPDATES: jnp.zeros((), jnp.int32)}

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Counts the updates, which are the context, and moves the running statistics."""
        model = nnx.merge(self.graphdef, params)
        settled = model.moved_statistics(visual_input(batch, self.mean, self.std))
        done = extra[UPDATES]
        return Prepared(batch, done, {UPDATES: done + 1}, settled)

    def features(self, model: PoolsPairs, batch: Batch, key: jax.Array | None) -> Features:
        """Vectors of a batch or of a part of one."""
        image_key, text_key = (None, None) if key is None else jax.random.split(key)
        image = visual_input(batch, self.mean, self.std)
        return Features(
            model.learn_image(image, dropped=self.dropped_patches, key=image_key),
            model.retrieval_text(batch["token_ids"], batch["token_mask"], text_key),
        )

    def contrast(
        self, features: Features, batch: Batch, context: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Any, Metrics]:
        """The triplet loss of the global batch, summed over it; no negatives are drawn.

        Args:
            features: of the global batch.
            batch: the global batch.
            context: updates so far.
            key: not used.
        """
        scores = contrastive_logits(features.image, features.text, 0.0)
        ignored = None
        if self.mask_duplicates:
            ignored = duplicate_pairs(batch["image_id"], batch["text_id"])
        hardest = context >= self.warmup_steps
        loss = triplet_loss(*scores, self.margin, hardest=hardest, ignored=ignored)
        image_to_text, text_to_image = scores
        metrics = {
            "triplet_loss": loss / len(image_to_text),  # of a pair, both ways
            "image_to_text_accuracy": retrieval_accuracy(image_to_text),
            "text_to_image_accuracy": retrieval_accuracy(text_to_image),
            "similarity_deviation": jnp.std(image_to_text),
            COLLAPSED: (hardest & self._collapsed(scores, ignored)).astype(jnp.float32),
        }
        return loss, (), metrics

    def _collapsed(
        self, scores: tuple[jax.Array, jax.Array], ignored: jax.Array | None
    ) -> jax.Array:
        """Whether all similarities are alike, so that the hardest negatives cost the margin."""
        worst = sum(triplet_losses(way, self.margin, ignored)[1].mean() for way in scores)
        return (worst > 2 * STUCK * self.margin) & (jnp.std(scores[0]) < ALIKE)

    def fused_pairs(self, batch: Batch, negatives: Any) -> dict[str, jax.Array]:
        """There are none."""
        return {}

    def counts(self, batch: Batch) -> dict[str, Any]:
        """There are no fused passes."""
        return {}

    def fused_sums(self, model: Any, batch: Batch, context: Any, key: jax.Array | None) -> Metrics:
        """There are no fused passes."""
        return {}
