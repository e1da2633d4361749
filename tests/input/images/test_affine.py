"""Rotation, zoom and shift."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.input.images.affine import check_affine, random_affine

WHITE, RED = (255, 255, 255), (255, 0, 0)


def _square() -> Image.Image:
    """A red square of 16 pixels in the middle of 64, on blue."""
    image = Image.new("RGB", (64, 64), (0, 0, 255))
    image.paste(RED, (24, 24, 40, 40))
    return image


def _red(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(int)
    return np.argwhere((pixels[..., 0] > 127) & (pixels[..., 1] < 128) & (pixels[..., 2] < 128))


def test_no_strength_changes_nothing() -> None:
    image = _square()
    same = random_affine(image, np.random.default_rng(0), strengths=(0, 1, 0), fill=WHITE)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(image))


def test_zoom_shrinks_the_picture_about_its_centre_and_fills_the_border() -> None:
    sizes = []
    for seed in range(50):
        view = random_affine(
            _square(), np.random.default_rng(seed), strengths=(0, 2, 0), fill=WHITE
        )
        red = _red(view)
        np.testing.assert_allclose(red.mean(0), 31.5, atol=0.75)
        sizes.append(np.sqrt(len(red)))
        if sizes[-1] < 14:
            assert np.asarray(view)[0, 0].tolist() == list(WHITE)
    assert 7 <= min(sizes) < 9.5 and 14.5 < max(sizes) <= 16


def test_shift_moves_the_picture_both_ways_within_its_share() -> None:
    centres = np.array(
        [
            _red(
                random_affine(
                    _square(), np.random.default_rng(seed), strengths=(0, 1, 0.25), fill=WHITE
                )
            ).mean(0)
            for seed in range(50)
        ]
    )
    assert (np.abs(centres - 31.5) <= 16.5).all()
    assert (centres.min(0) < 22).all() and (centres.max(0) > 41).all()


def test_rotation_keeps_centre_and_area() -> None:
    image = Image.new("RGB", (64, 64), WHITE)
    image.paste(RED, (8, 28, 56, 36))
    lengths = []
    for seed in range(30):
        red = _red(
            random_affine(image, np.random.default_rng(seed), strengths=(90, 1, 0), fill=WHITE)
        )
        np.testing.assert_allclose(red.mean(0), 31.5, atol=0.75)
        assert abs(len(red) - 48 * 8) < 40
        lengths.append(np.ptp(red[:, 0]))
    assert min(lengths) < 16 and max(lengths) > 40


@pytest.mark.parametrize("strengths", [(15,), (200, 1.2, 0.1), (15, 0.5, 0.1), (15, 1.2, 2)])
def test_impossible_strengths_are_refused(strengths: tuple) -> None:
    with pytest.raises(ConfigError, match="config.data.affine"):
        check_affine(strengths)
