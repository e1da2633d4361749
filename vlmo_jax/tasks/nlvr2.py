"""Whether statements are true of two images: fine-tuning's loss, and what a model says."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.objectives.answers import truth_losses
from vlmo_jax.tasks.abilities import ComparesImages
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless
from vlmo_jax.tasks.visual import IMAGES, visual_input


@dataclasses.dataclass(frozen=True)
class Nlvr2Task(Stateless):
    """The loss of NLVR2; a SummedTask.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch. Float images are
            taken as normalised already.
        dropout: whether dropout and drop-path draw anything.
        seen: names of the arrays by which an image is seen.

    Source: VLMo, section 4.2; the official `nlvr2` task.
    """

    gradients = summed_gradients
    weights: ClassVar[Mapping[str, float]] = {"nlvr2_loss": 1.0}

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dropout: bool = False
    seen: tuple[str, ...] = IMAGES

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        sides = (
            side + name.removeprefix("image")
            for side in ("image_0", "image_1")
            for name in self.seen
        )
        return (*sides, "token_ids", "token_mask", "label")

    def counts(self, batch: Batch) -> dict[str, int]:
        """Statements of the whole batch."""
        statements = len(batch["token_ids"])
        return {"nlvr2_loss": statements, "nlvr2_accuracy": statements}

    def sums(self, model: ComparesImages, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """nlvr2_loss and nlvr2_accuracy summed over the statements of a batch or of a part of it.

        Args:
            model: VLMo with the head "nlvr2".
            batch: image_0 and image_1 [B, S, S, 3], token_ids and token_mask [B, T], label [B].
            context: nothing.
            key: random key.
        """
        logits = _compare(model, batch, self.mean, self.std, key if self.dropout else None)
        right = jnp.argmax(logits, axis=-1) == batch["label"]
        return {
            "nlvr2_loss": truth_losses(logits, batch["label"]).sum(),
            "nlvr2_accuracy": right.sum(),
        }


def make_comparer(
    graphdef: nnx.GraphDef, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Any, Batch], jax.Array]:
    """A jitted function of (params, batch of global arrays), rows in and rows out: image_0 and
    image_1 uint8 [B, S, S, 3], token_ids and token_mask [B, T] -> probability that the statement is
    true [B] float32.

    Args:
        graphdef: of the model.
        mean, std: normalise images as in training.
    """

    def compare(params, batch):
        logits = _compare(nnx.merge(graphdef, params), batch, mean, std, None)
        return jax.nn.softmax(logits)[:, 1]

    return jax.jit(compare)


def _compare(model, batch, mean, std, key):
    images = (visual_input(batch, mean, std, f"image_{side}") for side in (0, 1))
    return model.compare(*images, batch["token_ids"], batch["token_mask"], key)
