"""Block masks: how much they hide, in what shapes, and that they follow the draw."""

import numpy as np
import pytest

from vlmo_jax.input.images.block_masking import (
    check_block_masking,
    draw_block_mask,
    masked_positions,
)


def draw(seed, grid=14, num_masked=75, min_block=16):
    return draw_block_mask(
        grid, np.random.default_rng(seed), num_masked=num_masked, min_block=min_block
    )


@pytest.mark.parametrize(
    "grid, num_masked, min_block", [(14, 75, 16), (4, 6, 2), (8, 25, 5), (3, 4, 1), (2, 1, 1)]
)
def test_never_more_is_hidden_and_mostly_exactly_as_much(grid, num_masked, min_block):
    counts = np.array([draw(seed, grid, num_masked, min_block).sum() for seed in range(300)])
    assert counts.max() == num_masked and counts.min() >= 1
    assert counts.mean() > 0.95 * num_masked and np.median(counts) == num_masked


def test_masks_are_blocks_not_scattered_patches():
    """A hidden patch of BEiT's masks has three hidden neighbours of four on average; scattered ones
    have 1.5.
    """
    neighbours = []
    for seed in range(50):
        mask = draw(seed)
        around = np.pad(mask, 1)
        count = (
            around[:-2, 1:-1].astype(int) + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        )
        neighbours.append(count[mask].mean())
    assert 2.8 < np.mean(neighbours) < 3.5


def test_every_patch_is_hidden_at_times_inner_ones_more_often():
    rate = np.mean([draw(seed) for seed in range(600)], axis=0)
    corners = rate[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.min() > 0.01 and rate[4:-4, 4:-4].min() > 5 * corners.max()
    np.testing.assert_allclose(rate, rate.T, atol=0.12)


def test_the_same_draw_gives_the_same_mask():
    np.testing.assert_array_equal(draw(3), draw(3))
    assert (draw(3) != draw(4)).any()


def test_positions_are_the_numbers_of_hidden_patches_and_padding():
    mask = np.array([[0, 1, 0], [0, 0, 0], [1, 0, 1]], bool)
    positions = masked_positions(mask, 5)
    assert positions.dtype == np.int32 and positions.tolist() == [1, 6, 8, -1, -1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((224, 15, 75, 16), "config.model.image_size=224 must be a multiple"),
        ((16, 16, 1, 1), "at least the double"),
        ((64, 16, 16, 2), "config.data.num_masked=16 patches .* fewer than all 16"),
        ((64, 16, 6, 7), "config.data.min_block=7"),
        ((64, 16, 0, 1), "num_masked=0"),
    ],
)
def test_impossible_masks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_block_masking(*arguments)
