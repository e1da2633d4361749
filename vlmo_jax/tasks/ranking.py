"""Fine-tuning of a fusion encoder for retrieval: which of some texts is an image's own.

Source: ViLT's official `compute_irtr`. There the other texts come from anywhere in the data set,
here from the batch.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from vlmo_jax.parallel.sharding import constrain
from vlmo_jax.tasks.abilities import LearnsToRank
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Build, Metrics, Prepared
from vlmo_jax.tasks.stateless import Stateless
from vlmo_jax.tasks.visual import IMAGES, visual_input

TEXTS = ("token_ids", "token_mask")
OTHER = "other_"  # before the names of other texts [B, K, T]


@dataclasses.dataclass(frozen=True)
class RankingTask(Stateless):
    """The cross-entropy of an image's own text among others; a SummedTask, which draws the others
    from the whole batch before it goes through the model in parts.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        num_false: K, other texts of an image, fewer than a batch has rows.
        dropout: whether dropout draws anything.
        seen: names of the arrays by which an image is seen.
    """

    weights: ClassVar[dict[str, float]] = {"rank_loss": 1.0}

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    num_false: int = 15
    dropout: bool = False
    seen: tuple[str, ...] = IMAGES

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        return (*self.seen, *TEXTS)

    def gradients(
        self, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
    ) -> tuple[Any, Metrics]:
        """See `gradients.summed_gradients`; the other texts are drawn first."""
        draw_key, model_key = jax.random.split(key)
        texts = draw_texts(prepared.batch, self.num_false, draw_key)
        prepared = prepared._replace(batch={**prepared.batch, **texts})
        return summed_gradients(self, build, params, prepared, model_key, parts)

    def counts(self, batch: Batch) -> dict[str, int]:
        """Images of the whole batch."""
        images = len(batch["token_ids"])
        return {"rank_loss": images, "rank_accuracy": images}

    def sums(self, model: LearnsToRank, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """rank_loss and rank_accuracy, summed over the images of a batch or of a part of it.

        Args:
            model: ViLT with the head "rank".
            batch: with the texts of `draw_texts`.
            context: nothing.
            key: random key.
        """
        texts = [
            jnp.concatenate([batch[name][:, None], batch[OTHER + name]], axis=1) for name in TEXTS
        ]
        count = texts[0].shape[1]
        flat = [constrain(text.reshape(-1, text.shape[-1]), "batch") for text in texts]
        seen = visual_input(batch, self.mean, self.std)
        images = jax.tree.map(lambda x: constrain(jnp.repeat(x, count, axis=0), "batch"), seen)
        token_ids, token_mask = flat
        scores = model.rank_scores(images, token_ids, token_mask, key if self.dropout else None)
        scores = scores.reshape(-1, count)
        own = jnp.zeros(len(scores), jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, own)
        return {
            "rank_loss": losses.sum(),
            "rank_accuracy": (jnp.argmax(scores, axis=-1) == own).sum(),
        }


def draw_texts(batch: Batch, count: int, key: jax.Array) -> dict[str, jax.Array]:
    """Other texts of each image: `count` of the whole batch at random, none twice.

    Args:
        batch: the whole batch, of more rows than `count`.
        count: K.
        key: random key.

    Returns:
        Their arrays [B, K, T] by the names of the batch with `other_` in front.
    """
    size = len(batch["token_ids"])
    drawn = jax.random.uniform(key, (size, size))
    drawn = jnp.where(jnp.eye(size, dtype=bool), -1.0, drawn)
    rows = jax.lax.top_k(drawn, count)[1]
    return {
        OTHER + name: constrain(jnp.take(constrain(batch[name], None), rows, axis=0), "batch")
        for name in TEXTS
    }
