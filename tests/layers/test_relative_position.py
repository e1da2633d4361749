import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.paths import DATA
from vlmo_jax.layers import relative_position

TABLES = np.load(DATA / "vlmo" / "index_tables.npz")


@pytest.mark.parametrize(
    "name, grid, length, positions",
    [
        ("img32_p8_txt12_init20", 4, 12, 20),
        ("img224_p16_txt40_init196", 14, 40, 196),
    ],
)
def test_index_tables_are_the_official_ones(name, grid, length, positions):
    np.testing.assert_array_equal(
        relative_position.image_index(grid), TABLES[f"{name}/relative_position_index"]
    )
    np.testing.assert_array_equal(
        relative_position.text_index(grid, length, positions),
        TABLES[f"{name}/text_relative_position_index"],
    )
    np.testing.assert_array_equal(
        relative_position.joint_index(grid, length, positions),
        TABLES[f"{name}/text_imag_relative_position_index"],
    )


@pytest.mark.parametrize("grid, positions", [(1, 3), (2, 12), (5, 20)])
def test_every_row_is_used_by_the_longest_text(grid, positions):
    rows = relative_position.num_rows(grid, positions)
    index = relative_position.joint_index(grid, positions, positions)
    # A single patch has one offset, and text offsets leave no gap.
    assert set(np.unique(index)) == set(range(rows))


def test_a_longer_text_than_positions_is_refused():
    with pytest.raises(ValueError, match="text_length=13 is more than the 12 text positions"):
        relative_position.text_index(2, 13, 12)


def test_position_bias_looks_up_query_by_key():
    table = jnp.arange(10.0).reshape(5, 2)
    index = np.array([[0, 1], [4, 3]])
    bias = jax.jit(lambda table: relative_position.position_bias(table, index))(table)
    np.testing.assert_array_equal(bias, [[[0, 2], [8, 6]], [[1, 3], [9, 7]]])
