"""Classification: fine-tuning's loss, and what a model takes images for."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.objectives.classes import class_losses, smooth_targets
from vlmo_jax.tasks.abilities import ClassifiesImages
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.mixing import mix_images, mix_targets
from vlmo_jax.tasks.protocols import Batch, Metrics, Prepared
from vlmo_jax.tasks.stateless import Stateless

MIX_COLUMNS = ("mix_share", "mix_box")


@dataclasses.dataclass(frozen=True)
class ClassifyTask(Stateless):
    """Cross-entropy with smoothed labels, those of mixed images mixed; a SummedTask.

    Args:
        num_classes: K.
        smoothing: share of a target that is spread evenly over all classes, in [0, 1).
        mixed: whether batches say how their images are mixed. Mixing is done here, for the whole
            batch before it is cut into parts, since a partner may lie on another device.
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch. Float images are
            taken as normalised already.
        dropout: whether drop-path draws anything.

    Source: BEiT, the official `run_class_finetuning.py`.
    """

    gradients = summed_gradients
    weights: ClassVar[Mapping[str, float]] = {"class_loss": 1.0}

    num_classes: int
    smoothing: float = 0.0
    mixed: bool = False
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dropout: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        return ("image", "label", *(MIX_COLUMNS if self.mixed else ()))

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Makes targets of the labels, and mixes both targets and images.

        Args:
            batch: image uint8 [B, S, S, 3] or normalised floats, label int32 [B], and of mixed
                batches mix_share [B] and mix_box [B, 4].
            params: not read.
            extra: not read.
            frozen: not read.

        Returns:
            image [B, S, S, 3], target float32 [B, K].
        """
        image = jnp.asarray(batch["image"])
        target = smooth_targets(batch["label"], self.num_classes, self.smoothing)
        if self.mixed:
            share = batch["mix_share"]
            image = jnp.asarray(normalize_image(image, self.mean, self.std))
            image = mix_images(image, share, batch["mix_box"])
            target = mix_targets(target, share)
        return Prepared({"image": image, "target": target}, (), {})

    def counts(self, batch: Batch) -> dict[str, int]:
        """Images of the whole batch."""
        return dict.fromkeys(("class_loss", "class_accuracy"), len(batch["image"]))

    def sums(self, model: ClassifiesImages, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """class_loss, and class_accuracy, of how many images the likeliest class is that with the
        largest share, summed over a batch or a part of it.

        Args:
            model: an ImageClassifier.
            batch: of `prepare`, or a part of it.
            context: nothing.
            key: random key.
        """
        image = jnp.asarray(normalize_image(batch["image"], self.mean, self.std))
        logits = model.class_logits(image, key if self.dropout else None)
        right = jnp.argmax(logits, axis=-1) == jnp.argmax(batch["target"], axis=-1)
        return {
            "class_loss": class_losses(logits, batch["target"]).sum(),
            "class_accuracy": right.astype(jnp.float32).sum(),
        }


class Choices(NamedTuple):
    """The likeliest classes of images, best first.

    Attributes:
        probability: [B, N] float32; those of all classes sum to 1.
        class_ids: [B, N] int32.
    """

    probability: jax.Array
    class_ids: jax.Array


def make_probabilities(
    graphdef: nnx.GraphDef, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Any, Batch], jax.Array]:
    """A jitted function of (params, batch of global arrays), rows in and rows out: image uint8
    [B, S, S, 3] -> the probability of each class [B, K] float32.

    Args:
        graphdef: of the model.
        mean, std: normalise images as in training.
    """

    def probabilities(params, batch):
        image = normalize_image(batch["image"], mean, std)
        return jax.nn.softmax(nnx.merge(graphdef, params).class_logits(image))

    return jax.jit(probabilities)


def make_classifier(
    graphdef: nnx.GraphDef, *, mean: tuple[float, ...], std: tuple[float, ...], top_k: int
) -> Callable[[Any, Batch], Choices]:
    """A jitted function of (params, batch of global arrays), rows in and rows out: image uint8
    [B, S, S, 3] -> Choices.

    Args:
        graphdef: of the model.
        mean, std: normalise images as in training.
        top_k: N, or all classes where there are fewer.
    """
    find = make_probabilities(graphdef, mean=mean, std=std)

    def classify(params, batch):
        found = find(params, batch)
        return Choices(*jax.lax.top_k(found, min(top_k, found.shape[-1])))

    return jax.jit(classify)
