"""Examples of masked image modelling: two views of one crop and the patches that are hidden in the
first.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets import Record
from vlmo_jax.input import sampling
from vlmo_jax.input.attempts import (
    ReplacesBroken,
    Report,
    decode_image,
    needed_record,
    picture_for_views,
    read_record,
    require_records,
)
from vlmo_jax.input.images import block_masking, color_jitter, pixels
from vlmo_jax.input.schema import INDEX_COLUMNS, UNUSED, Batch, Column


def check_tokenizer_view(image_size: int) -> None:
    """Raises ConfigError unless images of `config.data.tokenizer_image_size` have pixels."""
    require(
        image_size >= 1, f"config.data.tokenizer_image_size={image_size} must be at least 1 pixel"
    )


@dataclasses.dataclass(frozen=True)
class MaskedViews:
    """Sizes of rows that hold two views of an image and a mask of the first.

    Args:
        image_size: S, side of the model's view in pixels.
        tokenizer_image_size: S', side of the visual tokenizer's view.
        patch_size: side of a patch in pixels; the grid has S / patch_size patches a side.
        num_masked: M, patches that are hidden (BEiT: 75 of 196).
        min_block: smallest block of hidden patches (BEiT: 16; see `block_masking.draw_block_mask`).

    Raises:
        ConfigError: a size is impossible.
    """

    image_size: int
    tokenizer_image_size: int
    patch_size: int
    num_masked: int
    min_block: int

    def __post_init__(self) -> None:
        block_masking.check_block_masking(
            self.image_size, self.patch_size, self.num_masked, self.min_block
        )
        check_tokenizer_view(self.tokenizer_image_size)

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: image uint8 [S, S, 3]; tokenizer_image uint8 [S', S', 3], the
        tokenizer's view of the same; masked_positions int32 [M], numbers of the hidden patches row
        by row, -1 where unused.
        """
        view, tokenizer_view = self.image_size, self.tokenizer_image_size
        return {
            "image": Column((view, view, 3), np.uint8),
            "tokenizer_image": Column((tokenizer_view, tokenizer_view, 3), np.uint8),
            "masked_positions": Column((self.num_masked,), np.int32, empty=UNUSED),
        }

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        batch = {
            name: rng.integers(0, 256, (rows, *self.columns[name].shape), np.uint8)
            for name in ("image", "tokenizer_image")
        }
        positions = [self.draw_masked_positions(rng) for _ in range(rows)]
        return {**batch, "masked_positions": np.stack(positions)}

    def draw_masked_positions(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the patches that are hidden: their numbers, int32 [M], -1 where unused."""
        grid = self.image_size // self.patch_size
        mask = block_masking.draw_block_mask(
            grid, rng, num_masked=self.num_masked, min_block=self.min_block
        )
        return block_masking.masked_positions(mask, self.num_masked)


@dataclasses.dataclass(frozen=True)
class MaskedImageExamples(ReplacesBroken):
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records; their texts are not read.
        views: sizes.
        seed: 0 to 2**32 - 1.
        crop_scale: smallest and largest share of an image's area that a random crop shows.
        flip: mirror half of the images.
        color_jitter: strengths of brightness, contrast, saturation and hue, or () for none.
        fast: see `Augmentation`; colours change after the crop, by the mean of which contrast goes.

    Raises:
        ConfigError: an argument is out of range.
    """

    source: Sequence[Record]
    views: MaskedViews
    seed: int
    crop_scale: tuple[float, ...] = (0.08, 1.0)
    flip: bool = True
    color_jitter: tuple[float, ...] = (0.4, 0.4, 0.4, 0.0)
    fast: bool = False

    def __post_init__(self) -> None:
        pixels.check_crop(self.crop_scale)
        color_jitter.check_color_jitter(self.color_jitter)

    @functools.cached_property
    def _min_pixels(self) -> float:
        return pixels.min_pixels_for_crop(
            max(self.views.image_size, self.views.tokenizer_image_size), self.crop_scale
        )

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `MaskedViews`."""
        return self.views.columns

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        record = read_record(self.source, index)
        with picture_for_views(
            record.image, record.image_id, min_pixels=self._min_pixels, fast=self.fast
        ) as picture:
            batch["image"][row], batch["tokenizer_image"][row] = self.two_views(picture, rng)
        batch["masked_positions"][row] = self.views.draw_masked_positions(rng)
        return Report(seen=1)

    def two_views(
        self, image: Image.Image, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shows one random crop, mirrored or not and with jittered colours, to the model and to the
        visual tokenizer.

        Args:
            image: RGB image.
            rng: source of randomness.

        Returns:
            uint8 [S, S, 3], resized with a bicubic filter, and uint8 [S', S', 3], resized with a
            Lanczos filter.

        Source: `DataAugmentationForBEiT` of the official code, which mirrors before it crops: the
        same views as often.
        """
        changes = color_jitter.draw_changes(rng, self.color_jitter) if self.color_jitter else ()
        box = pixels.draw_crop(image.width, image.height, rng, scale=self.crop_scale)
        size, tokenizer_size = self.views.image_size, self.views.tokenizer_image_size
        if self.fast:
            image, place = pixels.decode_box(image, box, max(size, tokenizer_size))
            view, tokenizer_view = (
                color_jitter.jitter(pixels.resize_box_fast(image, place, side), changes)
                for side in (size, tokenizer_size)
            )
        else:
            image = color_jitter.jitter(image, changes)
            view = pixels.resize_box(image, box, size, Image.Resampling.BICUBIC)
            tokenizer_view = pixels.resize_box(image, box, tokenizer_size, Image.Resampling.LANCZOS)
        if self.flip and rng.random() < 0.5:
            view = pixels.flip_horizontally(view)
            tokenizer_view = pixels.flip_horizontally(tokenizer_view)
        return np.asarray(view), np.asarray(tokenizer_view)


@dataclasses.dataclass(frozen=True)
class EvalMaskedImages:
    """Makes the rows of an evaluation, for `evaluation.split_batches`: whole images, resized to
    squares, with fixed masks.

    Args:
        source: the records.
        views: sizes.
        seed: of the masks, which depend on it and on the number of the record alone.

    Raises:
        ValueError: there are no records.
    """

    source: Sequence[Record]
    views: MaskedViews
    seed: int = 0

    def __post_init__(self) -> None:
        require_records(self.source)

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `MaskedViews`, and index int32 and valid bool."""
        return {**self.views.columns, **INDEX_COLUMNS}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; see `plain_images.EvalImages.write`."""
        with needed_record(index):
            record = read_record(self.source, index)
            image = decode_image(record.image, record.image_id)
        batch["image"][row] = np.asarray(pixels.resize_square(image, self.views.image_size))
        view = pixels.resize_square(
            image, self.views.tokenizer_image_size, Image.Resampling.LANCZOS
        )
        batch["tokenizer_image"][row] = np.asarray(view)
        batch["masked_positions"][row] = self.views.draw_masked_positions(
            sampling.example_rng(self.seed, position)
        )
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1)
