"""Stage 1: masked image modelling on images alone.

The label of a hidden patch is the code that a frozen visual tokenizer gives to the same place of
another view of the same crop. Source: BEiT, section 2; VLMo, section 3.3 (stagewise pre-training).
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.input.schema import UNUSED
from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.objectives.masked_language import masked_counts, masked_sums, masked_totals
from vlmo_jax.tasks.abilities import PredictsMaskedImages
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics, Prepared
from vlmo_jax.tasks.stateless import Stateless
from vlmo_jax.tasks.visual_tokenizer import decode_codes, encode_codes


@dataclasses.dataclass(frozen=True)
class ImagePretrainTask(Stateless):
    """The loss of stage 1; a SummedTask.

    Args:
        visual_tokenizer: graphdef of a DiscreteVAE with a code for each patch. Its parameters come
            as `frozen`. None for a task whose batches have their labels.
        mean, std: triples of [0, 1] that normalise the model's images.
        dropout: whether drop-path draws anything.
    """

    gradients = summed_gradients
    reads: ClassVar[tuple[str, ...]] = ("image", "tokenizer_image", "masked_positions")
    weights: ClassVar[Mapping[str, float]] = {"mim_loss": 1.0}

    visual_tokenizer: nnx.GraphDef | None
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dropout: bool = True

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Puts the visual tokens of the hidden patches in the place of the tokenizer's view.

        Args:
            batch: image uint8 [B, S, S, 3], tokenizer_image uint8 [B, S', S', 3], masked_positions
                int32 [B, M] with -1 where unused.
            params: not read.
            extra: not read.
            frozen: parameters of the visual tokenizer.

        Returns:
            The batch with mim_labels int32 [B, M], -1 where unused.
        """
        codes, positions = self.codes(batch, frozen), batch["masked_positions"]
        labels = jnp.take_along_axis(codes, jnp.maximum(positions, 0), axis=1)
        labels = jnp.where(positions == UNUSED, UNUSED, labels)
        views = {name: value for name, value in batch.items() if name != "tokenizer_image"}
        return Prepared({**views, "mim_labels": labels}, (), {})

    def codes(self, batch: Batch, frozen: Any) -> jax.Array:
        """The visual tokens of all patches by the tokenizer's view of a batch, row by row: int32
        [B, P-1].
        """
        assert self.visual_tokenizer is not None
        visual_tokenizer = nnx.merge(self.visual_tokenizer, frozen)
        return encode_codes(visual_tokenizer, batch["tokenizer_image"].astype(jnp.float32) / 255.0)

    def counts(self, batch: Batch) -> dict[str, jax.Array]:
        """Masked patches of the whole batch."""
        return masked_counts(batch["mim_labels"], "mim")

    def sums(
        self, model: PredictsMaskedImages, batch: Batch, context: Any, key: jax.Array
    ) -> Metrics:
        """mim_loss and mim_accuracy summed over the masked patches of a batch or of a part of it.

        Args:
            model: BEiT.
            batch: of `prepare`, or a part of it.
            context: nothing.
            key: random key.
        """
        logits = self.masked_logits(model, batch, key if self.dropout else None)
        return masked_totals(logits, batch["mim_labels"], "mim")

    def masked_logits(
        self, model: PredictsMaskedImages, batch: Batch, key: jax.Array | None = None
    ) -> jax.Array:
        """Logits [B, M, V] float32 at the hidden patches."""
        image = jnp.asarray(normalize_image(batch["image"], self.mean, self.std))
        return model.predict_masked(image, batch["masked_positions"], key)


class MaskedImageModel(NamedTuple):
    """Jitted functions of (params, frozen, batch of global arrays), rows in and rows out; `frozen`
    are the parameters of the visual tokenizer.

    Attributes:
        score: -> [B, 3] float32; see objectives.masked_language.masked_sums.
        predict: -> [B, 2, P-1] int32: the codes of all patches, and the same with the hidden ones
            as the model predicts them.
        draw: -> uint8 [B, 2, S', S', 3], what the tokenizer's decoder makes of both; a tokenizer
            without one cannot.
    """

    score: Callable[[Any, Any, Batch], jax.Array]
    predict: Callable[[Any, Any, Batch], jax.Array]
    draw: Callable[[Any, Any, Batch], jax.Array]


def make_masked_image_model(graphdef: nnx.GraphDef, task: ImagePretrainTask) -> MaskedImageModel:
    """Builds the functions from the graphdef of a BEiT and its ImagePretrainTask."""

    def score(params, frozen, batch):
        batch = task.prepare(batch, params, {}, frozen).batch
        logits = task.masked_logits(nnx.merge(graphdef, params), batch)
        return masked_sums(logits, batch["mim_labels"])

    def predict(params, frozen, batch):
        codes, positions = task.codes(batch, frozen), batch["masked_positions"]
        logits = task.masked_logits(nnx.merge(graphdef, params), batch)
        guesses = jnp.argmax(logits, axis=-1).astype(codes.dtype)
        rows = jnp.arange(len(codes))[:, None]
        # An unused place writes beyond the last patch, where it is dropped.
        places = jnp.where(positions == UNUSED, codes.shape[1], positions)
        return jnp.stack([codes, codes.at[rows, places].set(guesses, mode="drop")], axis=1)

    def draw(params, frozen, batch):
        codes = predict(params, frozen, batch)
        side = round(codes.shape[-1] ** 0.5)
        tokenizer = nnx.merge(task.visual_tokenizer, frozen)
        images = [
            decode_codes(tokenizer, codes[:, number].reshape(-1, side, side)) for number in range(2)
        ]
        return jnp.round(255.0 * jnp.stack(images, axis=1)).astype(jnp.uint8)

    return MaskedImageModel(jax.jit(score), jax.jit(predict), jax.jit(draw))
