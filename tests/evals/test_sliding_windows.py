"""Predictions by windows, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from vlmo_jax.evals.sliding_windows import average_over_windows, windows_over
from vlmo_jax.layers.grids import resize_bilinear


@pytest.mark.parametrize(
    "width, expected",
    [
        (3, [(0, 3)]),
        (4, [(0, 4)]),
        (5, [(0, 4), (1, 5)]),
        (7, [(0, 4), (3, 7)]),
        (8, [(0, 4), (3, 7), (4, 8)]),
    ],
)
def test_the_last_window_ends_where_the_image_does(width, expected):
    windows = windows_over((2, width), (4, 4), (3, 3))
    assert [window[2:] for window in windows] == expected
    assert all(window[:2] == (0, 2) for window in windows)


def test_each_pixel_has_the_mean_of_its_windows():
    """Each window predicts the position of its left edge."""
    images = jnp.arange(5.0)[None, None, :, None] * jnp.ones((1, 2, 1, 1))
    logits = average_over_windows(lambda crop: crop * 0 + crop[:, :1, :1], images, (2, 4), (1, 1))
    np.testing.assert_array_equal(logits[0, :, :, 0], [[0, 0.5, 0.5, 0.5, 1]] * 2)


def test_resizing_interpolates_between_centres():
    line = jnp.array([0.0, 4.0])[None, None, :, None]
    np.testing.assert_allclose(resize_bilinear(line, (1, 4))[0, 0, :, 0], [0, 1, 3, 4])
    np.testing.assert_allclose(resize_bilinear(line, (3, 1))[0, :, 0, 0], [2, 2, 2])
    np.testing.assert_array_equal(resize_bilinear(line, (1, 2)), line)
