"""Views of a picture as if by another hand: without its colours, or as dark outlines on white.

A model that sees such views learns shapes, and so knows a thing in a style that it was never shown.
"""

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from vlmo_jax.commands.config_errors import require

_DARKNESS = 3  # an edge of a third of the range is black


def check_share(name: str, share: float) -> None:
    """Raises ConfigError unless `config.data.<name>` is a share of the images, 0 to 1."""
    require(
        0 <= share <= 1,
        f"config.data.{name}={share} must be the share of the images in [0, 1]",
    )


def remove_colours(image: Image.Image) -> Image.Image:
    """Returns an RGB image of the greys of an RGB image."""
    return image.convert("L").convert("RGB")


def trace_outlines(image: Image.Image) -> Image.Image:
    """Returns the edges of an RGB image as dark lines on white, an RGB image of the same size.

    A pixel is the darker the more the pixels of its 3 x 3 neighbourhood differ in any channel.
    """
    spread = ImageChops.difference(
        image.filter(ImageFilter.MaxFilter(3)), image.filter(ImageFilter.MinFilter(3))
    )
    red, green, blue = spread.split()
    edges = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    lines = ImageOps.invert(edges.point([min(255, _DARKNESS * level) for level in range(256)]))
    return lines.convert("RGB")


def draw_style(
    image: Image.Image, rng: np.random.Generator, *, grey: float, outlines: float
) -> Image.Image:
    """Takes the colours off a share of the images, and traces the outlines of a share.

    Args:
        image: RGB image.
        rng: source of randomness.
        grey: share of the images without colours.
        outlines: share of the images as outlines.

    Returns:
        RGB image of the same size.
    """
    if rng.random() < grey:
        image = remove_colours(image)
    if rng.random() < outlines:
        image = trace_outlines(image)
    return image
