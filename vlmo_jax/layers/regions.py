"""What a model sees of an image as regions: features with boxes, of a detector or of a grid."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.embeddings import split_patches
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, Linear, dropout

BOX = 5  # numbers of a box: left, top, right, bottom and area, each a share of its image's


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


def grid_boxes(rows: int, columns: int) -> np.ndarray:
    """The boxes of a grid's cells, row by row: [rows * columns, 5] float32."""
    top, left = np.divmod(np.arange(rows * columns), columns)
    sides = np.stack([left / columns, top / rows, (left + 1) / columns, (top + 1) / rows], axis=1)
    area = np.full((rows * columns, 1), 1 / (rows * columns))
    return np.concatenate([sides, area], axis=1).astype(np.float32)


def grid_regions(image: jax.Array, patch_size: int) -> Regions:
    """The patches of images as regions: their pixels are the features.

    Args:
        image: [B, S, S, 3], normalised.
        patch_size: pixels a side.
    """
    patches = split_patches(image, patch_size)
    boxes = grid_boxes(image.shape[1] // patch_size, image.shape[2] // patch_size)
    return Regions(
        features=patches,
        boxes=jnp.broadcast_to(jnp.asarray(boxes), (len(image), *boxes.shape)),
        mask=jnp.ones(patches.shape[:2], bool),
    )


def overlaps(boxes: jax.Array) -> jax.Array:
    """Intersections of boxes over their unions: [..., R, 5] -> [..., R, R] float32.

    A box without area overlaps with none but, by definition, itself.
    """
    first, second = boxes[..., :, None, :], boxes[..., None, :, :]
    low = jnp.maximum(first[..., :2], second[..., :2])
    high = jnp.minimum(first[..., 2:4], second[..., 2:4])
    common = jnp.prod(jnp.maximum(high - low, 0.0), axis=-1)
    areas = jnp.prod(jnp.maximum(boxes[..., 2:4] - boxes[..., :2], 0.0), axis=-1)
    union = areas[..., :, None] + areas[..., None, :] - common
    shares = jnp.where(union > 0, common / jnp.where(union > 0, union, 1.0), 0.0)
    return jnp.where(jnp.eye(boxes.shape[-2], dtype=bool), jnp.ones_like(shares), shares)


def add_global_region(regions: Regions, hidden: jax.Array | None = None) -> Regions:
    """Puts a region of the whole image before the others, whose feature is their mean.

    Args:
        regions: R regions.
        hidden: [B, R] bool, regions whose features become zero, and which the mean leaves out;
            None: none.

    Returns:
        1 + R regions.
    """
    shown = regions.mask if hidden is None else regions.mask & ~hidden
    features = jnp.where(shown[..., None], regions.features, 0)
    count = jnp.maximum(shown.sum(1), 1).astype(features.dtype)
    mean = features.sum(1) / count[:, None]
    whole = jnp.asarray([0, 0, 1, 1, 1], regions.boxes.dtype)
    front = lambda value, rest: jnp.concatenate([value[:, None], rest], axis=1)
    return Regions(
        features=front(mean, features),
        boxes=front(jnp.broadcast_to(whole, (len(mean), BOX)), regions.boxes),
        mask=front(jnp.ones(len(mean), bool), regions.mask),
    )


class RegionEmbedding(nnx.Module):
    """LayerNorm(dense(features) + dense(boxes)) with dropout.

    Args:
        num_features: F.
        width: D.
        dropout_rate: of the result.
        norm_epsilon: of the norm.
        dtype: compute type.
        init_std: deviation that matrices start from.

    Source: the official `BertImageEmbeddings` of ViLBERT.
    """

    def __init__(
        self,
        num_features: int,
        width: int,
        *,
        dropout_rate: float = 0.0,
        norm_epsilon: float = 1e-12,
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        rngs: nnx.Rngs,
    ) -> None:
        self.dropout_rate = dropout_rate
        self.features = Linear(
            num_features, width, axes=(None, "embed"), dtype=dtype, init_std=init_std, rngs=rngs
        )
        self.boxes = Linear(
            BOX, width, axes=(None, "embed"), dtype=dtype, init_std=init_std, rngs=rngs
        )
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)

    def __call__(self, regions: Regions, key: jax.Array | None = None) -> jax.Array:
        """Regions -> [B, R, D] in the compute type; `key` turns dropout on."""
        x = self.norm(self.features(regions.features) + self.boxes(regions.boxes))
        return dropout(x, self.dropout_rate, key)
