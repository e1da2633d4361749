"""Examples of training on images alone: one random view of each."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.input import checks
from vlmo_jax.input.attempts import Report, write_or_replace
from vlmo_jax.input.images import pixels
from vlmo_jax.input.pairs import Batch, decode_record
from vlmo_jax.input.text import captions


@dataclasses.dataclass(frozen=True)
class ImageExamples:
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    Args:
        source: the records; their texts are not read.
        image_size: S, side of the images in pixels.
        seed: 0 to 2**32 - 1.
        crop_scale: smallest and largest share of an image's area that a random crop shows.
        flip: mirror half of the images.

    Raises:
        ValueError: an argument is out of range.
    """

    source: Sequence[Record]
    image_size: int
    seed: int
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True

    def __post_init__(self):
        checks.check_images(len(self.source), self.image_size)
        checks.check_views(self.crop_scale)

    @functools.cached_property
    def _min_pixels(self) -> float:
        return pixels.min_pixels_for_crop(self.image_size, self.crop_scale)

    def empty_batch(self, rows: int) -> Batch:
        """Returns arrays for `rows` examples, not filled: image uint8 [rows, S, S, 3]; image_id
        uint32 [rows], a hash.
        """
        return {
            "image": np.empty((rows, self.image_size, self.image_size, 3), np.uint8),
            "image_id": np.empty(rows, np.uint32),
        }

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
        image = pixels.random_resized_crop(image, self.image_size, rng, scale=self.crop_scale)
        if self.flip and rng.random() < 0.5:
            image = pixels.flip_horizontally(image)
        batch["image"][row] = np.asarray(image)
        batch["image_id"][row] = captions.text_hash(record.image_id)
