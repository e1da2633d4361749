"""A random view of an image: crop, mirror, affine change, colour jitter, drawing style,
RandAugment and erasing, in this order.
"""

import dataclasses

import numpy as np
from PIL import Image

from vlmo_jax.datasets.images import WHITE
from vlmo_jax.input.images import affine, color_jitter, drawing_style, erasing, pixels, randaugment


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How random views are drawn.

    Args:
        crop_scale: smallest and largest share of an image's area that a random crop shows.
        flip: mirror half of the images.
        randaugment: (number of operations, magnitude 0 to 10), or () for no RandAugment.
        randaugment_fill: colour of corners that it and the affine change uncover (see
            `randaugment.rand_augment`).
        color_jitter: strengths of brightness, contrast, saturation and hue (see
            `color_jitter.color_jitter`), or () for none.
        affine: rotation, zoom and shift (see `affine.random_affine`), or () for none.
        grey: share of the images without colours.
        outlines: share of the images as outlines (see `drawing_style`).
        erasing: share of the images of which a box is erased (see `erasing.erase`).
        fast: crops are decoded as `pixels.decode_box` and resized as `pixels.resize_box_fast` does
            it, in less time and with other pixels; images come from `datasets.images.open_image`.

    Raises:
        ConfigError: a strength is out of range.
    """

    crop_scale: tuple[float, ...] = (0.5, 1.0)
    flip: bool = True
    randaugment: tuple[float, ...] = (2, 7)
    randaugment_fill: tuple[int, int, int] = WHITE
    color_jitter: tuple[float, ...] = ()
    affine: tuple[float, ...] = ()
    grey: float = 0.0
    outlines: float = 0.0
    erasing: float = 0.0
    fast: bool = False

    def __post_init__(self) -> None:
        pixels.check_crop(self.crop_scale)
        randaugment.check_randaugment(self.randaugment)
        color_jitter.check_color_jitter(self.color_jitter)
        affine.check_affine(self.affine)
        drawing_style.check_share("grey", self.grey)
        drawing_style.check_share("outlines", self.outlines)
        erasing.check_erasing(self.erasing)

    def min_pixels(self, size: int) -> float:
        """Returns how many pixels a decoded image must keep for views of `size` pixels a side."""
        return pixels.min_pixels_for_crop(size, self.crop_scale)

    def crop(self, image: Image.Image, size: int, rng: np.random.Generator) -> Image.Image:
        """Returns a random crop of an image, resized to `size` pixels a side.

        At the edges of the box the filter sees the pixels outside it, which cutting first would
        hide.

        Source: `square_transform_randaug` of the official code (scale 0.5 to 1, bicubic).
        """
        box = pixels.draw_crop(image.width, image.height, rng, scale=self.crop_scale)
        return self.resize_box(image, box, size)

    def resize_box(
        self, image: Image.Image, box: tuple[int, int, int, int], size: int | tuple[int, int]
    ) -> Image.Image:
        """Resizes a box of an image, see `pixels.resize_box`."""
        if self.fast:
            side = size if isinstance(size, int) else min(size)
            return pixels.resize_box_fast(*pixels.decode_box(image, box, side), size)
        return pixels.resize_box(image, box, size, Image.Resampling.BICUBIC)

    def view(self, image: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
        """Returns a random view of an RGB image.

        Args:
            image: RGB image.
            size: S, side of the view in pixels.
            rng: source of randomness.

        Returns:
            uint8 [S, S, 3].
        """
        return self.change(self.crop(image, size, rng), rng)

    def change(self, image: Image.Image, rng: np.random.Generator) -> np.ndarray:
        """Returns a random change of an RGB image that was cropped, uint8 [H, W, 3]."""
        if self.flip and rng.random() < 0.5:
            image = pixels.flip_horizontally(image)
        if self.affine:
            image = affine.random_affine(
                image, rng, strengths=self.affine, fill=self.randaugment_fill
            )
        if self.color_jitter:
            image = color_jitter.color_jitter(image, rng, strengths=self.color_jitter)
        if self.grey or self.outlines:
            image = drawing_style.draw_style(image, rng, grey=self.grey, outlines=self.outlines)
        if self.randaugment:
            num_ops, magnitude = self.randaugment
            image = randaugment.rand_augment(
                image,
                rng,
                num_ops=int(num_ops),
                magnitude=magnitude,
                fill=self.randaugment_fill,
            )
        pixels_of_view = np.asarray(image)
        if self.erasing and rng.random() < self.erasing:
            return erasing.erase(pixels_of_view, rng)
        return pixels_of_view
