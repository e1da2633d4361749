"""What a model sees of an image as regions."""

from typing import NamedTuple

import jax


class Regions(NamedTuple):
    """Regions of images, padded to R each.

    Attributes:
        features: [B, R, F] float32.
        boxes: [B, R, 5] float32: x1 / W, y1 / H, x2 / W, y2 / H, share of the area.
        mask: [B, R] bool, True where there is a region.
    """

    features: jax.Array
    boxes: jax.Array
    mask: jax.Array
