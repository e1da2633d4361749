"""Examples of training on image-text pairs: a record read, decoded, augmented, put into tokens and
masked, written straight into its row of a batch.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    UnusableRecordError,
    picture_for_views,
    read_record,
)
from vlmo_jax.input.canvas import CanvasRows
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.plain_images import ImageForm, ImageRows, check_image_size
from vlmo_jax.input.schema import Batch, Column, Rows
from vlmo_jax.input.text import captions, masking
from vlmo_jax.input.text.masked_rows import (
    TextMasker,
    TextRows,
    check_masking_tokenizer,
    check_text_sizes,
)
from vlmo_jax.input.text.tokenizer import Tokenizer, check_text_length
from vlmo_jax.input.text.word_dropping import WordDropping, check_dropped


def check_caption_sizes(text_length: int, max_masked_tokens: int) -> None:
    """Raises ConfigError unless texts have room for words, and, where some are masked, for others.

    Args:
        text_length: `config.model.text_length`.
        max_masked_tokens: `config.data.max_masked_tokens`; 0: none are masked.
    """
    if max_masked_tokens:
        check_text_sizes(text_length, max_masked_tokens)
    else:
        check_text_length(text_length)


class PairColumns:
    """What rows of something seen and a text have in common; a base of dataclasses.

    Attributes:
        text_length: T, tokens of a text, those of its begin and end included.
        max_masked_tokens: M, the most tokens masked in a text; 0: there is no masked copy of it.
    """

    text_length: int
    max_masked_tokens: int

    @property
    def images(self) -> Rows:
        """Sizes of what is seen."""
        raise NotImplementedError

    @property
    def masked_texts(self) -> TextRows:
        """Sizes of the texts with their masked copies."""
        return TextRows(self.text_length, self.max_masked_tokens)

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: those of `images`; token_ids int32 [T] and token_mask bool [T];
        the other columns of `TextRows`, a masked copy, unless M is 0; image_id uint32, a hash of
        the record's id; text_id uint32, a hash of the caption in lower case.
        """
        masked = self.masked_texts.columns if self.max_masked_tokens else {}
        return {
            **self.images.columns,
            "token_ids": Column((self.text_length,), np.int32),
            "token_mask": Column((self.text_length,), np.bool_),
            **masked,
            "image_id": Column((), np.uint32),
            "text_id": Column((), np.uint32),
        }

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        sizes = TextRows(self.text_length, max(self.max_masked_tokens, 1))
        texts = sizes.synthetic(rows, rng, vocab_size=vocab_size)
        ids = np.arange(rows, dtype=np.uint32) + np.uint32(first_row)
        batch = {
            **self.images.synthetic(rows, rng),
            "token_ids": texts["mlm_token_ids"],
            **texts,
            "image_id": ids,
            "text_id": ids,
        }
        return {name: batch[name] for name in self.columns}


@dataclasses.dataclass(frozen=True)
class PairRows(PairColumns):
    """Sizes of rows that hold an image and a text.

    Args:
        image_size: S, side of the images in pixels.
        text_length, max_masked_tokens: as of `PairColumns`.
        canvas: of images that keep their shape; None: they become squares.

    Raises:
        ConfigError: a size is impossible.
    """

    image_size: int
    text_length: int
    max_masked_tokens: int
    canvas: CanvasRows | None = None

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        check_caption_sizes(self.text_length, self.max_masked_tokens)

    @property
    def images(self) -> ImageForm:
        """What the images become."""
        return self.canvas or ImageRows(self.image_size)


@dataclasses.dataclass(frozen=True)
class PairMaker(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`; what is seen of a
    record is written by those that derive from it.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        rows: sizes; longer texts are cut, and counted.
        seed: 0 to 2**32 - 1.
        captions: "text" or "text_and_keywords" (see `captions.draw_caption`).
        mask_rate: share of the words that are masked.
        masking_unit: of `masking.UNITS`.
        dropped_words: share of the words that are hidden, replaced or left out, see
            `WordDropping`.

    Raises:
        ConfigError: an argument is out of range.
    """

    source: Sequence
    tokenizer: Tokenizer
    rows: PairColumns
    seed: int
    captions: str = "text"
    mask_rate: float = 0.15
    masking_unit: str = masking.WHOLE_WORDS
    dropped_words: float = 0.0

    def __post_init__(self) -> None:
        captions.check_captions(self.captions)
        check_dropped("data.dropped_words", self.dropped_words)
        if self.dropped_words:
            check_masking_tokenizer(self.tokenizer)
        if self.rows.max_masked_tokens:
            masking.check_mask_rate(self.mask_rate)
            check_masking_tokenizer(self.tokenizer)

    @functools.cached_property
    def _masker(self) -> TextMasker:
        return TextMasker(self.tokenizer, self.rows.masked_texts, self.mask_rate, self.masking_unit)

    @functools.cached_property
    def _drop_words(self) -> WordDropping:
        return WordDropping(self.tokenizer, self.dropped_words)

    @property
    def columns(self) -> dict[str, Column]:
        """Those of the rows."""
        return self.rows.columns

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        record = read_record(self.source, index)
        self.write_image(batch, row, record, rng)
        try:
            whole = self.write_text(batch, row, record, rng)
        except captions.NoCaptionError as error:
            raise UnusableRecordError(record.image_id, error) from error
        batch["image_id"][row] = captions.text_hash(record.image_id)
        return Report(seen=1, texts=1, truncated=0 if whole else 1)

    def write_image(self, batch: Batch, row: int, record: Any, rng: np.random.Generator) -> None:
        """Writes what the model sees of a record.

        Args:
            batch, row: where to write.
            record: of the source.
            rng: source of randomness.

        Raises:
            UnusableRecordError: it cannot be used.
        """
        raise NotImplementedError

    def write_text(self, batch: Batch, row: int, record: Any, rng: np.random.Generator) -> bool:
        """Writes tokens and masks of one of the record's captions into a batch.

        Args:
            batch, row: where to write.
            record: with a caption of the kind that is drawn.
            rng: source of randomness.

        Returns:
            Whether the row has all tokens of the caption.

        Raises:
            NoCaptionError: the record has no such caption.
        """
        caption = captions.draw_caption(record, self.captions, rng)
        ids, words = captions.encode_cached(self.tokenizer, caption)
        if self.dropped_words:
            ids, words = self._drop_words(ids, words, rng)
        token_ids = batch["token_ids"][row]
        kept = captions.pack_tokens(ids, self.tokenizer, token_ids, batch["token_mask"][row])
        if self.rows.max_masked_tokens:
            self._masker.write(batch, row, token_ids, words[:kept], rng)
        batch["text_id"][row] = captions.text_hash(caption.lower())
        return kept == len(ids)


@dataclasses.dataclass(frozen=True)
class PairExamples(PairMaker):
    """The rows of images with texts.

    Args:
        source, tokenizer, rows, seed, captions, mask_rate, masking_unit,
            dropped_words: as of `PairMaker`.
        augmentation: how views of the images are drawn.

    Raises:
        ConfigError: an argument is out of range.
    """

    source: Sequence[Record]
    rows: PairRows
    augmentation: Augmentation = Augmentation()

    def write_image(self, batch: Batch, row: int, record: Any, rng: np.random.Generator) -> None:
        """See `PairMaker.write_image`: a random view."""
        images, augmentation = self.rows.images, self.augmentation
        least = images.min_pixels(augmentation)
        with picture_for_views(
            record.image, record.image_id, min_pixels=least, fast=augmentation.fast
        ) as picture:
            images.write_view(batch, row, picture, augmentation, rng)
