"""Random views of an image and its mask, which keep each pixel by its class.

Source: mmsegmentation 0.11 (Resize, RandomCrop, RandomFlip, PhotoMetricDistortion, Pad), in the
order in which BEiT is trained with them. Resizing is Pillow's, which smooths what becomes smaller.
"""

import dataclasses

import numpy as np
from PIL import Image

from vlmo_jax.commands.config_errors import require
from vlmo_jax.datasets.masks import IGNORED

LONGEST = 4  # times the shorter side: of an image that is resized, the longer one
_TRIES = 10  # crops, until no class covers too much
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 32.0, (0.5, 1.5), (0.5, 1.5), 18 / 180


@dataclasses.dataclass(frozen=True)
class MaskedViews:
    """How views are drawn.

    Args:
        resize: smallest and largest factor of the size at which the shorter side is that of a view.
        most_of_one: share of the labelled pixels of a view that one class may cover, where ten
            tries find such a view.
        flip: mirror half of the images.
        distortion: change brightness, contrast, saturation and hue at random.
        fill: colour where a view reaches beyond the image.

    Raises:
        ConfigError: a number is out of range.
    """

    resize: tuple[float, ...] = (0.5, 2.0)
    most_of_one: float = 0.75
    flip: bool = True
    distortion: bool = True
    fill: tuple[int, ...] = (124, 116, 104)

    def __post_init__(self) -> None:
        require(
            len(self.resize) == 2 and 0 < self.resize[0] <= self.resize[1] <= 16,
            f"config.data.resize_range={self.resize} must be (smallest, largest) factor with 0 <"
            " smallest <= largest <= 16",
        )
        require(
            0 < self.most_of_one <= 1,
            f"config.data.most_of_one={self.most_of_one} must be more than 0 and at most 1",
        )

    def view(
        self, image: Image.Image, mask: np.ndarray, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random view.

        Args:
            image: RGB.
            mask: uint8 [height, width] of the image.
            size: S, pixels a side.
            rng: source of randomness.

        Returns:
            uint8 [S, S, 3], and uint8 [S, S] with IGNORED beyond the image.
        """
        factor = rng.uniform(self.resize[0], self.resize[1])
        image, masked = resize_both(image, Image.fromarray(mask), factor * size)
        pixels, labels = self._crop(np.asarray(image), np.asarray(masked), size, rng)
        if self.flip and rng.random() < 0.5:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        if self.distortion:
            pixels = distort(np.ascontiguousarray(pixels), rng)
        view = np.empty((size, size, 3), np.uint8)
        view[...] = self.fill
        classes = np.full((size, size), IGNORED, np.uint8)
        height, width = labels.shape
        view[:height, :width], classes[:height, :width] = pixels, labels
        return view, classes

    def _crop(
        self, pixels: np.ndarray, labels: np.ndarray, size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A place of at most S x S pixels; the last try is taken where none is good."""
        height, width = labels.shape
        for _ in range(_TRIES):
            top = int(rng.integers(max(height - size, 0) + 1))
            left = int(rng.integers(max(width - size, 0) + 1))
            cut = labels[top : top + size, left : left + size]
            counts = np.bincount(cut[cut != IGNORED], minlength=2)
            if np.sum(counts > 0) > 1 and counts.max() < self.most_of_one * counts.sum():
                break
        return pixels[top : top + size, left : left + size], cut


def resized_size(width: int, height: int, short: float) -> tuple[int, int]:
    """The sides (width, height) at which the shorter one is `short` pixels, or the longer one
    LONGEST times as many, whichever comes first.
    """
    factor = min(short / min(width, height), LONGEST * short / max(width, height))
    return max(1, int(width * factor + 0.5)), max(1, int(height * factor + 0.5))


def resize_both(
    image: Image.Image, mask: Image.Image, short: float
) -> tuple[Image.Image, Image.Image]:
    """An image, bilinear, and its mask, by the nearest pixel, at another size (`resized_size`)."""
    size = resized_size(*image.size, short)
    return (
        image.resize(size, Image.Resampling.BILINEAR),
        mask.resize(size, Image.Resampling.NEAREST),
    )


def distort(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes colours at random: brightness, contrast (before or after the other two), saturation
    and hue, each in half of the images.

    Args:
        pixels: uint8 [H, W, 3].
        rng: source of randomness.

    Returns:
        The same shape.
    """
    y = pixels
    if rng.random() < 0.5:
        y = _clipped(y + np.float32(rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)))
    contrast_first = rng.random() < 0.5
    contrast = rng.uniform(*_CONTRAST) if rng.random() < 0.5 else 1.0
    saturation = rng.uniform(*_SATURATION) if rng.random() < 0.5 else 1.0
    hue = rng.uniform(-_HUE, _HUE) if rng.random() < 0.5 else 0.0
    if contrast_first and contrast != 1.0:
        y = _clipped(y * np.float32(contrast))
    if saturation != 1.0 or hue:
        hsv = np.array(Image.fromarray(y).convert("HSV"))
        hsv[..., 1] = _clipped(hsv[..., 1] * np.float32(saturation))
        hsv[..., 0] += np.uint8(round(hue * 256) % 256)  # around the circle
        y = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    if not contrast_first and contrast != 1.0:
        y = _clipped(y * np.float32(contrast))
    return y


def _clipped(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype(np.uint8)
