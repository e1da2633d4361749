"""What the train step asks of a task, and what tasks ask of a model.

A task is a frozen dataclass of settings. Its arrays come from outside: a batch [B, ...], the state
that it keeps from step to step (`extra`), and what never changes (`frozen`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax

Batch = Mapping[str, jax.Array]
Build = Callable[[Any], Any]  # parameters that train -> model
Metrics = dict[str, jax.Array]


class Prepared(NamedTuple):
    """What a task makes of a batch before any gradient.

    Attributes:
        batch: arrays [B, ...], which may be cut into parts by rows.
        context: what the losses read beside it, the same for all parts, such as queued features.
        extra: the task's state after this step.
        settled: those of the parameters that the task sets itself, a part of their tree with the
            values after this step, such as running statistics; they should have no gradient.
    """

    batch: Batch
    context: Any
    extra: Mapping[str, Any]
    settled: Mapping[str, Any] = MappingProxyType({})


class Task(Protocol):
    """A bundle of losses, and how their gradients are taken.

    Attributes:
        reads: names of the arrays of a batch that it reads; no others are sent to the devices.
        gradients: a function of gradients.py.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""

    @property
    def extra_axes(self) -> Mapping[str, tuple]:
        """Logical axes of the arrays in `extra`, by name; of trees like the parameters, nothing."""

    def initial_extra(self, params: Any) -> dict[str, Any]:
        """The task's state before the first step; traced. Most tasks have none: {}."""

    def prepare(self, batch: Batch, params: Any, extra: Mapping[str, Any], frozen: Any) -> Prepared:
        """Does what needs no gradient: labels from a frozen model, momentum towers, queues."""

    def gradients(
        self, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
    ) -> tuple[Any, Metrics]:
        """Gradients like `params`, and metrics; see gradients.py."""


class SummedTask(Task, Protocol):
    """A task whose loss is a sum over examples.

    Attributes:
        weights: name of a loss -> its weight in the total.
    """

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss -> its weight in the total."""

    def counts(self, batch: Batch) -> Mapping[str, Any]:
        """What each of `sums` is divided by: numbers of the whole batch."""

    def sums(self, model: Any, batch: Batch, context: Any, key: jax.Array) -> Metrics:
        """Losses and other metrics of a batch, or of a part of it, summed over its examples."""


class ContrastiveTask(Task, Protocol):
    """A task with a loss that compares each example with all others, and fused passes after it.

    Attributes:
        dropout: whether the model draws anything.
        weights: name of a loss of the fused passes -> its weight in the total.
    """

    dropout: bool

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss of the fused passes -> its weight in the total."""

    def features(self, model: Any, batch: Batch, key: jax.Array | None) -> Any:
        """A tree of features [B, ...] and scalars of a batch, or of a part of it."""

    def contrast(
        self, features: Any, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Any, Metrics]:
        """The weighted loss of the whole batch, the negatives drawn (a tree [B]), and metrics."""

    def fused_pairs(self, batch: Batch, negatives: Any) -> dict[str, jax.Array]:
        """The arrays [F, ...] that `fused_sums` reads: those of the F <= B pairs of the batch that
        take the fused passes, and of their negatives.
        """

    def counts(self, batch: Batch) -> Mapping[str, Any]:
        """What each of `fused_sums` is divided by: numbers of all these pairs."""

    def fused_sums(self, model: Any, batch: Batch, context: Any, key: jax.Array | None) -> Metrics:
        """Losses and metrics of the fused passes of a batch and its negatives, or of a part."""


class EncodedTask(Task, Protocol):
    """A task as a ContrastiveTask, whose fused passes go on from what was encoded before it.

    Attributes:
        dropout: whether the model draws anything.
        weights: name of a loss of the fused passes -> its weight in the total.
    """

    dropout: bool

    @property
    def weights(self) -> Mapping[str, float]:
        """Name of a loss of the fused passes -> its weight in the total."""

    def features(self, model: Any, batch: Batch, key: jax.Array | None) -> Any:
        """A tree of what a batch, or a part of it, is encoded to: floats [B, ...] and scalars."""

    def contrast(
        self, features: Any, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Any, Metrics]:
        """The weighted loss of the whole batch, the negatives drawn (a tree [B]), and metrics."""

    def fused_rows(self, features: Any, batch: Batch, negatives: Any) -> tuple[Any, Batch]:
        """What the fused passes read: a tree of floats [B, ...] made of the features, by which is
        differentiated, and the other arrays [B, ...].
        """

    def counts(self, batch: Batch) -> Mapping[str, Any]:
        """What each of `fused_sums` is divided by: numbers of all these rows."""

    def fused_sums(
        self, model: Any, states: Any, batch: Batch, context: Any, key: jax.Array | None
    ) -> Metrics:
        """Losses and metrics of the fused passes of a batch and its negatives, or of a part."""


@runtime_checkable
class PredictsMaskedImages(Protocol):
    """A model for masked image modelling."""

    def predict_masked(
        self, image: jax.Array, masked_positions: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, S, 3] and [B, M] -> logits of codes at the hidden patches [B, M, V]."""


@runtime_checkable
class EncodesText(Protocol):
    """A model for masked language modelling on text alone."""

    def embed_text(self, token_ids: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """[B, T] -> [B, T, D]."""

    def encode_text(
        self,
        text: jax.Array,
        token_mask: jax.Array,
        *,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, D] -> [B, 1, T or R, D]; `read` [B, R] are the positions that are needed."""

    def predict_words(self, states: jax.Array) -> jax.Array:
        """[..., D] -> logits of tokens [..., V]."""


