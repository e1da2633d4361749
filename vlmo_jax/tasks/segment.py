"""Segmentation: fine-tuning's losses, and the class of each pixel."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.datasets.masks import IGNORED
from vlmo_jax.layers.batch_norm import running_statistics
from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.layers.grids import resize_bilinear
from vlmo_jax.objectives.pixel_classes import pixel_losses
from vlmo_jax.tasks.abilities import SegmentsImages
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import SETTLED, Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless

MEANS = ("labelled", "all")  # over which pixels a loss is averaged
MAIN, AUXILIARY, ACCURACY = "segmentation_loss", "auxiliary_loss", "pixel_accuracy"


@dataclasses.dataclass(frozen=True)
class SegmentTask(Stateless):
    """Cross-entropy of pixels by two heads; a SummedTask.

    Args:
        auxiliary_weight: of the loss of the auxiliary head.
        mean_over: one of MEANS; "all" counts pixels without a label as free of loss, as the
            official code does.
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch. Float images are
            taken as normalised already.
        dropout: whether drop-path or dropout draws anything.

    Of a batch that goes through in parts, the running statistics are moved by the mean of those of
    the parts.
    """

    gradients = summed_gradients

    auxiliary_weight: float = 0.4
    mean_over: str = "labelled"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dropout: bool = False

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss -> its weight in the total."""
        return {MAIN: 1.0, AUXILIARY: self.auxiliary_weight}

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        return ("image", "mask")

    def counts(self, batch: Batch) -> dict[str, Any]:
        """Pixels of the whole batch, and of the running statistics its images."""
        mask = batch["mask"]
        labelled = jnp.maximum((mask != IGNORED).sum().astype(jnp.float32), 1.0)
        pixels = labelled if self.mean_over == "labelled" else float(mask.size)
        return {MAIN: pixels, AUXILIARY: pixels, ACCURACY: labelled, SETTLED: len(mask)}

    def sums(self, model: SegmentsImages, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """The losses of both heads, pixel_accuracy, and the running statistics after the batch.

        Args:
            model: an ImageSegmenter.
            batch: image uint8 [B, S, S, 3] or normalised floats, mask uint8 [B, S, S]; or a part.
            context: nothing.
            key: random key.
        """
        image = jnp.asarray(normalize_image(batch["image"], self.mean, self.std))
        maps = model.learn_class_maps(image, key if self.dropout else None)
        mask = batch["mask"]
        height, width = mask.shape[1:]
        loss, right = pixel_losses(resize_bilinear(maps.main, (height, width)), mask)
        auxiliary, _ = pixel_losses(resize_bilinear(maps.auxiliary, (height, width)), mask)
        statistics = running_statistics(model)  # type: ignore[arg-type]  # a module
        settled = jax.tree.map(lambda x: jax.lax.stop_gradient(x) * len(image), statistics)
        return {MAIN: loss, AUXILIARY: auxiliary, ACCURACY: right, SETTLED: settled}


def make_segmenter(
    graphdef: nnx.GraphDef, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Any, Batch], jax.Array]:
    """A jitted function of (params, batch of global arrays), rows in and rows out: image uint8
    [B, S, S, 3] -> logits of the classes [B, h, w, K] float32.

    Args:
        graphdef: of the model.
        mean, std: normalise images as in training.
    """

    def segment(params, batch):
        image = normalize_image(batch["image"], mean, std)
        return nnx.merge(graphdef, params).class_maps(image)

    return jax.jit(segment)
