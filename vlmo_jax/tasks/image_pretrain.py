"""Stage 1: masked image modelling on images alone.

The label of a hidden patch is the code that a frozen visual tokenizer gives to the same place of
another view of the same crop. Source: BEiT, section 2; VLMo, section 3.3 (stagewise pre-training).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.objectives.masked_language import (
    UNUSED,
    count_masked,
    masked_language_metrics,
    masked_sums,
)
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.visual_tokenizer import decode_codes, encode_codes


@dataclasses.dataclass(frozen=True)
class ImagePretrainTask:
    """The loss of stage 1.

    Args:
        tokenizer: graphdef of the visual tokenizer, a DiscreteVAE with a code for each patch. Its
            parameters are `extra["tokenizer"]`.
        mean, std: triples of [0, 1] that normalise the model's images.
        dropout: whether drop-path draws anything.
    """

    tokenizer: Any
    mean: tuple = (0.5, 0.5, 0.5)
    std: tuple = (0.5, 0.5, 0.5)
    dropout: bool = True

    gradients = summed_gradients

    def prepare(self, batch, extra):
        """Puts the visual tokens of the hidden patches in the place of the tokenizer's view.

        Args:
            batch: image uint8 [B, S, S, 3], tokenizer_image uint8 [B, S', S', 3], masked_positions
                int32 [B, M] with -1 where unused.
            extra: mapping with `tokenizer`.

        Returns:
            The batch with mim_labels int32 [B, M], -1 where unused, and the number of masked
            patches in it.
        """
        codes, positions = self.codes(batch, extra), batch["masked_positions"]
        labels = jnp.take_along_axis(codes, jnp.maximum(positions, 0), axis=1)
        labels = jnp.where(positions < 0, UNUSED, labels)
        batch = {name: value for name, value in batch.items() if name != "tokenizer_image"}
        return {**batch, "mim_labels": labels}, count_masked(labels)

    def codes(self, batch, extra):
        """The visual tokens of all patches by the tokenizer's view of a batch, row by row: int32
        [B, P-1].
        """
        tokenizer = nnx.merge(self.tokenizer, extra["tokenizer"])
        return encode_codes(tokenizer, batch["tokenizer_image"].astype(jnp.float32) / 255.0)

    def loss(self, model, batch, shared, key):
        """Mean cross-entropy over the masked patches of the global batch: this part's share of it.

        Args:
            model: BEiT.
            batch: of `prepare`, or a part of it.
            shared: number of masked patches in the global batch.
            key: random key.

        Returns:
            Loss and metrics, to be summed over the parts.
        """
        logits = self.masked_logits(model, batch, key if self.dropout else None)
        metrics = masked_language_metrics(logits, batch["mim_labels"], shared, "mim")
        return metrics["mim_loss"], metrics

    def masked_logits(self, model, batch, key=None):
        """Logits [B, M, V] float32 at the hidden patches."""
        return model.predict_masked(
            normalize_image(batch["image"], self.mean, self.std), batch["masked_positions"], key
        )


class MaskedImageModel(NamedTuple):
    """Jitted functions of (params, extra, batch of global arrays), rows in and rows out.

    Attributes:
        score: -> [B, 3] float32; see objectives.masked_language.masked_sums.
        predict: -> [B, 2, P-1] int32: the codes of all patches, and the same with the hidden ones
            as the model predicts them.
        draw: -> uint8 [B, 2, S', S', 3], what the tokenizer's decoder makes of both; a tokenizer
            without one cannot.
    """

    score: Callable
    predict: Callable
    draw: Callable


def make_masked_image_model(graphdef, task):
    """Builds the functions from the graphdef of a BEiT and its ImagePretrainTask."""

    def score(params, extra, batch):
        batch, _ = task.prepare(batch, extra)
        return masked_sums(
            task.masked_logits(nnx.merge(graphdef, params), batch), batch["mim_labels"]
        )

    def predict(params, extra, batch):
        codes, positions = task.codes(batch, extra), batch["masked_positions"]
        guesses = jnp.argmax(task.masked_logits(nnx.merge(graphdef, params), batch), axis=-1)
        rows = jnp.arange(len(codes))[:, None]
        unused = jnp.where(
            positions < 0, codes.shape[1], positions
        )  # beyond the last patch: dropped
        return jnp.stack(
            [codes, codes.at[rows, unused].set(guesses.astype(codes.dtype), mode="drop")], axis=1
        )

    def draw(params, extra, batch):
        codes = predict(params, extra, batch)
        side = round(codes.shape[-1] ** 0.5)
        tokenizer = nnx.merge(task.tokenizer, extra["tokenizer"])
        images = [
            decode_codes(tokenizer, codes[:, number].reshape(-1, side, side)) for number in range(2)
        ]
        return jnp.round(255.0 * jnp.stack(images, axis=1)).astype(jnp.uint8)

    return MaskedImageModel(jax.jit(score), jax.jit(predict), jax.jit(draw))
