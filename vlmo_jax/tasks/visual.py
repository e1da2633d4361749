"""What a model sees of a batch: images, squares or of any shape, or regions of them.

The one place that knows the arrays of a batch by which something is seen. A model gets what it is
made for: data and model of a recipe agree on it (see recipes/visual.py).
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from vlmo_jax.layers.embeddings import normalize_image
from vlmo_jax.layers.patch_grid import PatchGrid
from vlmo_jax.layers.regions import Regions
from vlmo_jax.tasks.protocols import Batch

# The arrays of a batch, by what is seen.
IMAGES = ("image",)
REGIONS = ("regions", "boxes", "region_mask")


def visual_input(
    batch: Batch, mean: Sequence[float], std: Sequence[float], name: str = "image"
) -> Any:
    """What the model sees of a batch.

    Args:
        batch: has the arrays of IMAGES or those of REGIONS.
        mean, std: normalise uint8 images; float ones are taken as normalised already.
        name: of the images, where a batch has several an example.

    Returns:
        Normalised images [B, S, S, 3]; PatchGrid where the batch says what shape they have; or
        Regions.
    """
    if "regions" in batch:
        return Regions(*(batch[name] for name in REGIONS))
    image = jnp.asarray(normalize_image(batch[name], mean, std))
    grid = f"{name}_grid"
    return PatchGrid(image, batch[grid]) if grid in batch else image
