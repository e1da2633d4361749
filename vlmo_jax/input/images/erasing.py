"""Random erasing: noise in the place of a random box of an image."""

import math

import numpy as np

from vlmo_jax.commands.config_errors import require

_AREA = (0.02, 1 / 3)  # smallest and largest share of the image
_ASPECT = (0.3, 1 / 0.3)
_TRIES = 10
_MIDDLE = 127.5  # of pixels, and their deviation once normalised by 0.5


def check_erasing(share: float) -> None:
    """Raises ConfigError unless `config.data.erasing` is a share of the images."""
    require(0 <= share <= 1, f"config.data.erasing={share} must be a share of the images, 0 to 1")


def erase(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fills a random box of an image with noise, each value by its own draw.

    Args:
        image: uint8 [H, W, 3].
        rng: source of randomness.

    Returns:
        A new array; the image itself if no box fits in ten draws.

    Source: Random Erasing, arXiv 1708.04896, in timm's mode "pixel", as BEiT is fine-tuned. There
    the noise is a normal of mean 0 and deviation 1 on images normalised by 0.5; here it is the same
    on pixels, and what leaves their range is cut off.
    """
    height, width = image.shape[:2]
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*_AREA)
        aspect = math.exp(rng.uniform(*np.log(_ASPECT)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top = int(rng.integers(height - rows + 1))
            left = int(rng.integers(width - columns + 1))
            noise = rng.normal(_MIDDLE, _MIDDLE, (rows, columns, 3))
            erased = np.array(image)
            erased[top : top + rows, left : left + columns] = noise.round().clip(0, 255)
            return erased
    return image
