"""Stage 2: masked language modelling on text alone, and what a model of it says about masked
places.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
from flax import nnx

from vlmo_jax.objectives.masked_language import masked_counts, masked_sums, masked_totals
from vlmo_jax.tasks.abilities import EncodesText
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics
from vlmo_jax.tasks.stateless import Stateless


@dataclasses.dataclass(frozen=True)
class TextPretrainTask(Stateless):
    """The loss of stage 2; a SummedTask.

    Args:
        dropout: whether dropout and drop-path draw anything.

    Source: VLMo, section 3.3; the official `textmlm` task.
    """

    gradients = summed_gradients
    reads: ClassVar[tuple[str, ...]] = (
        "token_mask",
        "mlm_token_ids",
        "mlm_positions",
        "mlm_labels",
    )
    weights: ClassVar[Mapping[str, float]] = {"mlm_loss": 1.0}

    dropout: bool = False

    def counts(self, batch: Batch) -> dict[str, jax.Array]:
        """Masked tokens of the whole batch."""
        return masked_counts(batch["mlm_labels"])

    def sums(self, model: EncodesText, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """mlm_loss and mlm_accuracy summed over the masked tokens of a batch or of a part of it.

        Args:
            model: VLMo with the head "mlm".
            batch: token_mask and mlm_token_ids [B, T], mlm_positions and mlm_labels [B, M].
            context: nothing.
            key: random key.
        """
        logits = masked_logits(model, batch, key if self.dropout else None)
        return masked_totals(logits, batch["mlm_labels"])


def masked_logits(model: EncodesText, batch: Batch, key: jax.Array | None = None) -> jax.Array:
    """Logits [B, M, V] float32 at `mlm_positions`, from the text alone; the last block computes no
    other place.
    """
    embed_key, encode_key = (None, None) if key is None else jax.random.split(key)
    text = model.embed_text(batch["mlm_token_ids"], embed_key)
    states = model.encode_text(
        text, batch["token_mask"], read=batch["mlm_positions"], key=encode_key
    )
    return model.predict_words(states[:, 0])


class Guesses(NamedTuple):
    """The likeliest tokens of masked places, best first.

    Attributes:
        probability: [B, M, K] float32.
        token_ids: [B, M, K] int32.
    """

    probability: jax.Array
    token_ids: jax.Array


class MaskedTextModel(NamedTuple):
    """Jitted functions of (params, batch of global arrays), rows in and rows out.

    Attributes:
        score: -> [B, 3] float32; see objectives.masked_language.masked_sums.
        fill: -> Guesses of K tokens for each masked place.
    """

    score: Callable[[Any, Batch], jax.Array]
    fill: Callable[[Any, Batch], Guesses]


def make_masked_text_model(graphdef: nnx.GraphDef, *, top_k: int = 5) -> MaskedTextModel:
    """Builds the functions from a model's graphdef; K is `top_k`."""

    def score(params, batch):
        logits = masked_logits(nnx.merge(graphdef, params), batch)
        return masked_sums(logits, batch["mlm_labels"])

    def fill(params, batch):
        probabilities = jax.nn.softmax(masked_logits(nnx.merge(graphdef, params), batch))
        return Guesses(*jax.lax.top_k(probabilities, top_k))

    return MaskedTextModel(jax.jit(score), jax.jit(fill))
