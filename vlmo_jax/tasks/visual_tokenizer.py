"""Training of the visual tokenizer: a discrete VAE that reconstructs images, and what its codes are
used for.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.models.dvae import DiscreteVAE, map_pixels, pixels_from_statistics
from vlmo_jax.objectives.discrete_vae import (
    choose_codes,
    code_counts,
    code_entropies,
    peak_signal_to_noise,
    perplexity,
    squared_error,
)
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless

METRICS = (
    "reconstruction_loss",
    "usage_loss",
    "certainty_loss",
    "psnr",
    "codes_in_use",
    "code_perplexity",
)


def encode_codes(model: DiscreteVAE, image: jax.Array) -> jax.Array:
    """The code of each place of the grid, row by row: what stage 1 predicts.

    Args:
        model: DiscreteVAE.
        image: [B, S, S, 3] float, pixels in [0, 1].

    Returns:
        [B, h * w] int32.

    Raises:
        ValueError: S is not a multiple of the model's stride.
    """
    return jnp.argmax(model.logits(image), axis=-1).reshape(len(image), -1).astype(jnp.int32)


def decode_codes(model: DiscreteVAE, codes: jax.Array) -> jax.Array:
    """The image that codes stand for.

    Args:
        model: DiscreteVAE with a decoder.
        codes: [B, h, w] int32.

    Returns:
        [B, S, S, 3] float32 in [0, 1].
    """
    return pixels_from_statistics(model.decode(jax.nn.one_hot(codes, model.vocab_size)))


def reconstruct(model: DiscreteVAE, image: jax.Array) -> jax.Array:
    """An image after its way through the codes: [B, S, S, 3] of [0, 1] to float32 of the same
    shape; see `encode_codes`.
    """
    return decode_codes(model, jnp.argmax(model.logits(image), axis=-1))


@dataclasses.dataclass(frozen=True)
class VisualTokenizerTask(Stateless):
    """The loss of a discrete VAE: squared error of mapped pixels, and two weights that keep its
    codes in use.

    loss = error + usage_weight * (log V - entropy of the mean code) + certainty_weight * mean
    entropy of a code

    Args:
        temperature: of the softmax through which the encoder learns.
        gumbel: draw codes from the encoder's distribution in training, not the likeliest.
        usage_weight: keeps all codes in use; without it a few take over.
        certainty_weight: makes the encoder decide; with both weights 1 a code carries as much
            information as it can.

    Source: DALL-E, arXiv 2102.12092, section 2.1, with these differences: it relaxes codes by
    Gumbel-softmax with a temperature that falls over 150,000 steps, it fits a logit-Laplace
    distribution to mapped pixels where here its location alone learns, by the squared error that
    PSNR measures, and it draws codes to the uniform prior by a KL term a place. The entropies are
    those of `code_entropies`.

    Measured on held-out embedded drawings, 32 px, 256 codes, num_hidden 16, 200 steps of 32, one
    run each with entropy weights of the same order: as it is 15.9 dB and 255 codes in use;
    logit-Laplace 14.9 dB, 223; Gumbel noise 15.0 dB, 112; Gumbel-softmax at temperature 0.5 without
    the straight-through step (160 steps) 14.4 dB, 103; logit-Laplace with noise and without the
    entropies, num_hidden 32, 13.2 dB, 10.
    """

    gradients = summed_gradients
    reads: ClassVar[tuple[str, ...]] = ("image",)

    temperature: float = 2.0
    gumbel: bool = False
    usage_weight: float = 0.005
    certainty_weight: float = 0.00125

    @property
    def weights(self) -> dict[str, float]:
        """Weights of error, even use of codes, and certainty."""
        return {
            "reconstruction_loss": 1.0,
            "usage_loss": self.usage_weight,
            "certainty_loss": self.certainty_weight,
        }

    def counts(self, batch: Batch) -> dict[str, int]:
        """Images of the whole batch."""
        return dict.fromkeys(METRICS, len(batch["image"]))

    def sums(self, model: DiscreteVAE, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """Losses and metrics of a batch, or of a part of it, summed over its images.

        Entropies, codes in use and perplexity are of each part for itself: of small parts they are
        smaller than of the whole batch. So training takes the batch in one part.

        Args:
            model: DiscreteVAE with a decoder.
            batch: image uint8 [B, S, S, 3].
            context: nothing.
            key: random key.

        Returns:
            METRICS -> scalar.
        """
        image = batch["image"].astype(jnp.float32) / 255.0
        images = len(image)
        logits = model.logits(image)
        codes = choose_codes(logits, self.temperature, key if self.gumbel else None)
        statistics = model.decode(codes)
        error = squared_error(map_pixels(image), jax.nn.sigmoid(statistics[..., :3]))
        mean_entropy, entropy = code_entropies(logits)
        used = code_counts(jnp.argmax(logits, -1), model.vocab_size)
        psnr = peak_signal_to_noise(squared_error(image, pixels_from_statistics(statistics)))
        return {
            "reconstruction_loss": error.sum(),
            "usage_loss": images * (math.log(model.vocab_size) - mean_entropy),
            "certainty_loss": images * entropy,
            "psnr": psnr.sum(),
            "codes_in_use": images * (used > 0).sum(),
            "code_perplexity": images * perplexity(used),
        }


class Reconstruction(NamedTuple):
    """How well images are made again from their codes, and the codes.

    Attributes:
        error: [B] float32, mean squared error, pixels being in [0, 1].
        codes: [B, h * w] int32.
    """

    error: jax.Array
    codes: jax.Array


class VisualTokenizerModel(NamedTuple):
    """Jitted functions of (params, batch of global arrays), rows in and rows out.

    Attributes:
        score: {"image" uint8 [B, S, S, 3]} -> Reconstruction.
        reconstruct: the same -> uint8 [B, S, S, 3].
    """

    score: Callable[[Any, Batch], Reconstruction]
    reconstruct: Callable[[Any, Batch], jax.Array]


def make_visual_tokenizer_model(graphdef: nnx.GraphDef) -> VisualTokenizerModel:
    """Builds the functions from a model's graphdef."""

    def score(params, batch):
        model, image = nnx.merge(graphdef, params), batch["image"].astype(jnp.float32) / 255.0
        codes = jnp.argmax(model.logits(image), axis=-1).astype(jnp.int32)
        error = squared_error(image, decode_codes(model, codes))
        return Reconstruction(error, codes.reshape(len(image), -1))

    def reconstruct_pixels(params, batch):
        image = batch["image"].astype(jnp.float32) / 255.0
        image = reconstruct(nnx.merge(graphdef, params), image)
        return jnp.round(255.0 * image).astype(jnp.uint8)

    return VisualTokenizerModel(jax.jit(score), jax.jit(reconstruct_pixels))
