"""Pre-training of ALBEF: contrast with queues, matching with hard negatives, masked language
modelling, and distillation from momentum towers.

total = ita + itm + mlm, with the weights in the config. A step goes in the order of the official
code: the temperature is clamped; images and texts are encoded; the momentum towers move towards the
parameters as they are before the update, and encode the same; the contrast reads the queues as they
are before the batch goes into them; negatives are drawn by its similarities; masked words are
learned from the labels and from what the momentum towers hold probable.

Source: ALBEF, section 3, and the official `model_pretrain.py`. There queue and negatives are those
of a process; here they are those of the whole job, on every mesh the same.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.attention import read_tokens
from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.layers.heads import l2_normalize
from vlmo_jax.layers.linear import split_key
from vlmo_jax.objectives import momentum as objectives
from vlmo_jax.objectives.contrastive import retrieval_accuracy
from vlmo_jax.objectives.masked_language import (
    masked_counts,
    masked_language_accuracy,
    masked_language_loss,
    soft_language_loss,
)
from vlmo_jax.objectives.matching import matching_loss, sample_hard_negatives
from vlmo_jax.parallel.sharding import all_gather, constrain, interleave
from vlmo_jax.tasks.abilities import AlignsAndFuses
from vlmo_jax.tasks.encoded_gradients import encoded_gradients
from vlmo_jax.tasks.pair_pretrain import PAIR_ARRAYS, Negatives
from vlmo_jax.tasks.protocols import Batch, Metrics, Prepared

# Parts that momentum towers have none of: what judges pairs, and the temperature.
_JUDGES = ("itm_head", "vqa_head")
_TEMPERATURE = "temperature"


class Encoded(NamedTuple):
    """What a batch is encoded to.

    Attributes:
        image, text: vectors [B, E] of length 1.
        image_states: [B, P, D'].
        text_states: [B, T, D].
        temperature: scalar.
    """

    image: jax.Array
    text: jax.Array
    image_states: jax.Array
    text_states: jax.Array
    temperature: jax.Array


class Context(NamedTuple):
    """What the losses read beside the batch.

    Attributes:
        image_queue, text_queue: vectors [Q, E] of earlier batches.
        alpha: share of the targets that the momentum towers give.
        momentum: parameters of the model with the momentum towers in it, whose head turns states
            into soft labels.
    """

    image_queue: jax.Array
    text_queue: jax.Array
    alpha: jax.Array
    momentum: Any


@dataclasses.dataclass(frozen=True)
class AlbefPretrainTask:
    """Losses of ALBEF; an EncodedTask.

    Args:
        graphdef: of the model, of which the momentum towers are one more.
        seed: of the vectors that the queues start from.
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        ita_weight, itm_weight, mlm_weight: weights in the total.
        momentum: of the towers that follow the parameters.
        queue_size: Q, a multiple of the batch.
        alpha: share of the targets that the momentum towers give.
        alpha_steps: over which it rises from 0, as the official code's does in its first epoch; 0:
            none.
        random_negatives: draw the negatives of matching at random, not by similarity.
        dropout: whether dropout draws anything.
    """

    gradients = encoded_gradients
    reads: ClassVar[tuple[str, ...]] = PAIR_ARRAYS
    extra_axes: ClassVar[Mapping[str, tuple]] = {
        "image_queue": ("batch", None),
        "text_queue": ("batch", None),
    }

    graphdef: nnx.GraphDef
    seed: int = 0
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    ita_weight: float = 1.0
    itm_weight: float = 1.0
    mlm_weight: float = 1.0
    momentum: float = 0.995
    queue_size: int = 65_536
    alpha: float = 0.4
    alpha_steps: int = 0
    random_negatives: bool = False
    dropout: bool = False

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the fused losses."""
        return {"itm_loss": self.itm_weight, "mlm_loss": self.mlm_weight}

    def initial_extra(self, params: Any) -> dict[str, Any]:
        """Momentum towers that are copies, and queues of random directions."""
        width = params["itc"]["image"]["kernel"].shape[1]
        image_key, text_key = jax.random.split(jax.random.key(self.seed))
        random = lambda key: l2_normalize(jax.random.normal(key, (self.queue_size, width)))
        return {
            # Copies: the state is donated, and no two of its arrays may be one.
            "momentum": jax.tree.map(jnp.copy, followed(params)),
            "image_queue": random(image_key),
            "text_queue": random(text_key),
            "pointer": jnp.zeros((), jnp.int32),
            "steps": jnp.zeros((), jnp.int32),
        }

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Moves the momentum towers, encodes with them, and puts their vectors into the queues.

        Args:
            batch: as the input pipeline gives it.
            params: as they are before the update.
            extra: as it is before the step.
            frozen: nothing.

        Returns:
            The batch with `momentum_image` and `momentum_text` [B, E] and `momentum_words`, states
            of the masked places [B, M, D].
        """
        towers = objectives.moving_average(extra["momentum"], followed(params), self.momentum)
        whole = insert(params, towers)
        image, text, words = self._encode_by(nnx.merge(self.graphdef, whole), batch)
        given = {"momentum_image": image, "momentum_text": text, "momentum_words": words}
        context = Context(extra["image_queue"], extra["text_queue"], self._alpha(extra), whole)
        pointer = extra["pointer"]
        kept = {
            "momentum": towers,
            "image_queue": objectives.enqueue(extra["image_queue"], image, pointer),
            "text_queue": objectives.enqueue(extra["text_queue"], text, pointer),
            "pointer": (pointer + len(image)) % self.queue_size,
            "steps": extra["steps"] + 1,
        }
        return Prepared({**batch, **given}, context, kept)

    def _encode_by(self, model, batch):
        """Vectors of images and texts, and states of the masked places by a model."""
        ids, mask = batch["token_ids"], batch["token_mask"]
        states = model.encode_image(self._normalize(batch["image"]))
        text = model.text_vector(model.encode_text(ids, mask))
        masked = model.fuse(model.encode_text(batch["mlm_token_ids"], mask), mask, states)
        return model.image_vector(states), text, read_tokens(masked, batch["mlm_positions"])

    def _alpha(self, extra):
        if not self.alpha_steps:
            return jnp.asarray(self.alpha, jnp.float32)
        return self.alpha * jnp.minimum(1.0, extra["steps"] / self.alpha_steps)

    def features(self, model: AlignsAndFuses, batch: Batch, key: jax.Array | None) -> Encoded:
        """What a batch, or a part of one, is encoded to."""
        image = model.encode_image(self._normalize(batch["image"]))
        text = model.encode_text(batch["token_ids"], batch["token_mask"], key)
        vectors = model.image_vector(image), model.text_vector(text)
        return Encoded(*vectors, image, text, model.temperature())

    def contrast(
        self, features: Encoded, batch: Batch, context: Context, key: jax.Array
    ) -> tuple[jax.Array, Negatives, Metrics]:
        """The contrastive loss of the whole batch, and the negatives drawn by its similarities.

        Args:
            features: of the whole batch.
            batch: of `prepare`.
            context: of `prepare`.
            key: random key of the negatives.

        Returns:
            Weighted loss, Negatives, and metrics name -> scalar.
        """
        image_to_text, text_to_image = both = self.similarities(features, batch, context)
        losses = map(objectives.soft_contrast, both, self.targets(features, batch, context))
        loss = jnp.stack(list(losses)).mean()
        image_key, text_key = jax.random.split(key)
        soften = (lambda logits: 0.0 * logits) if self.random_negatives else (lambda logits: logits)
        negatives = Negatives(
            image=sample_hard_negatives(image_key, soften(text_to_image.batch)),
            text=sample_hard_negatives(text_key, soften(image_to_text.batch)),
        )
        metrics = {
            "itc_loss": loss,
            "itc_image_to_text_accuracy": retrieval_accuracy(image_to_text.batch),
            "itc_text_to_image_accuracy": retrieval_accuracy(text_to_image.batch),
            "temperature": features.temperature,
            "alpha": context.alpha,
        }
        return self.ita_weight * loss, negatives, metrics

    def similarities(
        self, features: Encoded, batch: Batch, context: Context
    ) -> tuple[objectives.Similarities, objectives.Similarities]:
        """Image-to-text and text-to-image logits of the model."""
        return self._similarities(features.image, features.text, batch, context, features)

    def targets(
        self, features: Encoded, batch: Batch, context: Context
    ) -> tuple[objectives.Similarities, objectives.Similarities]:
        """What these should be: partly the positives, partly what the momentum towers see."""
        image, text = batch["momentum_image"], batch["momentum_text"]
        fixed = jax.lax.stop_gradient(features)
        logits = self._similarities(image, text, batch, context, fixed)
        image_to_text, text_to_image = (
            objectives.distilled_targets(part, context.alpha) for part in logits
        )
        return image_to_text, text_to_image

    def _similarities(self, image, text, batch, context, features):
        to_text = batch["momentum_text"], context.text_queue, features.temperature
        to_image = batch["momentum_image"], context.image_queue, features.temperature
        return objectives.similarities(image, *to_text), objectives.similarities(text, *to_image)

    def fused_rows(
        self, features: Encoded, batch: Batch, negatives: Negatives
    ) -> tuple[dict[str, jax.Array], Batch]:
        """States of the pairs and of their negatives, out of the whole batch, and the arrays of the
        masked texts.
        """
        pick = lambda x, rows: constrain(
            jnp.take(all_gather(x), constrain(rows, None), axis=0), "batch"
        )
        states = {
            "image": features.image_states,
            "text": features.text_states,
            "negative_image": pick(features.image_states, negatives.image),
            "negative_text": pick(features.text_states, negatives.text),
        }
        rows = {name: batch[name] for name in PAIR_ARRAYS if name not in ("image", "token_ids")}
        rows["momentum_words"] = batch["momentum_words"]
        rows["negative_token_mask"] = pick(batch["token_mask"], negatives.text)
        return states, rows

    def counts(self, batch: Batch) -> dict[str, Any]:
        """What the sums of the fused passes are divided by: 3 matches a pair, masked tokens."""
        matches = 3 * len(batch["token_mask"])
        return {
            "itm_loss": matches,
            "itm_accuracy": matches,
            **masked_counts(batch["mlm_labels"]),
        }

    def fused_sums(
        self,
        model: AlignsAndFuses,
        states: Mapping[str, jax.Array],
        batch: Batch,
        context: Context,
        key: jax.Array | None,
    ) -> Metrics:
        """The fused passes: losses and accuracies summed over matches and masked tokens.

        Args:
            model: ALBEF.
            states, batch: of `fused_rows`, or of a part of its rows.
            context: of `prepare`.
            key: random key or None.

        Returns:
            itm_loss, itm_accuracy, mlm_loss, mlm_accuracy: scalars float32.
        """
        match_key, text_key, words_key = split_key(key, 3)
        logits = model.match_logits(self.fused_states(model, states, batch, match_key)[:, :, 0])
        labels = jnp.broadcast_to(jnp.asarray([1, 0, 0]), logits.shape[:2])
        mask = batch["token_mask"]
        text = model.encode_text(batch["mlm_token_ids"], mask, text_key)
        fused = model.fuse(text, mask, states["image"], words_key)
        words = model.predict_words(read_tokens(fused, batch["mlm_positions"]))
        return {
            "itm_loss": matching_loss(logits, labels).sum(),
            "itm_accuracy": (jnp.argmax(logits, axis=-1) == labels).sum(),
            "mlm_loss": self._word_losses(words, batch, context).sum(),
            "mlm_accuracy": masked_language_accuracy(words, batch["mlm_labels"]).sum(),
        }

    @staticmethod
    def fused_states(
        model: AlignsAndFuses,
        states: Mapping[str, jax.Array],
        batch: Batch,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """States [B, 3, T, D] of each pair, of its text with another image, and of its image with
        another text, which go through the fusion as one batch.
        """
        text, image = states["text"], states["image"]
        mask, other_mask = batch["token_mask"], batch["negative_token_mask"]
        fused = model.fuse(
            interleave(text, text, states["negative_text"]),
            interleave(mask, mask, other_mask),
            interleave(image, states["negative_image"], image),
            key,
        )
        return fused.reshape(len(text), 3, *fused.shape[1:])

    def _word_losses(self, words, batch, context):
        labels, alpha = batch["mlm_labels"], context.alpha
        momentum = nnx.merge(self.graphdef, context.momentum)
        soft = momentum.predict_words(batch["momentum_words"])
        distilled = soft_language_loss(words, soft, labels)
        return (1.0 - alpha) * masked_language_loss(words, labels) + alpha * distilled

    def _normalize(self, image):
        return jnp.asarray(normalize_image(image, self.mean, self.std))


def followed(params: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model's parameters those that momentum towers follow."""
    towers = {name: part for name, part in params.items() if name not in _JUDGES}
    projections = {name: part for name, part in params["itc"].items() if name != _TEMPERATURE}
    return {**towers, "itc": projections}


def insert(params: Mapping[str, Any], towers: Mapping[str, Any]) -> dict[str, Any]:
    """A model's parameters with momentum towers in the place of what they follow."""
    return {**params, **towers, "itc": {**params["itc"], **towers["itc"]}}
