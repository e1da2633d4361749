"""Rows of images with the class of each pixel, and whole ones for evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from vlmo_jax.datasets.masks import IGNORED, BrokenMaskError, read_classes_of_mask
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    UnusableRecordError,
    decode_image,
    needed_record,
    read_record,
)
from vlmo_jax.input.images.masked_views import MaskedViews
from vlmo_jax.input.plain_images import check_image_size
from vlmo_jax.input.schema import Batch, Column


@dataclasses.dataclass(frozen=True)
class SegmentedRows:
    """Sizes of rows that hold an image and its mask.

    Args:
        image_size: S, pixels a side.
        num_classes: K; masks hold numbers below it and IGNORED.
    """

    image_size: int
    num_classes: int

    def __post_init__(self) -> None:
        check_image_size(self.image_size)

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: image uint8 [S, S, 3], mask uint8 [S, S]."""
        side = self.image_size
        return {
            "image": Column((side, side, 3), np.uint8),
            "mask": Column((side, side), np.uint8, IGNORED),
        }

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        shape = (rows, self.image_size, self.image_size)
        return {
            "image": rng.integers(0, 256, (*shape, 3), np.uint8),
            "mask": rng.integers(0, self.num_classes, shape).astype(np.uint8),
        }


@dataclasses.dataclass(frozen=True)
class Labelling:
    """What the numbers of a mask mean.

    Args:
        num_classes: K.
        zero_is_other: label 0 is ignored, and the others are one less.
    """

    num_classes: int
    zero_is_other: bool

    def read(self, source: Sequence, index: int) -> tuple[str, Image.Image, np.ndarray]:
        """Record `index`: its id, the RGB image and its classes, uint8 [height, width].

        Raises:
            UnusableRecordError: it is broken, its mask has an unknown label or another size.
        """
        record = read_record(source, index)
        image = decode_image(record.image, record.image_id)
        try:
            mask = read_classes_of_mask(
                record.mask.tobytes(), self.num_classes, zero_is_other=self.zero_is_other
            )
        except BrokenMaskError as error:
            raise UnusableRecordError(record.image_id, error) from error
        if mask.shape != image.size[::-1]:
            sizes = [f"{w} x {h}" for h, w in (mask.shape, image.size[::-1])]
            why = f"the mask has {sizes[0]} pixels and the image {sizes[1]}"
            raise UnusableRecordError(record.image_id, why)
        return record.image_id, image, mask


@dataclasses.dataclass(frozen=True)
class SegmentedExamples(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records.
        rows: sizes.
        seed: 0 to 2**32 - 1.
        labelling: what the numbers of masks mean.
        views: how views are drawn.
    """

    source: Sequence
    rows: SegmentedRows
    seed: int
    labelling: Labelling
    views: MaskedViews

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `SegmentedRows`."""
        return self.rows.columns

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        _, image, mask = self.labelling.read(self.source, index)
        view = self.views.view(image, mask, self.rows.image_size, rng)
        batch["image"][row], batch["mask"][row] = view
        return Report(seen=1)


def read_whole(source: Sequence, index: int, labelling: Labelling) -> tuple[str, Any, np.ndarray]:
    """As `Labelling.read`, of a record that an evaluation needs.

    Raises:
        BrokenDataError: it cannot be used.
    """
    with needed_record(index):
        return labelling.read(source, index)
