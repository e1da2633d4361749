"""Colour jitter: random brightness, contrast, saturation and hue."""

import numpy as np
from PIL import Image, ImageEnhance

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
NUM_STRENGTHS = len(_ENHANCERS) + 1
MAX_HUE = 0.5


def color_jitter(
    image: Image.Image, rng: np.random.Generator, *, strengths: tuple[float, float, float, float]
) -> Image.Image:
    """Changes an image's colours at random, each of the four by its own draw, in random order.

    Args:
        image: RGB image.
        rng: source of randomness.
        strengths: brightness, contrast and saturation are multiplied by a factor in [1 - s, 1 + s],
            s being 0 to 1; the hue is turned by up to the last, a share of the circle of 0 to 0.5.
            BEiT takes (0.4, 0.4, 0.4, 0).

    Returns:
        RGB image of the same size.

    Source: torchvision's ColorJitter, as BEiT and SimCLR use it.
    """
    for operation in rng.permutation(NUM_STRENGTHS):
        strength = strengths[operation]
        if not strength:
            continue
        change = rng.uniform(-strength, strength)
        image = (
            _turn_hue(image, change)
            if operation == len(_ENHANCERS)
            else _ENHANCERS[operation](image).enhance(1 + change)
        )
    return image


def _turn_hue(image: Image.Image, turn: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shift = round(turn * 256)
    hue = hue.point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")
