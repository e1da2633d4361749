"""Examples of masked image modelling: two views of one crop and the patches that are hidden in the
first.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlmo_jax.datasets import Record
from vlmo_jax.input import checks, sampling
from vlmo_jax.input.attempts import Report, write_or_replace
from vlmo_jax.input.images import block_masking, color_jitter, pixels
from vlmo_jax.input.pairs import Batch, decode_record, decode_whole
from vlmo_jax.input.text import captions


@dataclasses.dataclass(frozen=True)
class MaskedViews:
    """What an example is made of: the sizes of both views and of the mask.

    Args:
        image_size: S, side of the model's view in pixels.
        tokenizer_image_size: S', side of the visual tokenizer's view.
        patch_size: side of a patch in pixels; the grid has S / patch_size patches a side.
        num_masked: M, patches that are hidden (BEiT: 75 of 196).
        min_block: smallest block of hidden patches (BEiT: 16; see `block_masking.draw_block_mask`).

    Raises:
        ValueError: a size is impossible.
    """

    image_size: int
    tokenizer_image_size: int
    patch_size: int
    num_masked: int
    min_block: int

    def __post_init__(self):
        checks.check_block_masking(
            self.image_size, self.patch_size, self.num_masked, self.min_block
        )
        if self.tokenizer_image_size < 1:
            raise ValueError(
                f"tokenizer_image_size={self.tokenizer_image_size} must be at least 1 pixel"
            )

    def empty_batch(self, rows: int) -> Batch:
        """Returns black images with no hidden patch: image uint8 [rows, S, S, 3]; tokenizer_image uint8 [rows, S', S', 3], the
        tokenizer's view of the same; masked_positions int32 [rows, M], numbers of the hidden
        patches row by row, -1 where unused.
        """
        sizes = {"image": self.image_size, "tokenizer_image": self.tokenizer_image_size}
        return {name: np.zeros((rows, size, size, 3), np.uint8) for name, size in sizes.items()} | {
            "masked_positions": np.full(
                (rows, self.num_masked), block_masking.UNUSED_POSITION, np.int32
            ),
        }

    def draw_masked_positions(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the patches that are hidden: their numbers, int32 [M], -1 where unused."""
        grid = self.image_size // self.patch_size
        mask = block_masking.draw_block_mask(
            grid, rng, num_masked=self.num_masked, min_block=self.min_block
        )
        return block_masking.masked_positions(mask, self.num_masked)


@dataclasses.dataclass(frozen=True)
class ImagePretrainExamples:
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records; their texts are not read.
        views: sizes.
        seed: 0 to 2**32 - 1.
        crop_scale: smallest and largest share of an image's area that a random crop shows.
        flip: mirror half of the images.
        color_jitter: strengths of brightness, contrast, saturation and hue, or None for none.

    Raises:
        ValueError: an argument is out of range.
    """

    source: Sequence[Record]
    views: MaskedViews
    seed: int
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    color_jitter: tuple[float, float, float, float] | None = (0.4, 0.4, 0.4, 0.0)

    def __post_init__(self):
        checks.check_images(len(self.source), self.views.image_size)
        checks.check_views(self.crop_scale, color_jitter=self.color_jitter)

    @functools.cached_property
    def _min_pixels(self) -> float:
        return pixels.min_pixels_for_crop(
            max(self.views.image_size, self.views.tokenizer_image_size), self.crop_scale
        )

    def empty_batch(self, rows: int) -> Batch:
        """Returns the arrays of `MaskedViews.empty_batch` and image_id uint32 [rows], a hash of the
        record's id.
        """
        return self.views.empty_batch(rows) | {"image_id": np.zeros(rows, np.uint32)}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes one example into a batch; see `examples.TrainExamples.write`."""
        return write_or_replace(
            functools.partial(self._write, batch, row),
            self.source,
            seed=self.seed,
            position=position,
            index=index,
        )

    def _write(self, batch: Batch, row: int, record: Record, rng: np.random.Generator) -> None:
        image = decode_record(record, min_pixels=self._min_pixels)
        batch["image"][row], batch["tokenizer_image"][row] = self.two_views(image, rng)
        batch["masked_positions"][row] = self.views.draw_masked_positions(rng)
        batch["image_id"][row] = captions.text_hash(record.image_id)

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
        if self.color_jitter:
            image = color_jitter.color_jitter(image, rng, strengths=self.color_jitter)
        box = pixels.draw_crop(image.width, image.height, rng, scale=self.crop_scale)
        views = (
            pixels.resize_box(image, box, self.views.image_size, Image.Resampling.BICUBIC),
            pixels.resize_box(
                image, box, self.views.tokenizer_image_size, Image.Resampling.LANCZOS
            ),
        )
        if self.flip and rng.random() < 0.5:
            views = tuple(pixels.flip_horizontally(view) for view in views)
        return tuple(np.asarray(view) for view in views)


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

    def __post_init__(self):
        checks.check_images(len(self.source), self.views.image_size)

    def empty_batch(self, rows: int) -> Batch:
        """Returns padding: the arrays of `MaskedViews.empty_batch`, index int32 and valid bool
        [rows].
        """
        return self.views.empty_batch(rows) | {
            "index": np.zeros(rows, np.int32),
            "valid": np.zeros(rows, np.bool_),
        }

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; see `examples.EvalImages.write`."""
        image = decode_whole(self.source, index)
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
