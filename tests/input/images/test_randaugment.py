import numpy as np
import pytest
from PIL import Image

from vlmo_jax.input.images import randaugment

GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")


def ramp():
    """Black to white from left to right in the middle half, on grey."""
    pixels = np.full((32, 32, 3), 128, np.uint8)
    pixels[8:24, 8:24] = np.linspace(0, 255, 16).astype(np.uint8)[None, :, None]
    return Image.fromarray(pixels)


def test_the_operations_are_those_of_the_official_model():
    assert set(randaugment.OPERATIONS) == {
        "identity",
        "auto_contrast",
        "equalize",
        "brightness",
        "sharpness",
        "shear_x",
        "shear_y",
        "translate_x",
        "translate_y",
        "rotate",
    }


@pytest.mark.parametrize("name", randaugment.OPERATIONS)
def test_no_operation_inverts_or_tints_and_all_keep_size_and_mode(name):
    for strength in (-1.0, -0.7, 0.0, 0.7, 1.0):
        image = randaugment.OPERATIONS[name](ramp(), strength, (255, 255, 255))
        assert image.mode == "RGB" and image.size == (32, 32)
        pixels = np.asarray(image).astype(int)
        assert (pixels == pixels[..., :1]).all(), "grey became coloured"
        if name not in GEOMETRIC:
            assert (np.diff(pixels[16, 9:23, 0]) >= 0).all(), "bright became dark"


@pytest.mark.parametrize("name", GEOMETRIC)
def test_uncovered_corners_have_the_fill_colour(name):
    black = Image.new("RGB", (32, 32))
    for fill in ((255, 255, 255), (10, 200, 30)):
        colours = {
            tuple(pixel)
            for pixel in (
                np.asarray(randaugment.OPERATIONS[name](black, 1.0, fill)).reshape(-1, 3).tolist()
            )
        }
        assert colours == {(0, 0, 0), fill}
    assert (
        np.asarray(randaugment.OPERATIONS[name](ramp(), 0.0, (255, 255, 255))) == np.asarray(ramp())
    ).all()


def test_strengths_are_the_official_ones():
    white = (
        np.asarray(
            randaugment.OPERATIONS["translate_x"](Image.new("RGB", (64, 64)), 0.7, (255, 255, 255))
        )[0, :, 0]
        == 255
    )
    assert white.sum() == 7
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    assert np.asarray(randaugment.OPERATIONS["brightness"](grey, -0.7, (0, 0, 0)))[0, 0, 0] == 136
    sheared = (
        np.asarray(
            randaugment.OPERATIONS["shear_x"](Image.new("RGB", (100, 100)), 0.7, (255, 255, 255))
        )[-1, :, 0]
        == 255
    )
    assert 20 <= sheared.sum() <= 22


def test_draws_are_reproducible_and_each_operation_is_applied_half_the_time(monkeypatch):
    calls = []
    operations = tuple(
        lambda image, strength, fill, name=name: calls.append((name, strength)) or image
        for name in randaugment.OPERATIONS
    )
    monkeypatch.setattr(randaugment, "_OPERATIONS", operations)
    for _ in range(2):
        rng = np.random.default_rng(0)
        for _ in range(2000):
            randaugment.rand_augment(ramp(), rng, num_ops=2, magnitude=7)
    assert calls[: len(calls) // 2] == calls[len(calls) // 2 :]
    names = [name for name, _ in calls[: len(calls) // 2]]
    assert abs(len(names) / 4000 - 0.5) < 0.03
    assert all(abs(names.count(name) / len(names) - 0.1) < 0.03 for name in randaugment.OPERATIONS)
    assert {strength for _, strength in calls} == {0.7, -0.7}
