"""Mixup and CutMix, by hand."""

import numpy as np
import pytest

from vlmo_jax.input.images.mixup import (
    Box,
    Mix,
    cut_box,
    mix_batch,
    share_outside,
    smoothed_targets,
)


@pytest.mark.parametrize(
    "centre, whole, expected",
    [
        ((5, 5), True, Box(3, 8, 3, 8)),
        ((5, 5), False, Box(3, 7, 3, 7)),
        ((0, 9), True, Box(0, 3, 7, 10)),
    ],
)
def test_a_quarter_is_cut_as_far_as_it_lies_inside(centre, whole, expected):
    assert cut_box((10, 10), 0.75, centre, whole_odd_sides=whole) == expected


def test_what_is_left_is_counted():
    assert share_outside(Box(0, 3, 7, 10), (10, 10)) == 0.91
    assert share_outside(Box(4, 4, 2, 8), (10, 10)) == 1.0


def test_smoothing_leaves_sums_at_one():
    np.testing.assert_allclose(
        smoothed_targets(np.array([1, 0]), 4, 0.2),
        [[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]],
        rtol=1e-6,
    )


def test_each_image_takes_from_its_unmixed_partner():
    images = np.arange(4, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 1), np.float32)
    before = images.copy()
    mixes = [Mix(0.25), Mix(0.75, Box(0, 1, 0, 1)), Mix(1.0), Mix(0.5)]
    mixed, targets = mix_batch(images, np.eye(4, dtype=np.float32), mixes)
    np.testing.assert_array_equal(mixed[0], np.full((2, 2, 1), 0.75 * 3))
    np.testing.assert_array_equal(mixed[1, ..., 0], [[2, 1], [1, 1]])
    np.testing.assert_array_equal(mixed[2], images[2])
    np.testing.assert_array_equal(mixed[3], np.full((2, 2, 1), 1.5))
    np.testing.assert_array_equal(
        targets, [[0.25, 0, 0, 0.75], [0, 0.75, 0.25, 0], [0, 0, 1, 0], [0.5, 0, 0, 0.5]]
    )
    np.testing.assert_array_equal(images, before)


def test_one_mix_an_image_is_asked_for():
    with pytest.raises(ValueError, match="1 mixes for 2 images"):
        mix_batch(np.zeros((2, 2, 2, 1)), np.zeros((2, 3)), [Mix(0.5)])
