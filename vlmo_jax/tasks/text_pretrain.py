"""Stage 2: masked language modelling on text alone, and what a model of it says about masked
places.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.objectives.masked_language import count_masked, masked_language_metrics, masked_sums
from vlmo_jax.tasks.gradients import summed_gradients


class Shared(NamedTuple):
    """What the loss of a part needs of the whole batch."""

    num_masked: jax.Array  # scalar float32, masked tokens


@dataclasses.dataclass(frozen=True)
class TextPretrainTask:
    """The loss of stage 2.

    Args:
        dropout: whether dropout and drop-path draw anything.

    Source: VLMo, section 3.3; the official `textmlm` task.
    """

    gradients = summed_gradients

    dropout: bool = False

    def prepare(self, batch, extra):
        """Counts the masked tokens of the whole batch; the batch stays as it is."""
        return batch, Shared(count_masked(batch["mlm_labels"]))

    def loss(self, model, batch, shared, key):
        """The masked-language loss of a batch, or a part's share of it.

        Args:
            model: VLMo with the head "mlm".
            batch: token_mask and mlm_token_ids [B, T], mlm_positions and mlm_labels [B, M].
            shared: see `prepare`.
            key: random key.

        Returns:
            The loss, and metrics mlm_loss and mlm_accuracy, to be summed over the parts.
        """
        logits = masked_logits(model, batch, key if self.dropout else None)
        metrics = masked_language_metrics(logits, batch["mlm_labels"], shared.num_masked)
        return metrics["mlm_loss"], metrics


def masked_logits(model, batch, key=None):
    """Logits [B, M, V] float32 at `mlm_positions`, from the text alone; the last block computes no
    other place.
    """
    embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
    text = model.embed_text(batch["mlm_token_ids"], embed_key)
    states = model.encode_text(
        text, batch["token_mask"], read=batch["mlm_positions"], key=encode_key
    )
    return model.mlm_head(states[:, 0])


class MaskedTextModel(NamedTuple):
    """Jitted functions of (params, batch of global arrays), rows in and rows out.

    Attributes:
        score: -> [B, 3] float32: over the masked places of a row the sum of the losses, how many
            are predicted right, and how many there are.
        fill: -> [B, M, 2, K] float32: the K likeliest tokens' probabilities, best first, and their
            ids.
    """

    score: Callable
    fill: Callable


def make_masked_text_model(graphdef, *, top_k=5):
    """Builds the functions from a model's graphdef; K is `top_k`."""

    def score(params, batch):
        return masked_sums(masked_logits(nnx.merge(graphdef, params), batch), batch["mlm_labels"])

    def fill(params, batch):
        probabilities = jax.nn.softmax(masked_logits(nnx.merge(graphdef, params), batch))
        best, ids = jax.lax.top_k(probabilities, top_k)
        return jnp.stack([best, ids.astype(jnp.float32)], axis=-2)

    return MaskedTextModel(jax.jit(score), jax.jit(fill))
