"""Captions of images: the loss of fine-tuning, and what a model writes."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.input.schema import UNUSED
from vlmo_jax.objectives.captions import (
    hide_tokens,
    leave_out_worst,
    next_tokens,
    num_hidden,
    smoothed_losses,
)
from vlmo_jax.objectives.masked_language import masked_language_accuracy
from vlmo_jax.tasks.abilities import WritesCaptions
from vlmo_jax.tasks.beam_search import SpecialTokens, Written, beam_search
from vlmo_jax.tasks.gradients import summed_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics, Prepared
from vlmo_jax.tasks.visual import IMAGES, visual_input

# What is learned: hidden tokens of a caption, or what stands behind each token.
MASKED, NEXT_TOKEN = "masked", "next_token"
TRAININGS = (MASKED, NEXT_TOKEN)


@dataclasses.dataclass(frozen=True)
class CaptionTask:
    """The loss of writing captions from left to right; a SummedTask.

    Args:
        tokens: special ones of the tokenizer.
        vocab_size: V, of which random tokens are drawn in the place of hidden ones.
        training: of TRAININGS.
        mask_rate: share of the tokens that are hidden, with "masked".
        smoothing: of labels; see `smoothed_losses`.
        drop_worst: share of the predicted tokens, those with the largest loss, that is left out of
            the loss once `drop_worst_after` steps are done. Of a batch in parts, that of each part.
        drop_worst_after: see there.
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        dropout: whether dropout and drop-path draw anything.
        seen: names of the arrays by which an image is seen.

    Source: BEiT-3's official captioning recipe.
    """

    gradients = summed_gradients
    weights: ClassVar[Mapping[str, float]] = {"caption_loss": 1.0}
    extra_axes: ClassVar[Mapping[str, tuple]] = {"steps": ()}

    tokens: SpecialTokens
    vocab_size: int
    training: str = MASKED
    mask_rate: float = 0.7
    smoothing: float = 0.1
    drop_worst: float = 0.2
    drop_worst_after: int = 12_000
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    dropout: bool = False
    seen: tuple[str, ...] = IMAGES

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        return (*self.seen, "token_ids", "token_mask")

    def initial_extra(self, params: Any) -> dict[str, Any]:
        """How many steps are done."""
        return {"steps": jnp.zeros((), jnp.int32)}

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Adds to the batch what share of the tokens is left out, a number a caption [B]."""
        share = jnp.where(extra["steps"] >= self.drop_worst_after, self.drop_worst, 0.0)
        shares = jnp.broadcast_to(share, batch["token_ids"].shape[:1])
        return Prepared({**batch, "left_out": shares}, (), {"steps": extra["steps"] + 1})

    def counts(self, batch: Batch) -> dict[str, jax.Array]:
        """Predicted tokens of the whole batch, and those that the loss reads."""
        mask = batch["token_mask"]
        if self.training == MASKED:
            predicted = num_hidden(mask, self.mask_rate).sum()
        else:
            predicted = (mask.sum(-1) - 1).sum()
        read = jnp.floor(predicted * (1 - batch["left_out"][0]) + 1e-4)
        return {
            "caption_loss": jnp.maximum(read, 1).astype(jnp.float32),
            "caption_accuracy": jnp.maximum(predicted, 1).astype(jnp.float32),
        }

    def sums(self, model: WritesCaptions, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """caption_loss and caption_accuracy, summed over the predicted tokens of a batch or of a
        part of it.

        Args:
            model: VLMo with the head "caption".
            batch: image [B, S, S, 3], token_ids and token_mask [B, T], left_out [B].
            context: nothing.
            key: random key.
        """
        hide_key, model_key = jax.random.split(key)
        token_ids, mask = batch["token_ids"], batch["token_mask"]
        if self.training == MASKED:
            assert self.tokens.mask_id is not None  # the recipe refuses such a tokenizer
            shown, labels = hide_tokens(
                token_ids,
                mask,
                hide_key,
                rate=self.mask_rate,
                mask_id=self.tokens.mask_id,
                vocab_size=self.vocab_size,
            )
        else:
            shown, labels = token_ids, next_tokens(token_ids, mask)
        image = visual_input(batch, self.mean, self.std)
        logits = model.caption_logits(image, shown, mask, model_key if self.dropout else None)
        losses = smoothed_losses(logits, labels, self.smoothing)
        losses = leave_out_worst(losses, labels != UNUSED, batch["left_out"][0])
        return {
            "caption_loss": losses.sum(),
            "caption_accuracy": masked_language_accuracy(logits, labels).sum(),
        }


def make_captioner(
    graphdef: nnx.GraphDef,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    tokens: SpecialTokens,
    training: str,
    beams: int,
    length: int,
    length_penalty: float,
) -> Callable[[Any, Batch], Written]:
    """A jitted function of (params, batch of global arrays), rows in and rows out: image uint8
    [B, S, S, 3] -> Written.

    Args:
        graphdef: of the model.
        mean, std: normalise images as in training.
        tokens: special ones of the tokenizer.
        training: how the model was trained, of TRAININGS. "masked" predicts a word at a mask token
            behind those that are written, "next_token" at the last of these.
        beams, length, length_penalty: of `beam_search`.
    """

    def caption(params, batch):
        image, model = visual_input(batch, mean, std), nnx.merge(graphdef, params)
        cache = jax.tree.map(
            functools.partial(jnp.repeat, repeats=beams, axis=1),
            model.start_captions(image, length),
        )

        def step(latest, position, cache):
            if training == NEXT_TOKEN:
                return model.continue_captions(latest[:, None], position - 1, cache)
            # What is kept of the mask token makes room for the word in the next step.
            pairs = jnp.stack([latest, jnp.full_like(latest, tokens.mask_id)], axis=1)
            return model.continue_captions(pairs, position - 1, cache)

        return beam_search(
            step,
            functools.partial(_reorder, length=length),
            cache,
            batch_size=len(image),
            beams=beams,
            length=length,
            length_penalty=length_penalty,
            tokens=tokens,
        )

    return jax.jit(caption)


def _reorder(cache, rows, length):
    """Rows of the places of the text; beams share those of the image."""
    take = lambda a: a.at[:, :, :, -length:].set(a[:, rows, :, -length:])
    return jax.tree.map(take, cache)
