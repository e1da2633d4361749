"""Greys and outlines."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.input.images.drawing_style import (
    check_share,
    draw_style,
    remove_colours,
    trace_outlines,
)


def _square() -> Image.Image:
    image = Image.new("RGB", (32, 32), (255, 230, 0))
    image.paste((0, 120, 255), (8, 8, 24, 24))
    return image


def test_outlines_are_dark_at_edges_and_white_elsewhere() -> None:
    pixels = np.asarray(trace_outlines(_square()))
    edge = np.zeros((32, 32), bool)
    edge[7:25, 7:25] = True
    edge[9:23, 9:23] = False
    assert (pixels[~edge] == 255).all() and (pixels[edge] == 0).all()


def test_outlines_are_the_same_for_any_two_colours_that_differ_as_much() -> None:
    light, dark = (Image.new("RGB", (16, 16), (level,) * 3) for level in (200, 20))
    light.paste((140, 140, 140), (4, 4, 12, 12))
    dark.paste((80, 80, 80), (4, 4, 12, 12))
    np.testing.assert_array_equal(
        np.asarray(trace_outlines(light)), np.asarray(trace_outlines(dark))
    )


def test_without_colours_the_channels_are_one() -> None:
    pixels = np.asarray(remove_colours(_square()))
    assert (pixels == pixels[..., :1]).all() and len(np.unique(pixels)) == 2


def test_the_shares_are_those_asked_for() -> None:
    rng, image = np.random.default_rng(0), _square()
    views = [np.asarray(draw_style(image, rng, grey=0.25, outlines=0.5)) for _ in range(400)]
    outlines = sum((view[0, 0] == 255).all() for view in views)
    greys = sum((view[0, 0, 0] == view[0, 0]).all() and view[0, 0, 0] < 255 for view in views)
    assert 160 < outlines < 240  # half, 4 deviations
    assert 25 < greys < 80  # a quarter of the other half


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="config.data.outlines"):
        check_share("outlines", share)
