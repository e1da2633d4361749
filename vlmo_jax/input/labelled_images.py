"""Rows of images with a class."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    UnusableRecordError,
    picture_for_views,
    read_record,
)
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.mixed_images import MIX_COLUMNS, Mixing
from vlmo_jax.input.plain_images import ImageForm
from vlmo_jax.input.schema import Batch, Column


@dataclasses.dataclass(frozen=True)
class LabelledRows:
    """Sizes of rows that hold an image and its class.

    Args:
        images: what images become.
        num_classes: K; batches hold numbers below it.
        mixed: whether rows say how their images are mixed.
    """

    images: ImageForm
    num_classes: int
    mixed: bool

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: image uint8 [S, S, 3], label int32 [], and where they are mixed
        mix_share float32 [] and mix_box int32 [4].
        """
        mixed = MIX_COLUMNS if self.mixed else {}
        return {**self.images.columns, "label": Column((), np.int32), **mixed}

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        batch = self.images.synthetic(rows, rng)
        batch["label"] = rng.integers(0, self.num_classes, rows).astype(np.int32)
        if self.mixed:
            batch["mix_share"] = np.full(rows, 0.75, np.float32)
            batch["mix_box"] = np.zeros((rows, 4), np.int32)
        return batch


@dataclasses.dataclass(frozen=True)
class LabelledExamples(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records.
        rows: sizes.
        seed: 0 to 2**32 - 1.
        class_of: function of a record that gives the name of its class.
        ids: name of a class -> its number.
        augmentation: how views of the images are drawn.
        mixing: how they are mixed.
        batch_size: rows of a step, all of which are mixed alike.
    """

    source: Sequence
    rows: LabelledRows
    seed: int
    class_of: Callable[[Any], str]
    ids: Mapping[str, int]
    augmentation: Augmentation
    mixing: Mixing
    batch_size: int

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `LabelledRows`."""
        return self.rows.columns

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """See `ReplacesBroken.write`; and how the images of its step are mixed."""
        if self.rows.mixed:
            step, size = position // self.batch_size, self.rows.images.image_size
            self.mixing.write(batch, row, self.mixing.draw(self.seed, step, size))
        return super().write(batch, row, position, index)

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        record, images = read_record(self.source, index), self.rows.images
        name = self.class_of(record)
        if name not in self.ids:
            raise UnusableRecordError(record.image_id, f"its class {name!r} is not in the list")
        least = images.min_pixels(self.augmentation)
        with picture_for_views(
            record.image, record.image_id, min_pixels=least, fast=self.augmentation.fast
        ) as picture:
            images.write_view(batch, row, picture, self.augmentation, rng)
        batch["label"][row] = self.ids[name]
        return Report(seen=1)
