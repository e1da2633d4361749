"""Colour jitter: random brightness, contrast, saturation and hue."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance

from vlmo_jax.commands.config_errors import require

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
NUM_STRENGTHS = len(_ENHANCERS) + 1
MAX_HUE = 0.5


def check_color_jitter(strengths: Sequence[float]) -> None:
    """Raises ConfigError unless `config.data.color_jitter` is four strengths or ()."""
    given = tuple(strengths)
    in_range = len(given) == NUM_STRENGTHS and all(0 <= strength <= 1 for strength in given)
    require(
        not given or in_range and given[-1] <= MAX_HUE,
        f"config.data.color_jitter={given} must be strengths of brightness, contrast, saturation (0"
        f" to 1) and hue (0 to {MAX_HUE}), or () for none",
    )


def color_jitter(
    image: Image.Image, rng: np.random.Generator, *, strengths: Sequence[float]
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
    return jitter(image, draw_changes(rng, strengths))


Changes = tuple[tuple[int, float], ...]  # which of the four, and by how much


def draw_changes(rng: np.random.Generator, strengths: Sequence[float]) -> Changes:
    """Draws the changes that `color_jitter` makes."""
    return tuple(
        (int(operation), rng.uniform(-strengths[operation], strengths[operation]))
        for operation in rng.permutation(NUM_STRENGTHS)
        if strengths[operation]
    )


def jitter(image: Image.Image, changes: Changes) -> Image.Image:
    """Makes drawn changes to an RGB image."""
    for operation, change in changes:
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
