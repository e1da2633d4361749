"""Position tables at other sizes, against what the official loaders' own functions give and by
their properties.

tests/data/resample.npz was made with scipy 1.13's `interp2d` on BEiT's geometric grid and with
torch 2.13's `interpolate`; a name says old grid, new grid and (relative tables) the longest text.
"""

import numpy as np
import pytest
from scipy.interpolate import RectBivariateSpline

from tests.paths import DATA
from vlmo_jax.layers import relative_position, resample

REFERENCE = np.load(DATA / "resample.npz")


def cases(kind):
    names = sorted(
        name.removesuffix("/old")
        for name in REFERENCE
        if name.startswith(kind) and name.endswith("/old")
    )
    assert len(names) >= 5
    return [(name, *map(int, name.split("/")[1].split("_"))) for name in names]


def table_of(grid, text_positions, layers=2, heads=3, seed=0):
    rows = relative_position.num_rows(grid, text_positions)
    return np.random.default_rng(seed).normal(size=(layers, rows, heads)).astype(np.float32)


@pytest.mark.parametrize("name, grid, new_grid, text", cases("relative"))
def test_relative_table_is_that_of_the_official_loader(name, grid, new_grid, text):
    table = np.stack([REFERENCE[f"{name}/old"], 2 * REFERENCE[f"{name}/old"]])
    resampled = resample.resample_relative_table(
        table, grid=grid, new_grid=new_grid, text_positions=text, new_text_positions=text
    )
    expected = np.stack([REFERENCE[f"{name}/new"], 2 * REFERENCE[f"{name}/new"]])
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name, grid, new_grid", cases("absolute"))
def test_image_positions_are_those_of_torch(name, grid, new_grid):
    resampled = resample.resample_image_positions(
        REFERENCE[f"{name}/old"], grid=grid, new_grid=new_grid
    )
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, REFERENCE[f"{name}/new"], atol=1e-5, rtol=0)


def test_offsets_lie_on_a_geometric_progression_that_reaches_the_new_grid():
    ratio = max(np.roots([1, 1, 1, 1 - 8]).real)  # 1 + q + q^2 + q^3 = 8
    reaches = np.cumsum(ratio ** np.arange(4))
    np.testing.assert_allclose(
        resample._geometric_positions(5, 9), [*-reaches[::-1], 0, *reaches], atol=1e-4
    )


def test_spline_is_that_of_fitpack():
    positions = resample._geometric_positions(5, 9)
    table = table_of(5, 4)[:, : 9 * 9 + 3]
    resampled = resample.resample_image_rows(table, grid=5, new_grid=9)[:, :-3].reshape(
        2, 17, 17, 3
    )
    for layer in range(2):
        for head in range(3):
            spline = RectBivariateSpline(
                positions, positions, table[layer, :-3, head].reshape(9, 9)
            )
            offsets = np.arange(-8, 9).clip(positions[0], positions[-1])
            np.testing.assert_allclose(
                resampled[layer, :, :, head], spline(offsets, offsets), atol=2e-6
            )


@pytest.mark.parametrize("grid, text", [(1, 3), (2, 3), (4, 12), (14, 196)])
def test_same_sizes_give_the_same_table(grid, text):
    table = table_of(grid, text)
    same = resample.resample_relative_table(
        table, grid=grid, new_grid=grid, text_positions=text, new_text_positions=text
    )
    np.testing.assert_array_equal(same, table)
    positions = table[0, : grid**2 + 1]
    np.testing.assert_array_equal(
        resample.resample_image_positions(positions, grid=grid, new_grid=grid), positions
    )


def bias(table, index):
    return relative_position.position_bias(table[0], index)


