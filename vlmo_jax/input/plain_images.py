"""Rows of images alone: one random view of each in training, each whole in an evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets import Record, images
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    decode_image,
    needed_record,
    picture_for_views,
    read_record,
    require_records,
)
from vlmo_jax.input.images import pixels
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.schema import INDEX_COLUMNS, Batch, Column, Rows

CROPPED = "centre crop bicubic"


def check_image_size(image_size: int) -> None:
    """Raises ConfigError unless images of `config.model.image_size` have pixels."""
    require(image_size >= 1, f"config.model.image_size={image_size} must be at least 1 pixel")


class ImageForm(Rows, Protocol):
    """What images become in a batch: the sizes of their columns, and how these are written."""

    @property
    def image_size(self) -> int:
        """Pixels of a side by which pictures are shown to people."""

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images become arrays: plain JSON values."""

    def min_pixels(self, augmentation: Augmentation) -> float:
        """How many pixels a decoded image must keep for random views."""

    def write(self, batch: Batch, row: int, picture: Image.Image, name: str = "image") -> None:
        """Writes a whole RGB picture into the columns of a name."""

    def write_view(
        self,
        batch: Batch,
        row: int,
        picture: Image.Image,
        augmentation: Augmentation,
        rng: np.random.Generator,
        name: str = "image",
    ) -> None:
        """Writes a random view of an RGB picture into the columns of a name."""


@dataclasses.dataclass(frozen=True)
class ImageRows:
    """Sizes of rows that hold an image as a square; an `ImageForm`.

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

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images become arrays: plain JSON values."""
        return {"image_size": self.image_size, "resize": "square bicubic"}

    def min_pixels(self, augmentation: Augmentation) -> float:
        """`min_pixels` of `datasets.images.decode_image` for a random view."""
        return augmentation.min_pixels(self.image_size)

    def write(self, batch: Batch, row: int, picture: Image.Image, name: str = "image") -> None:
        """Writes a picture, resized without regard to its aspect ratio, into a row."""
        batch[name][row] = np.asarray(pixels.resize_square(picture, self.image_size))

    def write_view(
        self,
        batch: Batch,
        row: int,
        picture: Image.Image,
        augmentation: Augmentation,
        rng: np.random.Generator,
        name: str = "image",
    ) -> None:
        """Writes a random view of a picture into a row."""
        batch[name][row] = augmentation.view(picture, self.image_size, rng)


@dataclasses.dataclass(frozen=True)
class CroppedRows(ImageRows):
    """The same with the middle of an image in the place of all of it, which keeps its shape: as
    CLIP does; an `ImageForm`.

    Args:
        image_size: see `ImageRows`.
        share: of the shorter side that the middle takes.

    Raises:
        ConfigError: a number is impossible.
    """

    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            0 < self.share <= 1,
            f"config.data.crop_share={self.share} must be more than 0 and at most 1",
        )

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images become arrays: plain JSON values."""
        said = {"image_size": self.image_size, "resize": CROPPED}
        return said if self.share == 1 else {**said, "crop_share": self.share}

    def write(self, batch: Batch, row: int, picture: Image.Image, name: str = "image") -> None:
        """Writes the middle of a picture, its shorter side resized, into a row."""
        batch[name][row] = np.asarray(pixels.resize_centre(picture, self.image_size, self.share))


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
        record = read_record(self.source, index)
        least = self.rows.min_pixels(self.augmentation)
        with picture_for_views(
            record.image, record.image_id, min_pixels=least, fast=self.augmentation.fast
        ) as picture:
            self.rows.write_view(batch, row, picture, self.augmentation, rng)
        return Report(seen=1)


@dataclasses.dataclass(frozen=True)
class EvalImages:
    """Makes the rows of an evaluation, for `evaluation.split_batches`: images whole.

    Args:
        source: the records.
        rows: what images become.

    Raises:
        ValueError: there are no records.
    """

    source: Sequence[Record]
    rows: ImageForm

    def __post_init__(self) -> None:
        require_records(self.source)

    @property
    def columns(self) -> dict[str, Column]:
        """Those of the rows, and index int32 and valid bool."""
        return {**self.rows.columns, **INDEX_COLUMNS}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; `position` is its place in the split, the same number.

        Raises:
            BrokenDataError: the record or its image is broken.
        """
        with needed_record(index):
            record = read_record(self.source, index)
            self.rows.write(batch, row, decode_image(record.image, record.image_id))
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1)

    def picture(self, index: int) -> np.ndarray:
        """Record `index` as a square, uint8 [S, S, 3]."""
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
