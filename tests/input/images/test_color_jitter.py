"""Colour jitter: what each strength may change, and how far."""

import numpy as np
from PIL import Image

from vlmo_jax.input.images.color_jitter import color_jitter

RED = Image.new("RGB", (4, 4), (200, 40, 40))


def jitter(strengths, seed=0, image=RED):
    return np.asarray(color_jitter(image, np.random.default_rng(seed), strengths=strengths)).astype(
        int
    )


def test_no_strength_changes_nothing():
    assert np.array_equal(jitter((0, 0, 0, 0)), np.asarray(RED))


def test_brightness_stays_in_its_range():
    levels = np.array([jitter((0.4, 0, 0, 0), seed)[0, 0, 0] / 200 for seed in range(200)])
    assert (
        0.59 < levels.min() < 0.65 and 1.2 < levels.max() <= 1.28
    )  # 255 / 200 is the most there can be


def test_saturation_keeps_grey_grey():
    grey = Image.new("RGB", (4, 4), (90, 90, 90))
    assert all(
        np.array_equal(jitter((0, 0, 0.9, 0), seed, grey), np.asarray(grey)) for seed in range(20)
    )


def test_hue_turns_red_to_other_colours_and_keeps_white_white():
    pixels = np.array([jitter((0, 0, 0, 0.5), seed)[0, 0] for seed in range(100)])
    assert {0, 1, 2} == set(pixels.argmax(axis=1))
    white = Image.new("RGB", (4, 4), (255, 255, 255))
    assert np.array_equal(jitter((0, 0, 0, 0.5), 3, white), np.asarray(white))


def test_the_same_draw_gives_the_same_picture():
    assert np.array_equal(jitter((0.4, 0.4, 0.4, 0.1), 5), jitter((0.4, 0.4, 0.4, 0.1), 5))
    assert not np.array_equal(jitter((0.4, 0.4, 0.4, 0.1), 5), jitter((0.4, 0.4, 0.4, 0.1), 6))