@pytest.mark.parametrize("new_text", [5, 9, 20])
def test_image_and_text_change_at_once(new_text):
    """What tokens see of each other depends on no other change: the bias by pairs of tokens, not by
    rows.
    """
    table = table_of(4, 9)
    both = resample.resample_relative_table(
        table, grid=4, new_grid=6, text_positions=9, new_text_positions=new_text
    )
    image = resample.resample_relative_table(
        table, grid=4, new_grid=6, text_positions=9, new_text_positions=9
    )
    text = resample.resample_relative_table(
        table, grid=4, new_grid=4, text_positions=9, new_text_positions=new_text
    )
    assert both.shape == (2, relative_position.num_rows(6, new_text), 3)
    np.testing.assert_array_equal(
        bias(both, relative_position.image_index(6)), bias(image, relative_position.image_index(6))
    )
    index = relative_position.text_index
    length = min(9, new_text)
    np.testing.assert_array_equal(
        bias(both, index(6, new_text, new_text)), bias(text, index(4, new_text, new_text))
    )
    np.testing.assert_array_equal(
        bias(both, index(6, length, new_text)), bias(table, index(4, length, 9))
    )
    joint = relative_position.joint_index
    between = bias(both, joint(6, length, new_text))
    np.testing.assert_array_equal(
        between[:, :length, length:], np.broadcast_to(table[0, 52, :, None, None], (3, length, 37))
    )
    np.testing.assert_array_equal(
        between[:, length:, :length], np.broadcast_to(table[0, 53, :, None, None], (3, 37, length))
    )


def test_offsets_of_a_longer_text_take_the_farthest_known_value():
    table = table_of(2, 4)
    longer = resample.resample_relative_table(
        table, grid=2, new_grid=2, text_positions=4, new_text_positions=7
    )
    offsets = bias(longer, relative_position.text_index(2, 7, 7))[:, 1:, 1:]
    known = bias(table, relative_position.text_index(2, 4, 4))[:, 1:, 1:]
    np.testing.assert_array_equal(offsets[:, :3, :3], known)
    np.testing.assert_array_equal(offsets[:, 0, 2:], np.repeat(known[:, 0, 2:], 4, axis=1))
    np.testing.assert_array_equal(offsets[:, 2:, 0], np.repeat(known[:, 2:, 0], 4, axis=1))


@pytest.mark.parametrize("grid, new_grid", [(2, 3), (4, 6), (6, 4), (5, 14)])
def test_symmetry_is_kept(grid, new_grid):
    table = table_of(grid, 3)[:, : (2 * grid - 1) ** 2 + 3]
    flip = lambda t, side: np.concatenate(
        [t[:, :-3].reshape(2, side, side, 3)[:, ::-1, ::-1].reshape(2, -1, 3), t[:, -3:]], axis=1
    )
    side, new_side = 2 * grid - 1, 2 * new_grid - 1
    resampled = resample.resample_image_rows(table, grid=grid, new_grid=new_grid)
    flipped = resample.resample_image_rows(flip(table, side), grid=grid, new_grid=new_grid)
    np.testing.assert_allclose(flipped, flip(resampled, new_side), atol=1e-5)
    np.testing.assert_array_equal(resampled[:, -3:], table[:, -3:])
    centre = (new_side**2) // 2
    np.testing.assert_allclose(resampled[:, centre], table[:, side**2 // 2], atol=1e-6)


@pytest.mark.parametrize("grid, new_grid", [(1, 3), (2, 4), (3, 2), (4, 9)])
def test_constants_stay_constant(grid, new_grid):
    table = np.full((1, (2 * grid - 1) ** 2 + 3, 2), 0.7, np.float32)
    np.testing.assert_allclose(
        resample.resample_image_rows(table, grid=grid, new_grid=new_grid), 0.7, atol=1e-6
    )
    positions = np.full((1 + grid**2, 2), 0.7, np.float32)
    np.testing.assert_allclose(
        resample.resample_image_positions(positions, grid=grid, new_grid=new_grid), 0.7, atol=1e-6
    )


def test_tables_of_other_sizes_are_refused():
    sizes = dict(new_grid=5, text_positions=9, new_text_positions=9)
    with pytest.raises(
        ValueError, match=r"72 rows is not one of 3 x 3 patches and texts of 9 tokens, which has 48"
    ):
        resample.resample_relative_table(table_of(4, 9), grid=3, **sizes)
    with pytest.raises(ValueError, match=r"17 image positions are not those of 3 x 3 patches"):
        resample.resample_image_positions(np.zeros((17, 2)), grid=3, new_grid=4)
