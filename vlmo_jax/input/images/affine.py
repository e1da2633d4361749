"""Random rotation, zoom and shift of an image."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vlmo_jax.commands.config_errors import require

NUM_STRENGTHS = 3


def check_affine(strengths: Sequence[float]) -> None:
    """Raises ConfigError unless `config.data.affine` is three strengths or ()."""
    given = tuple(strengths)
    require(
        not given
        or len(given) == NUM_STRENGTHS
        and 0 <= given[0] <= 180
        and 1 <= given[1] <= 4
        and 0 <= given[2] <= 1,
        f"config.data.affine={given} must be rotation (0 to 180 degrees), zoom (1 to 4) and shift"
        " (0 to 1 of the side), or () for none",
    )


def random_affine(
    image: Image.Image,
    rng: np.random.Generator,
    *,
    strengths: Sequence[float],
    fill: tuple[int, int, int],
) -> Image.Image:
    """Turns, shrinks and shifts an image at random.

    Args:
        image: RGB image.
        rng: source of randomness.
        strengths: rotation of up to so many degrees either way; the image is made smaller by a
            factor of 1 to `zoom`, whose logarithm is uniform; shift of up to so large a share of
            the side either way, in both directions.
        fill: colour of what the image leaves uncovered.

    Returns:
        RGB image of the same size, resampled bilinearly.
    """
    degrees, zoom, shift = strengths
    angle = math.radians(rng.uniform(-degrees, degrees))
    scale = math.exp(rng.uniform(0, math.log(zoom)))
    right, down = rng.uniform(-shift, shift, 2)
    width, height = image.size
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # From a point of the result to one of the image, both from their centres.
    across = width / 2 * (1 + 2 * right) - cos * width / 2 + sin * height / 2
    along = height / 2 * (1 + 2 * down) - sin * width / 2 - cos * height / 2
    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        (cos, -sin, across, sin, cos, along),
        Image.Resampling.BILINEAR,
        fillcolor=fill,
    )
