"""Images of any shape as sets of patches: which patches an image has, and where they lie.

An image of h x w patches lies in the upper left corner of a canvas that has room for every shape;
what lies beside it is never read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.layers.embeddings import ImageEmbedding, split_patches
from vlmo_jax.layers.linear import dropout


class PatchGrid(NamedTuple):
    """Images in their canvases.

    Attributes:
        image: [B, H, W, 3], normalised.
        grid: [B, 2] int32, rows and columns of patches that an image has, each at least 1.
    """

    image: jax.Array
    grid: jax.Array


class PatchSet(NamedTuple):
    """Patches of images.

    Attributes:
        row, column: [B, N] int32, where they lie; 0 where there is none.
        mask: [B, N] bool, False where there is none; those come last.
    """

    row: jax.Array
    column: jax.Array
    mask: jax.Array


class PatchGridEmbedding(ImageEmbedding):
    """[class token; linear patches] + position of images of any shape, as in ViLT.

    The position table is that of a square of image_size / patch_size patches a side, stretched to
    each image's own rows and columns.

    Args:
        image_size, patch_size, width, dtype, init_std, rngs: as of ImageEmbedding.
    """

    def embed(
        self,
        images: PatchGrid,
        patches: PatchSet,
        *,
        dropout_rate: float = 0.0,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Embeds the class token and some patches of each image.

        Args:
            images: see there.
            patches: N of each; see `all_patches` and `sample_patches`.
            dropout_rate: of the result.
            key: turns dropout on.

        Returns:
            [B, 1 + N, D] in the compute type; what stands for no patch means nothing.
        """
        assert self.position is not None, "this embedding was made without positions"
        columns = images.image.shape[2] // self.patch_size
        place = patches.row * columns + patches.column
        pixels = split_patches(images.image, self.patch_size)
        x = self._after_class_token(
            self._project(jnp.take_along_axis(pixels, place[..., None], axis=1))
        )
        table = self.position[...]
        stretched = stretch_positions(table[1:], patches, images.grid)
        first = jnp.broadcast_to(table[:1], (len(x), 1, x.shape[-1]))
        position = jnp.concatenate([first, stretched], axis=1)
        return dropout(x + position.astype(self.dtype), dropout_rate, key)


def all_patches(grid: jax.Array, most: int) -> PatchSet:
    """All patches of each image, row by row.

    Args:
        grid: of a PatchGrid.
        most: N, as many as any image has.
    """
    numbers = jnp.arange(most, dtype=jnp.int32)[None] + jnp.zeros_like(grid[:, :1])
    return _place(numbers, grid)


def sample_patches(grid: jax.Array, most: int, count: int, key: jax.Array) -> PatchSet:
    """At most `count` patches of each image drawn at random, without one coming twice.

    Args:
        grid: of a PatchGrid.
        most: as many patches as any image has.
        count: N.
        key: random key.

    Source: ViLT's `visual_embed` with `max_image_len`, whose patches come in the order of the draw;
    here they come row by row.
    """
    numbers = jnp.arange(most)[None]
    drawn = jax.random.uniform(key, (len(grid), most))
    drawn = jnp.where(numbers < _count(grid), drawn, jnp.inf)
    chosen = jnp.argsort(drawn, axis=1)[:, :count].astype(jnp.int32)
    return _place(jnp.sort(chosen, axis=1), grid)


def stretch_positions(table: jax.Array, patches: PatchSet, grid: jax.Array) -> jax.Array:
    """The rows of a position table at patches of images of other shapes.

    Args:
        table: [g * g, D] float32, of a square of patches, row by row.
        patches: N of each image.
        grid: of a PatchGrid.

    Returns:
        [B, N, D] float32, bilinear between the corners of the table, which are those of the image.

    Source: `torch.nn.functional.interpolate`, mode bilinear, corners aligned.
    """
    side = round(len(table) ** 0.5)
    rows = _weights(patches.row, grid[:, :1], side)
    columns = _weights(patches.column, grid[:, 1:], side)
    weights = rows[..., :, None] * columns[..., None, :]
    return weights.reshape(*weights.shape[:2], -1) @ table


def _weights(place: jax.Array, length: jax.Array, side: int) -> jax.Array:
    """Shares [B, N, side] of the rows of a table at places [B, N] of a length [B, 1]."""
    scale = (side - 1) / jnp.maximum(length - 1, 1).astype(jnp.float32)
    distance = (place * scale)[..., None] - jnp.arange(side, dtype=jnp.float32)[None, None]
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)


def _count(grid: jax.Array) -> jax.Array:
    return grid[:, :1] * grid[:, 1:]


def _place(numbers: jax.Array, grid: jax.Array) -> PatchSet:
    """Patches by their numbers [B, N], row by row."""
    mask = numbers < _count(grid)
    row, column = jnp.divmod(jnp.where(mask, numbers, 0), grid[:, 1:])
    return PatchSet(row, column, mask)
