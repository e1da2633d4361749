"""Rows of images that keep their shape, in whole patches, each in the upper left corner of a canvas
that has room for all of them.
"""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from vlmo_jax.commands.config_errors import require
from vlmo_jax.input.images import pixels
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.plain_images import check_image_size
from vlmo_jax.input.schema import Batch, Column

GRID = "_grid"  # behind the name of the images whose rows and columns of patches it has


@dataclasses.dataclass(frozen=True)
class CanvasRows:
    """Sizes of rows that hold an image of any shape; an `ImageForm`.

    The shorter side is made as long as `image_size`, unless the longer one would be more than
    `longest_side`, which is then as long; both sides are cut down to whole patches, one at least.

    Args:
        image_size: of the shorter side, in pixels.
        longest_side: of the longer side at most, in pixels.
        patch_size: pixels a side.

    Raises:
        ConfigError: a size is impossible.

    Source: ViLT's `MinMaxResize`, which leaves nothing of an image with a side shorter than a
    patch.
    """

    image_size: int
    longest_side: int
    patch_size: int

    def __post_init__(self) -> None:
        check_image_size(self.image_size)
        require(
            1 <= self.patch_size <= self.image_size,
            f"config.model.patch_size={self.patch_size} must be 1 to config.model.image_size="
            f"{self.image_size}",
        )
        require(
            self.longest_side >= self.image_size,
            f"config.model.longest_side={self.longest_side} is less than config.model.image_size="
            f"{self.image_size}, the most that the shorter side has; use at least as much",
        )

    @property
    def side(self) -> int:
        """Pixels a side of the canvas: the longest side in whole patches."""
        return self.longest_side // self.patch_size * self.patch_size

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch: image uint8 [side, side, 3], and image_grid int32 [2], rows and
        columns of patches.
        """
        return {
            "image": Column((self.side, self.side, 3), np.uint8),
            f"image{GRID}": Column((2,), np.int32),
        }

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images become arrays: plain JSON values."""
        return {**dataclasses.asdict(self), "resize": "patches bicubic"}

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`: images as large as they come."""
        shape = (rows, self.side, self.side, 3)
        grid = np.asarray([self.image_size, self.side]) // self.patch_size
        return {
            "image": rng.integers(0, 256, shape, np.uint8),
            f"image{GRID}": np.broadcast_to(grid, (rows, 2)).astype(np.int32),
        }

    def fit(self, width: float, height: float) -> tuple[int, int]:
        """The width and the height that a picture of these gets, in pixels."""
        scale = self.image_size / min(width, height)
        scale = min(scale, self.longest_side / max(width, height))
        sides = (int(scale * side + 0.5) // self.patch_size for side in (width, height))
        wide, high = (max(1, patches) * self.patch_size for patches in sides)
        return wide, high

    def min_pixels(self, augmentation: Augmentation) -> float:
        """`min_pixels` of `datasets.images.decode_image` for a random view."""
        shape = self.longest_side / self.image_size
        return shape * augmentation.min_pixels(self.image_size)

    def write(self, batch: Batch, row: int, picture: Image.Image, name: str = "image") -> None:
        """Writes a whole picture into a row.

        Args:
            batch, row: where to write.
            picture: RGB.
            name: of the column.
        """
        size = self.fit(*picture.size)
        self._put(batch, row, np.asarray(picture.resize(size, Image.Resampling.BICUBIC)), name)

    def write_view(
        self,
        batch: Batch,
        row: int,
        picture: Image.Image,
        augmentation: Augmentation,
        rng: np.random.Generator,
        name: str = "image",
    ) -> None:
        """Writes a random view of a picture: a crop of its own shape, changed as others are."""
        box = pixels.draw_similar_box(*picture.size, rng, scale=augmentation.crop_scale)
        left, top, right, bottom = box
        size = self.fit(right - left, bottom - top)
        crop = augmentation.resize_box(picture, box, size)
        self._put(batch, row, augmentation.change(crop, rng), name)

    def _put(self, batch: Batch, row: int, image: np.ndarray, name: str) -> None:
        height, width = image.shape[:2]
        batch[name][row] = 0  # a record that gave way to this one may have left something
        batch[name][row, :height, :width] = image
        batch[name + GRID][row] = height // self.patch_size, width // self.patch_size
