"""Images of any shape: which patches are read, and where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.layers import patch_grid
from vlmo_jax.layers.patch_grid import PatchGrid

GRIDS = jnp.asarray([[2, 3], [4, 1], [1, 1]], jnp.int32)


def test_all_patches_come_row_by_row_and_the_rest_is_no_patch():
    patches = patch_grid.all_patches(GRIDS, 8)
    assert patches.mask.sum(axis=1).tolist() == [6, 4, 1]
    places = np.stack([patches.row, patches.column], axis=-1)
    assert places[0, :6].tolist() == [[r, c] for r in range(2) for c in range(3)]
    assert places[1, :4].tolist() == [[r, 0] for r in range(4)]
    assert not places[~np.asarray(patches.mask)].any()


def test_samples_are_different_patches_of_the_image_and_change_with_the_key():
    draw = lambda seed: patch_grid.sample_patches(GRIDS, 8, 4, jax.random.key(seed))
    seen = set()
    for seed in range(20):
        patches = draw(seed)
        assert patches.mask.sum(axis=1).tolist() == [4, 4, 1]
        place = np.asarray(patches.row * 3 + patches.column)[0]
        assert len(set(place)) == 4 and place.max() < 6 and (np.diff(place) > 0).all()
        seen.add(tuple(place))
    assert len(seen) > 5
    jax.tree.map(np.testing.assert_array_equal, draw(3), draw(3))


def bilinear(table, rows, columns):
    """A table [g, g, D] at rows x columns places whose corners are its own, one by one."""
    side = len(table)
    places = [np.linspace(0, side - 1, n) if n > 1 else np.zeros(1) for n in (rows, columns)]
    out = np.zeros((rows, columns, table.shape[-1]))
    for r, y in enumerate(places[0]):
        for c, x in enumerate(places[1]):
            top, left = int(y), int(x)
            down, right = min(top + 1, side - 1), min(left + 1, side - 1)
            a, b = y - top, x - left
            out[r, c] = (
                (1 - a) * (1 - b) * table[top, left]
                + (1 - a) * b * table[top, right]
                + a * (1 - b) * table[down, left]
                + a * b * table[down, right]
            )
    return out


@pytest.mark.parametrize("rows, columns", [(3, 3), (2, 5), (7, 1), (1, 1), (3, 4)])
def test_positions_are_stretched_from_corner_to_corner(rows, columns):
    table = np.random.default_rng(0).normal(size=(3, 3, 4)).astype(np.float32)
    grid = jnp.asarray([[rows, columns]], jnp.int32)
    patches = patch_grid.all_patches(grid, rows * columns)
    found = patch_grid.stretch_positions(jnp.asarray(table.reshape(9, 4)), patches, grid)[0]
    wanted = bilinear(table, rows, columns).reshape(-1, 4)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_lies_beside_an_image_is_never_read():
    embedding = patch_grid.PatchGridEmbedding(8, 4, 6, positions=True, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 12, 12, 3)).astype(np.float32)
    other = rng.normal(size=image.shape).astype(np.float32)
    other[:, :8, :4] = image[:, :8, :4]
    grid = jnp.asarray([[2, 1]], jnp.int32)
    patches = patch_grid.all_patches(grid, 4)
    one, two = (
        embedding.embed(PatchGrid(jnp.asarray(x), grid), patches)[:, :3] for x in (image, other)
    )
    np.testing.assert_array_equal(one, two)
    other[:, 7, 3] += 1
    three = embedding.embed(PatchGrid(jnp.asarray(other), grid), patches)[:, :3]
    assert (np.asarray(one) != np.asarray(three)).any(axis=(0, 2)).tolist() == [False, False, True]
