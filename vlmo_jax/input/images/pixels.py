"""Resizing, cropping and mirroring of RGB images, with Pillow."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets import images

# A crop is resized from at least this many times the pixels a side that it ends with, unless the
# file has fewer: Pillow's own choice for thumbnails (`reducing_gap`), hardly to be told from a
# resize of all pixels and much cheaper for photographs.
_REDUCING_GAP = 2.0

# So many pixels a side for one of the result are many.
_MANY = 1.4

Box = tuple[float, float, float, float]  # left, top, right, bottom


def check_crop(crop_scale: Sequence[float]) -> None:
    """Raises ConfigError unless `config.data.crop_scale` says how large random crops are."""
    scale = tuple(crop_scale)
    require(
        len(scale) == 2,
        f"config.data.crop_scale={scale} must be two numbers, smallest and largest",
    )
    smallest, largest = scale
    require(
        0 < smallest <= largest <= 1,
        f"config.data.crop_scale={scale} must be (smallest, largest) share of the area with 0 <"
        " smallest <= largest <= 1",
    )


def resize_square(
    image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Resizes to a square with one of Pillow's antialiased filters, whatever the aspect ratio: the
    transform of evaluation.

    Args:
        image: RGB image.
        size: side in pixels.
        resample: the filter.

    Returns:
        RGB image [size, size].

    Source: `square_transform` of the official code.
    """
    return image.resize((size, size), resample)


def resize_centre(image: Image.Image, size: int, share: float = 1.0) -> Image.Image:
    """Resizes the shorter side, bicubic, and keeps the square in the middle: the transform of
    evaluation of CLIP, and of classifiers.

    Args:
        image: RGB image.
        size: side in pixels.
        share: of the shorter side that the square takes, more than 0, at most 1. At 224 px and
            0.875 that side is resized to 256.

    Returns:
        RGB image [size, size].

    Source: torchvision's Resize and CenterCrop, as in openai/CLIP's `_transform` and BEiT's
    `build_transform`. What is cut off is never computed.
    """
    shorter = min(image.size)
    # The sides once resized, in whole pixels, and where the square begins in them.
    resized = int(size / share)
    sides = [int(resized * side / shorter) for side in image.size]
    starts = [round((side - size) / 2) for side in sides]
    scales = [whole / side for whole, side in zip(image.size, sides, strict=True)]
    left, top = (start * scale for start, scale in zip(starts, scales, strict=True))
    right, bottom = ((start + size) * s for start, s in zip(starts, scales, strict=True))
    box = left, top, min(right, image.width), min(bottom, image.height)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def draw_crop(
    width: int,
    height: int,
    rng: np.random.Generator,
    *,
    scale: Sequence[float],
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """Draws a box of random area, aspect ratio and place inside an image.

    Args:
        width, height: of the image, in pixels.
        rng: source of randomness.
        scale: smallest and largest share of the image's area.
        aspect: smallest and largest width / height of the box; its logarithm is uniform.

    Returns:
        (left, top, right, bottom) in pixels; after ten draws that don't fit, the largest centred
        box of an allowed aspect ratio.

    Source: RandomResizedCrop of Inception training, with the numbers of torchvision.
    """
    log_aspect = math.log(aspect[0]), math.log(aspect[1])
    for _ in range(10):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * rng.random())
        ratio = math.exp(log_aspect[0] + (log_aspect[1] - log_aspect[0]) * rng.random())
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(rng.random() * (width - box_width + 1))
            top = int(rng.random() * (height - box_height + 1))
            return left, top, left + box_width, top + box_height
    ratio = min(max(width / height, aspect[0]), aspect[1])
    box_width, box_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def draw_similar_box(
    width: int, height: int, rng: np.random.Generator, *, scale: Sequence[float]
) -> tuple[int, int, int, int]:
    """Draws a box of random area and place, and of the shape of the image.

    Args:
        width, height: of the image, in pixels.
        rng: source of randomness.
        scale: smallest and largest share of the image's area.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    share = math.sqrt(scale[0] + (scale[1] - scale[0]) * rng.random())
    box_width, box_height = (max(1, round(share * side)) for side in (width, height))
    left = int(rng.random() * (width - box_width + 1))
    top = int(rng.random() * (height - box_height + 1))
    return left, top, left + box_width, top + box_height


def resize_box(
    image: Image.Image,
    box: tuple[int, int, int, int],
    size: int | tuple[int, int],
    resample: Image.Resampling,
) -> Image.Image:
    """Resizes a box (left, top, right, bottom) of an image to `size` (width, height), or to a
    square of so many pixels a side, with an antialiased filter.
    """
    size = (size, size) if isinstance(size, int) else size
    return image.resize(size, resample, box=box, reducing_gap=_REDUCING_GAP)


def decode_box(
    image: Image.Image, box: tuple[int, int, int, int], size: int
) -> tuple[Image.Image, Box]:
    """Decodes an image with as few pixels as leave a box of it no fewer than its view has.

    Args:
        image: of `datasets.images.open_image`, which is decoded in its place.
        box: (left, top, right, bottom) in pixels.
        size: of the view's shorter side, in pixels.

    Returns:
        RGB image, and where the box is in it.

    Raises:
        BrokenImageError: the image cannot be decoded.
    """
    left, top, right, bottom = box
    whole = image.width
    decoded = images.decode_at(image, max(1.0, min(right - left, bottom - top) / size))
    shrink = next(n for n in (1, 2, 4, 8) if -(-whole // n) == decoded.width)
    return decoded, (
        left / shrink,
        top / shrink,
        min(right / shrink, decoded.width),
        min(bottom / shrink, decoded.height),
    )


def resize_box_fast(image: Image.Image, box: Box, size: int | tuple[int, int]) -> Image.Image:
    """Resizes a box as `resize_box` does with a bicubic filter, but where many pixels become one
    with a Hamming filter, which is half as wide and looks much like it.
    """
    size = (size, size) if isinstance(size, int) else size
    left, top, right, bottom = box
    scale = min((right - left) / size[0], (bottom - top) / size[1])
    resample = Image.Resampling.HAMMING if scale >= _MANY else Image.Resampling.BICUBIC
    return image.resize(size, resample, box=box)


def min_pixels_for_crop(size: int, scale: Sequence[float]) -> float:
    """Returns how many pixels an image must keep for every random crop to be resized from enough of
    them.

    Args:
        size: side of the resized crop in pixels.
        scale: as in `draw_crop`.

    Returns:
        `min_pixels` of `datasets.images.decode_image`.
    """
    narrowest = 3 / 4  # shorter side over longer side
    return (_REDUCING_GAP * size) ** 2 / (scale[0] * narrowest)


def flip_horizontally(image: Image.Image) -> Image.Image:
    """Returns the mirror image, left to right."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
