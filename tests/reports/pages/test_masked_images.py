"""The page of images in their several forms."""

import numpy as np

from tests.reports.pictures import count, pixels_of
from vlmo_jax.reports.pages.masked_images import masked_images_page

RED, BLUE = (255, 0, 0), (0, 0, 255)


def form(color, rows, side):
    return np.broadcast_to(np.array(color, np.uint8), (rows, side, side, 3))


def test_every_form_of_an_image_is_shown_at_the_same_size(tmp_path):
    page = tmp_path / "page.png"
    shown = {}
    for rows in (1, 3):
        masked_images_page({"a": form(RED, rows, 8), "b": form(BLUE, rows, 32)}, page, title="t")
        pixels = pixels_of(page)
        red, blue = count(pixels, RED), count(pixels, BLUE)
        assert abs(red - blue) <= 0.02 * red
        shown[rows] = red
    assert abs(shown[3] - 3 * shown[1]) <= 0.02 * shown[3]
