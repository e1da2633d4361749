"""Examples of masked image modelling: two views of one crop and the patches that are hidden in the first."""

from collections.abc import Sequence
import dataclasses
import functools

import numpy as np
from PIL import Image

from vlmo_jax.datasets import Record
from vlmo_jax.input import block_masking, captions, checks, color_jitter, images
from vlmo_jax.input.attempts import Report, UnusableRecordError, write_or_replace
from vlmo_jax.input.examples import Batch


@dataclasses.dataclass(frozen=True)
class ImagePretrainExamples:
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records; their texts are not read.
        image_size: S, side of the model's view in pixels.
        tokenizer_image_size: S', side of the visual tokenizer's view.
        patch_size: side of a patch in pixels; the grid has S / patch_size patches a side.
        seed: 0 to 2**32 - 1.
        num_masked: M, patches that are hidden (BEiT: 75 of 196).
        min_block: smallest block of hidden patches (BEiT: 16; see `block_masking.draw_block_mask`).
        crop_scale: smallest and largest share of an image's area that a random crop shows.
        flip: mirror half of the images.
        color_jitter: strengths of brightness, contrast, saturation and hue, or None for none.

    Raises:
        ValueError: an argument is out of range.
    """

    source: Sequence[Record]
    image_size: int
    tokenizer_image_size: int
    patch_size: int
    seed: int
    num_masked: int
    min_block: int
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    color_jitter: tuple[float, float, float, float] | None = (0.4, 0.4, 0.4, 0.0)

    def __post_init__(self):
        checks.check_images(len(self.source), min(self.image_size, self.tokenizer_image_size))
        checks.check_views(self.crop_scale, color_jitter=self.color_jitter)
        checks.check_block_masking(self.image_size, self.patch_size, self.num_masked, self.min_block)

    @functools.cached_property
    def _min_pixels(self) -> float:
        return images.min_pixels_for_crop(max(self.image_size, self.tokenizer_image_size), self.crop_scale)

    def empty_batch(self, rows: int) -> Batch:
        """Returns arrays for `rows` examples, not filled: image uint8 [rows, S, S, 3]; tokenizer_image uint8 [rows, S', S', 3],
        another view of the same crop; masked_positions int32 [rows, M], numbers of the hidden patches row by row, -1 where
        unused; image_id uint32 [rows], a hash of the record's id."""
        sizes = {"image": self.image_size, "tokenizer_image": self.tokenizer_image_size}
        return {name: np.empty((rows, size, size, 3), np.uint8) for name, size in sizes.items()} | {
            "masked_positions": np.empty((rows, self.num_masked), np.int32),
            "image_id": np.empty(rows, np.uint32),
        }

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes one example into a batch; see `examples.TrainExamples.write`."""
        return write_or_replace(
            functools.partial(self._write, batch, row), self.source, seed=self.seed, position=position, index=index)

    def _write(self, batch: Batch, row: int, record: Record, rng: np.random.Generator) -> None:
        try:
            image = images.decode_image(record.image, min_pixels=self._min_pixels)
        except images.BrokenImageError as error:
            raise UnusableRecordError(record.image_id, error) from error
        batch["image"][row], batch["tokenizer_image"][row] = self.two_views(image, rng)
        batch["masked_positions"][row] = self.draw_masked_positions(rng)
        batch["image_id"][row] = captions.text_hash(record.image_id)

    def two_views(self, image: Image.Image, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Shows one random crop, mirrored or not and with jittered colours, to the model and to the visual tokenizer.

        Args:
            image: RGB image.
            rng: source of randomness.

        Returns:
            uint8 [S, S, 3], resized with a bicubic filter, and uint8 [S', S', 3], resized with a Lanczos filter.

        Source: `DataAugmentationForBEiT` of the official code, which mirrors before it crops: the same views as often.
        """
        if self.color_jitter:
            image = color_jitter.color_jitter(image, rng, strengths=self.color_jitter)
        box = images.draw_crop(image.width, image.height, rng, scale=self.crop_scale)
        views = (
            images.resize_box(image, box, self.image_size, Image.Resampling.BICUBIC),
            images.resize_box(image, box, self.tokenizer_image_size, Image.Resampling.LANCZOS),
        )
        if self.flip and rng.random() < 0.5:
            views = tuple(images.flip_horizontally(view) for view in views)
        return tuple(np.asarray(view) for view in views)

    def draw_masked_positions(self, rng: np.random.Generator) -> np.ndarray:
        """Draws the patches that are hidden: their numbers, int32 [M], -1 where unused."""
        grid = self.image_size // self.patch_size
        mask = block_masking.draw_block_mask(grid, rng, num_masked=self.num_masked, min_block=self.min_block)
        return block_masking.masked_positions(mask, self.num_masked)
