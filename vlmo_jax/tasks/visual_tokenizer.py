"""Training of the visual tokenizer: a discrete VAE that reconstructs images, and what its codes are
used for.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.models.dvae import map_pixels, pixels_from_statistics
from vlmo_jax.objectives.discrete_vae import (
    choose_codes,
    code_counts,
    code_entropies,
    peak_signal_to_noise,
    perplexity,
    squared_error,
)
from vlmo_jax.tasks.gradients import summed_gradients


def encode_codes(model, image):
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


def decode_codes(model, codes):
    """The image that codes stand for.

    Args:
        model: DiscreteVAE with a decoder.
        codes: [B, h, w] int32.

    Returns:
        [B, S, S, 3] float32 in [0, 1].
    """
    return pixels_from_statistics(model.decode(jax.nn.one_hot(codes, model.vocab_size)))


def reconstruct(model, image):
    """An image after its way through the codes: [B, S, S, 3] of [0, 1] to float32 of the same
    shape; see `encode_codes`.
    """
    return decode_codes(model, jnp.argmax(model.logits(image), axis=-1))


@dataclasses.dataclass(frozen=True)
class TokenizerTask:
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
    Gumbel-softmax with a temperature
      that falls over 150,000 steps, it fits a logit-Laplace distribution to mapped pixels where
      here its location alone learns, by the squared error that PSNR measures, and it draws codes to
      the uniform prior by a KL term a place. The entropies are those of `code_entropies`.

    Measured on held-out embedded drawings, 32 px, 256 codes, num_hidden 16, 200 steps of 32, one
    run each with entropy weights of the same order: as it is 15.9 dB and 255 codes in use;
    logit-Laplace 14.9 dB, 223; Gumbel noise 15.0 dB, 112; Gumbel-softmax at temperature 0.5 without
    the straight-through step (160 steps) 14.4 dB, 103; logit-Laplace with noise and without the
    entropies, num_hidden 32, 13.2 dB, 10.
    """

    temperature: float = 2.0
    gumbel: bool = False
    usage_weight: float = 0.005
    certainty_weight: float = 0.00125

    gradients = summed_gradients

    def prepare(self, batch, extra):
        """Counts the images of the whole batch; the batch stays as it is."""
        return batch, jnp.asarray(len(batch["image"]), jnp.float32)

    def loss(self, model, batch, shared, key):
        """The loss of a batch, or a part's share of it.

        Args:
            model: DiscreteVAE with a decoder.
            batch: image uint8 [B, S, S, 3].
            shared: images in the whole batch.
            key: random key.

        Returns:
            The loss and metrics, to be summed over the parts. Entropies, codes in use and
            perplexity are of each part for itself: of
            small parts they are smaller than of the whole batch. So training takes the batch in one
            part.
        """
        image = batch["image"].astype(jnp.float32) / 255.0
        share = len(image) / shared
        logits = model.logits(image)
        statistics = model.decode(
            choose_codes(logits, self.temperature, key if self.gumbel else None)
        )
        error = squared_error(map_pixels(image), jax.nn.sigmoid(statistics[..., :3]))
        mean_entropy, entropy = code_entropies(logits)
        usage = math.log(model.vocab_size) - mean_entropy
        counts = code_counts(jnp.argmax(logits, -1), model.vocab_size)
        metrics = {
            "reconstruction_loss": error.sum() / shared,
            "usage_loss": share * usage,
            "certainty_loss": share * entropy,
            "psnr": (
                peak_signal_to_noise(squared_error(image, pixels_from_statistics(statistics))).sum()
                / shared
            ),
            "codes_in_use": share * (counts > 0).sum(),
            "code_perplexity": share * perplexity(counts),
        }
        loss = metrics["reconstruction_loss"] + self.usage_weight * metrics["usage_loss"]
        return loss + self.certainty_weight * metrics["certainty_loss"], metrics


class TokenizerModel(NamedTuple):
    """Jitted functions of (params, batch of global arrays), rows in and rows out.

    Attributes:
        score: {"image" uint8 [B, S, S, 3]} -> [B, 1 + h * w] float32: the mean squared error of the
            reconstruction, pixels being in [0, 1], then the codes.
        reconstruct: the same -> uint8 [B, S, S, 3].
    """

    score: Callable
    reconstruct: Callable


def make_tokenizer_model(graphdef):
    """Builds the functions from a model's graphdef."""

    def score(params, batch):
        model, image = nnx.merge(graphdef, params), batch["image"].astype(jnp.float32) / 255.0
        codes = jnp.argmax(model.logits(image), axis=-1)
        error = squared_error(image, decode_codes(model, codes))
        return jnp.concatenate(
            [error[:, None], codes.reshape(len(image), -1).astype(jnp.float32)], axis=1
        )

    def reconstruct_pixels(params, batch):
        image = reconstruct(nnx.merge(graphdef, params), batch["image"].astype(jnp.float32) / 255.0)
        return jnp.round(255.0 * image).astype(jnp.uint8)

    return TokenizerModel(jax.jit(score), jax.jit(reconstruct_pixels))
