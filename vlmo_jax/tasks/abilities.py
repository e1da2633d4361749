"""What tasks, evaluations and those who use a model ask of it.

A model has an ability if it has its methods: nothing asks which model it is.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax


@runtime_checkable
class PredictsMaskedImages(Protocol):
    """A model for masked image modelling."""

    def predict_masked(
        self, image: jax.Array, masked_positions: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """[B, S, S, 3] and [B, M] -> logits of codes at the hidden patches [B, M, V]."""


@runtime_checkable
class ClassifiesImages(Protocol):
    """A model that chooses from classes that it was trained on."""

    def class_logits(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """[B, S, S, 3] -> logits of classes [B, K]."""


@runtime_checkable
class SegmentsImages(Protocol):
    """A model that gives places of an image a class."""

    def class_maps(self, image: jax.Array) -> jax.Array:
        """[B, S, S, 3] -> logits of classes [B, h, w, K]."""

    def learn_class_maps(self, image: jax.Array, key: jax.Array | None = None) -> Any:
        """As `class_maps`, in training: logits `main` and `auxiliary`, by the statistics of the
        batch, which move the running ones of the model.
        """


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
class MatchesAllPairs(LearnsToMatch, Protocol):
    """The same, for which images and texts are encoded once and matched with each other."""

    def encode_images(self, image: jax.Array, key: jax.Array | None = None) -> Any:
        """[B, S, S, 3] -> `feature` [B, D] of length 1, `states` [B, P, D]."""

    def encode_texts(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> Any:
        """[B, T] -> `feature` [B, D] of length 1, `states` [B, T, D]."""

    def match_all(self, image: jax.Array, text: jax.Array, token_mask: jax.Array) -> jax.Array:
        """States [I, P, D] and [T, N, D] -> log-odds of each text with each image [T, I]."""


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
class WritesCaptions(Protocol):
    """A model that writes texts about images, word by word."""

    def caption_logits(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[B, S, S, 3] and [B, T] -> logits of words [B, T, V] float32, each from the image, the
        tokens before its place and the one at it.
        """

    def start_captions(self, image: jax.Array, length: int) -> Any:
        """[B, S, S, 3] -> a tree of arrays [layers, B, H, L, K], what is known of the images; the
        last `length` of the L places are those of the text.
        """

    def continue_captions(
        self, token_ids: jax.Array, position: int | jax.Array, cache: Any
    ) -> tuple[jax.Array, Any]:
        """Next tokens [B, S] at `position` -> logits [B, V] at the last one, and such a tree."""


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
class PretrainsByOneBranch(PretrainsOnPairs, LearnsToRetrieve, Protocol):
    """The same, whose first branch is to be had alone."""


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
class PretrainsOnRegions(Protocol):
    """A model that reads regions beside a text, and says what is masked of both."""

    def encode_regions(
        self,
        regions: Any,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> Any:
        """Regions, the global one in front, and [B, T] -> `tokens` of both streams and `fused`
        [B, C].
        """

    def match_logits(self, fused: jax.Array) -> jax.Array:
        """[..., C] -> logits of "no match" and "match" [..., 2]."""

    def predict_words(self, states: jax.Array) -> jax.Array:
        """[..., D] -> logits of tokens [..., V]."""

    def predict_regions(self, states: jax.Array) -> jax.Array:
        """[..., D] -> logits of classes of regions, or their features [..., C]."""


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
