"""One example: a record read, decoded, augmented, put into tokens and masked, written straight into
its row of a batch.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlmo_jax.datasets import Record
from vlmo_jax.input.attempts import (
    BrokenDataError,
    Report,
    UnusableRecordError,
    read_record,
    write_or_replace,
)
from vlmo_jax.input.images import color_jitter, pixels, randaugment
from vlmo_jax.input.text import captions, masking
from vlmo_jax.input.text.tokenizer import Tokenizer

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainExamples:
    """Makes the examples of the training stream; arguments as in `pipeline.train_batches`."""

    source: Sequence[Record]
    tokenizer: Tokenizer
    image_size: int
    text_length: int
    seed: int
    captions: str
    crop_scale: tuple[float, float]
    flip: bool
    randaugment: tuple[int, float] | None
    randaugment_fill: tuple[int, int, int]
    color_jitter: tuple[float, float, float, float] | None
    mask_rate: float
    max_masked_tokens: int

    @functools.cached_property
    def _random_ids(self) -> np.ndarray:
        return masking.replacement_ids(self.tokenizer.vocab_size, self.tokenizer.special_ids)

    @functools.cached_property
    def _min_pixels(self) -> float:
        return pixels.min_pixels_for_crop(self.image_size, self.crop_scale)

    def empty_batch(self, rows: int) -> Batch:
        """Returns arrays for `rows` examples, not filled."""
        tokens, masked = (rows, self.text_length), (rows, self.max_masked_tokens)
        return {
            "image": np.empty((rows, self.image_size, self.image_size, 3), np.uint8),
            "token_ids": np.empty(tokens, np.int32),
            "token_mask": np.empty(tokens, np.bool_),
            "mlm_token_ids": np.empty(tokens, np.int32),
            "mlm_positions": np.empty(masked, np.int32),
            "mlm_labels": np.empty(masked, np.int32),
            "image_id": np.empty(rows, np.uint32),
            "text_id": np.empty(rows, np.uint32),
        }

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes one example into a batch; broken records give way to others (see
        `attempts.write_or_replace`).

        Args:
            batch: of `empty_batch`.
            row: where to write.
            position: of the example in the training stream.
            index: of the record that belongs there.

        Returns:
            What was tried.

        Raises:
            BrokenDataError: dozens of records in a row are broken.
        """
        return write_or_replace(
            functools.partial(self._write, batch, row),
            self.source,
            seed=self.seed,
            position=position,
            index=index,
        )

    def _write(self, batch: Batch, row: int, record: Record, rng: np.random.Generator) -> int:
        try:
            batch["image"][row] = self.augment(self.decode(record), rng)
            truncated = self.write_text(batch, row, record, rng)
        except captions.NoCaptionError as error:
            raise UnusableRecordError(record.image_id, error) from error
        batch["image_id"][row] = captions.text_hash(record.image_id)
        return truncated

    def decode(self, record: Record) -> Image.Image:
        """Returns a record's image in RGB, of at least the pixels that a crop needs."""
        return decode_record(record, min_pixels=self._min_pixels)

    def crop(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Returns a random crop of an image at the size of training."""
        return pixels.random_resized_crop(image, self.image_size, rng, scale=self.crop_scale)

    def augment(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """Returns a random view of an RGB image, uint8 [S, S, 3]."""
        image = self.crop(image, rng)
        if self.flip and rng.random() < 0.5:
            image = pixels.flip_horizontally(image)
        if self.color_jitter:
            image = color_jitter.color_jitter(image, rng, strengths=self.color_jitter)
        if self.randaugment:
            num_ops, magnitude = self.randaugment
            image = randaugment.rand_augment(
                image, rng, num_ops=num_ops, magnitude=magnitude, fill=self.randaugment_fill
            )
        return np.asarray(image)

    def write_text(self, batch: Batch, row: int, record: Record, rng: np.random.Generator) -> int:
        """Writes tokens and masks of one of the record's captions into a batch; returns 1 if it had
        to be cut, else 0.
        """
        caption = captions.draw_caption(record, self.captions, rng)
        ids, words = captions.encode_cached(self.tokenizer, caption)
        token_ids = batch["token_ids"][row]
        kept = captions.pack_tokens(ids, self.tokenizer, token_ids, batch["token_mask"][row])
        batch["mlm_token_ids"][row], batch["mlm_positions"][row], batch["mlm_labels"][row] = (
            masking.mask_whole_words(
                token_ids,
                words[:kept],
                rng,
                mask_id=self.tokenizer.mask_id,
                random_ids=self._random_ids,
                mask_rate=self.mask_rate,
                max_masked_tokens=self.max_masked_tokens,
            )
        )
        batch["text_id"][row] = captions.text_hash(caption.lower())
        return int(kept < len(ids))


@dataclasses.dataclass(frozen=True)
class EvalImages:
    """Makes the image rows of an evaluation; arguments as in `evaluation.image_batches`."""

    source: Sequence[Record]
    image_size: int

    def empty_batch(self, rows: int) -> Batch:
        """Returns arrays for `rows` images, all of them padding until they are written."""
        return {
            "image": np.zeros((rows, self.image_size, self.image_size, 3), np.uint8),
            "index": np.zeros(rows, np.int32),
            "valid": np.zeros(rows, np.bool_),
        }

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; `position` is its place in the split, the same number.

        Raises:
            BrokenDataError: the record or its image is broken.
        """
        image = decode_whole(self.source, index)
        batch["image"][row] = np.asarray(pixels.resize_square(image, self.image_size))
        batch["index"][row] = position
        batch["valid"][row] = True
        return Report(seen=1)


def decode_record(record: Record, *, min_pixels: float | None = None) -> Image.Image:
    """Returns a record's image as `pixels.decode_image` does.

    Raises:
        UnusableRecordError: the image is broken.
    """
    try:
        return pixels.decode_image(record.image, min_pixels=min_pixels)
    except pixels.BrokenImageError as error:
        raise UnusableRecordError(record.image_id, error) from error


def decode_whole(source: Sequence[Record], index: int) -> Image.Image:
    """Returns the image of a record of an evaluation, with all its pixels.

    Raises:
        BrokenDataError: the record or its image is broken; leaving it out would change the result
            without a word.
    """
    try:
        return decode_record(read_record(source, index))
    except UnusableRecordError as error:
        image_id, reason = error.args
        raise BrokenDataError(
            f"record {index} of the evaluation data cannot be used: {image_id!r} ({reason}). An"
            " evaluation needs every record: repair it or build the data set without it"
        ) from error
