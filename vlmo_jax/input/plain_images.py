"""Rows of images alone: one random view of each in training, each whole in an evaluation."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets import Record, images
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    decode_image,
    needed_record,
    read_record,
    require_records,
)
from vlmo_jax.input.images import pixels
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.schema import INDEX_COLUMNS, Batch, Column


def check_image_size(image_size: int) -> None:
    """Raises ConfigError unless images of `config.model.image_size` have pixels."""
    require(image_size >= 1, f"config.model.image_size={image_size} must be at least 1 pixel")


@dataclasses.dataclass(frozen=True)
class ImageRows:
    """Sizes of rows that hold an image.

    Args:
        image_size: S, side of the images in pixels.

    Raises:
        ConfigError: the size is impossible.
    """

    image_size: int

    def __post_init__(self) -> None:
        check_image_size(self.image_size)

    @property
    def columns(self) -> dict[str, Column]:
        """The array of a batch: image uint8 [S, S, 3]."""
        return {"image": Column((self.image_size, self.image_size, 3), np.uint8)}

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        shape = (rows, self.image_size, self.image_size, 3)
        return {"image": rng.integers(0, 256, shape, np.uint8)}


@dataclasses.dataclass(frozen=True)
class ImageExamples(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records; their texts are not read.
        rows: sizes.
        seed: 0 to 2**32 - 1.
        augmentation: how views of the images are drawn.
    """

    source: Sequence[Record]
    rows: ImageRows
    seed: int
    augmentation: Augmentation = Augmentation(crop_scale=(0.08, 1.0), randaugment=())

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `ImageRows`."""
        return self.rows.columns

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        record, size = read_record(self.source, index), self.rows.image_size
        least = self.augmentation.min_pixels(size)
        image = decode_image(record.image, record.image_id, min_pixels=least)
        batch["image"][row] = self.augmentation.view(image, size, rng)
        return Report(seen=1)


@dataclasses.dataclass(frozen=True)
class EvalImages:
    """Makes the rows of an evaluation, for `evaluation.split_batches`: images resized to squares.

    Args:
        source: the records.
        rows: sizes.

    Raises:
        ValueError: there are no records.
    """

    source: Sequence[Record]
    rows: ImageRows

    def __post_init__(self) -> None:
        require_records(self.source)

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `ImageRows`, and index int32 and valid bool."""
        return {**self.rows.columns, **INDEX_COLUMNS}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; `position` is its place in the split, the same number.

        Raises:
            BrokenDataError: the record or its image is broken.
        """
        with needed_record(index):
            record = read_record(self.source, index)
            image = square_image(record.image, record.image_id, self.rows.image_size)
        batch["image"][row] = image
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1)

    def picture(self, index: int) -> np.ndarray:
        """Record `index` as the model sees it, uint8 [S, S, 3]."""
        with needed_record(index):
            record = read_record(self.source, index)
            return square_image(record.image, record.image_id, self.rows.image_size)


def square_image(data: bytes, record_id: str, image_size: int) -> np.ndarray:
    """An encoded image resized to a square, uint8 [S, S, 3].

    Raises:
        UnusableRecordError: it is broken.
    """
    return np.asarray(pixels.resize_square(decode_image(data, record_id), image_size))


def thumbnail(data: bytes, image_size: int) -> np.ndarray:
    """An encoded image for a picture of examples, uint8 [S, S, 3]."""
    return np.asarray(pixels.resize_square(images.decode_image(data), image_size))
