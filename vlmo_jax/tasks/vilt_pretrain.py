"""ViLT's pre-training: masked words of matched pairs, matching with images replaced at random, and
alignment of words with patches.

total = mlm + itm + 0.1 wpa, with the weights in the config.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vlmo_jax.objectives.masked_language import masked_counts, masked_totals
from vlmo_jax.objectives.matching import matching_loss
from vlmo_jax.objectives.word_patch import transport_distance
from vlmo_jax.parallel.ring import take_rows
from vlmo_jax.parallel.sharding import constrain, interleave
from vlmo_jax.tasks.abilities import AlignsWordsAndPatches
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Build, Metrics, Prepared
from vlmo_jax.tasks.stateless import Stateless
from vlmo_jax.tasks.visual import IMAGES, visual_input

MATCHED = "matched"  # bool [B], whether a pair of the matching pass belongs together
OTHER = "match_"  # before the names of what that pass sees


@dataclasses.dataclass(frozen=True)
class ViltPretrainTask(Stateless):
    """Losses of ViLT; a SummedTask, which draws the pairs of the matching pass for the whole batch
    before it goes through the model in parts.

    Args:
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        itm_weight, mlm_weight, wpa_weight: weights in the total.
        dropout: whether dropout and the choice of patches draw anything.
        seen: names of the arrays by which an image is seen.

    Source: the official `compute_mlm` and `compute_itm_wpa`. There the other image comes from
    anywhere in the data set, here from the batch.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    itm_weight: float = 1.0
    mlm_weight: float = 1.0
    wpa_weight: float = 0.1
    dropout: bool = False
    seen: tuple[str, ...] = IMAGES

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        masked = ("mlm_token_ids", "mlm_positions", "mlm_labels")
        return (*self.seen, "token_ids", "token_mask", *masked)

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the losses."""
        return {
            "itm_loss": self.itm_weight,
            "mlm_loss": self.mlm_weight,
            "wpa_loss": self.wpa_weight,
        }

    def gradients(
        self, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
    ) -> tuple[Any, Metrics]:
        """See `gradients.summed_gradients`; the pairs of the matching pass are drawn first."""
        draw_key, model_key = jax.random.split(key)
        pairs = draw_pairs(prepared.batch, self.seen, draw_key)
        batch = {**prepared.batch, **pairs}
        return summed_gradients(
            self, build, params, prepared._replace(batch=batch), model_key, parts
        )

    def counts(self, batch: Batch) -> dict[str, Any]:
        """What the sums are divided by: pairs, masked tokens."""
        pairs = len(batch["token_ids"])
        masked = masked_counts(batch["mlm_labels"])
        return {"itm_loss": pairs, "itm_accuracy": pairs, "wpa_loss": pairs, **masked}

    def sums(
        self, model: AlignsWordsAndPatches, batch: Batch, context: Any, key: jax.Array
    ) -> Metrics:
        """itm_loss, itm_accuracy, wpa_loss, mlm_loss and mlm_accuracy, summed over the pairs and
        the masked tokens of a batch or of a part of it.

        Args:
            model: ViLT with the heads "itm" and "mlm".
            batch: with the pairs of `draw_pairs`.
            context: nothing.
            key: random key.
        """
        seen, other = (
            visual_input(batch, self.mean, self.std, name) for name in ("image", f"{OTHER}image")
        )
        mask = batch["token_mask"]
        # Both passes of an example stand side by side, so that no row leaves its device.
        both = model.encode_pair(
            jax.tree.map(interleave, seen, other),
            interleave(batch["mlm_token_ids"], batch["token_ids"]),
            interleave(mask, mask),
            key if self.dropout else None,
        )
        pairs = jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:]), both)
        masked, states = (jax.tree.map(take, pairs) for take in (_first, _second))
        hidden = jnp.take_along_axis(masked.text, batch["mlm_positions"][..., None], axis=1)
        labels = batch[MATCHED].astype(jnp.int32)
        logits = model.match_logits(states.text[:, 0])
        distance = transport_distance(
            states.text, states.image, word_places(mask), states.image_mask.at[:, 0].set(False)
        )
        return {
            "itm_loss": matching_loss(logits, labels).sum(),
            "itm_accuracy": (jnp.argmax(logits, axis=-1) == labels).sum(),
            "wpa_loss": jnp.where(batch[MATCHED], distance, -distance).sum(),
            **masked_totals(model.predict_words(hidden), batch["mlm_labels"]),
        }


def draw_pairs(batch: Batch, seen: Sequence[str], key: jax.Array) -> dict[str, jax.Array]:
    """The pairs of the matching pass: half of the texts keep their image, drawn at random, the
    others get another one of the batch.

    Args:
        batch: the whole batch, B >= 2.
        seen: names of the arrays by which an image is seen.
        key: random key.

    Returns:
        `matched` bool [B]; and what is seen, as it came, by the names of the batch with `match_` in
        front.
    """
    label_key, row_key = jax.random.split(key)
    size = len(batch["token_ids"])
    matched = jax.random.permutation(label_key, jnp.arange(size) < size // 2)
    shift = jax.random.randint(row_key, (size,), 1, size)
    rows = jnp.where(matched, jnp.arange(size), (jnp.arange(size) + shift) % size)
    return {MATCHED: constrain(matched, "batch"), **take_seen(batch, seen, rows)}


def take_seen(batch: Batch, names: Sequence[str], rows: jax.Array) -> dict[str, jax.Array]:
    """Rows of the whole batch of what is seen, by the names with `match_` in front.

    Images go between devices before they become floats: a fourth of the bytes.
    """
    return take_rows({OTHER + name: batch[name] for name in names}, rows)


def word_places(token_mask: jax.Array) -> jax.Array:
    """Where words of texts stand: all tokens but those of begin and end, [B, T] bool."""
    following = jnp.pad(token_mask[:, 1:], ((0, 0), (0, 1)))
    return (token_mask & following).at[:, 0].set(False)


def _first(pairs):
    return pairs[:, 0]


def _second(pairs):
    return pairs[:, 1]
