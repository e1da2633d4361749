"""Views of images and masks: the same geometry for both."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.masks import IGNORED
from vlmo_jax.input.images.masked_views import MaskedViews, distort, resized_size

VALUES = np.random.default_rng(0).integers(1, 9, (6, 9)).astype(np.uint8)
MASK = np.kron(VALUES, np.ones((8, 8), np.uint8))
IMAGE = Image.fromarray(np.repeat(MASK[..., None] * 20, 3, axis=-1))


def test_pixels_keep_their_classes():
    views = MaskedViews((0.75, 2.0), 1.0, flip=True, distortion=False, fill=(1, 2, 3))
    for seed in range(20):
        image, mask = views.view(IMAGE, MASK, 40, np.random.default_rng(seed))
        outside = mask == IGNORED
        assert (image[outside] == (1, 2, 3)).all()
        same = np.abs(image[..., 0].astype(int) - 20 * mask) <= 10
        assert same[~outside].mean() > 0.75  # but between blocks, which are smoothed
        assert set(np.unique(mask)) <= {*range(1, 9), IGNORED}
    draws = [views.view(IMAGE, MASK, 40, np.random.default_rng(3)) for _ in range(2)]
    np.testing.assert_array_equal(*(mask for _, mask in draws))


def test_what_an_image_does_not_fill_is_ignored():
    views = MaskedViews((0.5, 0.5), 1.0, flip=False, distortion=False)
    _, mask = views.view(IMAGE, MASK, 48, np.random.default_rng(0))
    assert (mask[24:] == IGNORED).all() and (mask[:24, :36] != IGNORED).all()


def test_no_class_covers_too_much_where_others_are_near():
    mask = np.zeros((20, 80), np.uint8)
    mask[:, 70:] = 1
    image = Image.fromarray(np.zeros((20, 80, 3), np.uint8))
    seen = {}
    for share in (0.75, 1.0):
        views = MaskedViews((1.0, 1.0), share, flip=False, distortion=False)
        draws = [views.view(image, mask, 20, np.random.default_rng(n))[1] for n in range(100)]
        seen[share] = sum((draw == 1).mean() > 0.25 for draw in draws)
    assert seen[0.75] > seen[1.0] + 10


def test_sizes_keep_the_shape_and_end_at_four_times_the_shorter():
    assert resized_size(683, 512, 256) == (342, 256)
    assert resized_size(5000, 500, 512) == (2048, 205)


def test_distortion_changes_colours_alone():
    pixels = np.asarray(IMAGE).copy()
    pixels[..., 1] //= 2
    results = [distort(pixels, np.random.default_rng(seed)) for seed in range(8)]
    assert all(r.shape == pixels.shape and r.dtype == np.uint8 for r in results)
    assert sum((r != pixels).any() for r in results) >= 5


@pytest.mark.parametrize("resize, share", [((2.0, 1.0), 0.5), ((1.0, 2.0), 0.0)])
def test_impossible_numbers_are_refused(resize, share):
    with pytest.raises(ConfigError, match="config.data"):
        MaskedViews(resize, share)