@runtime_checkable
class DualEncoder(Protocol):
    """A model that gives images and texts vectors in one space."""

    def retrieval_image(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> [B, D] of length 1."""

    def retrieval_text(self, token_ids: jax.Array, token_mask: jax.Array) -> jax.Array:
        """[B, T] -> [B, D] of length 1."""


@runtime_checkable
class LearnsToRetrieve(Protocol):
    """A dual encoder with a scale, which draws dropout by keys."""

    def retrieval_image(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """[B, S, S, 3] -> [B, D] of length 1."""

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """[B, T] -> [B, D] of length 1."""

    def retrieval_scale(self) -> jax.Array:
        """The logarithm of the scale."""


@runtime_checkable
class PoolsPairs(DualEncoder, Protocol):
    """A dual encoder that may have running statistics, as it is trained."""

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """[B, T] -> [B, D] of length 1."""

    def learn_image(
        self, image: Any, *, dropped: float = 0.0, key: jax.Array | None = None
    ) -> jax.Array:
        """What it sees -> [B, D] of length 1, by the statistics of this batch."""

    def moved_statistics(self, image: Any) -> Mapping[str, Any]:
        """The running statistics after a batch: a part of the tree of parameters."""


@runtime_checkable
class FusesPairs(Protocol):
    """A model that says of a pair whether it belongs together."""

    def pair_logits(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, S, S, 3] and [B, T] -> logits of "no match" and "match" [B, 2]."""


@runtime_checkable
class Matcher(DualEncoder, FusesPairs, Protocol):
    """A dual encoder that also says of a pair whether it belongs together."""


@runtime_checkable
class LearnsToMatch(LearnsToRetrieve, FusesPairs, Protocol):
    """The same, as it is trained."""


@runtime_checkable
class LearnsToRank(Protocol):
    """A fusion encoder that gives pairs one score, by which they are ranked."""

    def rank_scores(
        self,
        image: Any,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """What is seen and [B, T] -> [B] float32."""


@runtime_checkable
class AnswersQuestions(Protocol):
    """A model that answers questions about images out of a list of answers."""

    def answer(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, S, S, 3] and [B, T] -> logits of the answers [B, A] float32."""


@runtime_checkable
class ComparesImages(Protocol):
    """A model that says whether a text is true of two images."""

    def compare(
        self,
        image_0: jax.Array,
        image_1: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, S, S, 3] twice and [B, T] -> logits of false and true [B, 2] float32."""


@runtime_checkable
class PretrainsOnPairs(EncodesText, Protocol):
    """A model with two contrastive branches and a fused encoder."""

    def image_features(self, image: jax.Array, key: jax.Array | None = None) -> Any:
        """[B, S, S, 3] -> features [B, D] of both branches."""

    def text_features(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> Any:
        """[B, T] -> features [B, D] of both branches."""

    def logit_scales(self) -> tuple[jax.Array, jax.Array]:
        """The logarithms of the scales of both branches."""

    def embed_image(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> [B, P, D]."""

    def encode_fused(
        self,
        text: jax.Array,
        token_mask: jax.Array,
        image: jax.Array,
        *,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, D] and [B, P, D] -> [B, N or R, D]."""

    def match_logits(self, first_tokens: jax.Array) -> jax.Array:
        """[..., D] -> logits of "no match" and "match" [..., 2]."""


@runtime_checkable
class AlignsWordsAndPatches(Protocol):
    """A fusion encoder whose states of words and patches are all to be had, and can be aligned."""

    def encode_pair(
        self,
        image: Any,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> Any:
        """What is seen and [B, T] -> `text` [B, T, D], `image` [B, P, D], `image_mask` [B, P]; the
        first of both is no word and no patch.
        """

    def match_logits(self, first_tokens: jax.Array) -> jax.Array:
        """[..., D] -> logits of "no match" and "match" [..., 2]."""

    def predict_words(self, states: jax.Array) -> jax.Array:
        """[..., D] -> logits of tokens [..., V]."""


@runtime_checkable
class AlignsAndFuses(Protocol):
    """A model that aligns states of images and texts and fuses them from there."""

    def encode_image(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> [B, P, D']."""

    def encode_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """[B, T] -> [B, T, D]."""

    def fuse(
        self,
        text: jax.Array,
        token_mask: jax.Array,
        image: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, D] and [B, P, D'] -> [B, T, D]."""

    def image_vector(self, states: jax.Array) -> jax.Array:
        """[B, P, D'] -> [B, E] of length 1."""

    def text_vector(self, states: jax.Array) -> jax.Array:
        """[B, T, D] -> [B, E] of length 1."""

    def temperature(self) -> jax.Array:
        """By which similarities are divided."""

    def match_logits(self, first_tokens: jax.Array) -> jax.Array:
        """[..., D] -> logits of "no match" and "match" [..., 2]."""

    def predict_words(self, states: jax.Array) -> jax.Array:
        """[..., D] -> logits of tokens [..., V]."""


@runtime_checkable
class EncodesPatches(Protocol):
    """A model that says something of each patch of an image."""

    def patch_states(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> states of the patches, row by row, after the last norm [B, P, D]."""


@runtime_checkable
class EncodesToCodes(Protocol):
    """A visual tokenizer."""

    def logits(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> logits of codes [B, h, w, V]."""

    def decode(self, codes: jax.Array) -> jax.Array:
        """One-hot codes [B, h, w, V] -> statistics of pixels."""
