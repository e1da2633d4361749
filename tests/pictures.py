"""Pictures that tests draw."""

import numpy as np
from PIL import Image


def noise(width, height, mode="RGB", seed=0):
    """Random pixels."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0], mode=None)


def gradient(width, height):
    """Smooth colours, which survive JPEG and resizing."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 40)], -1).astype(
            np.uint8
        )
    )


def as_array(image):
    """The pixels of what has to be RGB, [height, width, 3] uint8."""
    assert image.mode == "RGB"
    return np.asarray(image)
