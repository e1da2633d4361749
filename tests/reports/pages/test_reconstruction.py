"""The page of reconstructions, and colours that tell codes apart."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.reports.pages.reconstruction import code_colours, reconstruction_page


@pytest.mark.parametrize("vocab_size", [1, 256, 8192])
def test_codes_have_colours_of_their_own(vocab_size):
    colours = code_colours(vocab_size)
    assert colours.shape == (vocab_size, 3) and colours.dtype == np.uint8
    assert len(np.unique(colours[:256], axis=0)) == min(vocab_size, 256)


def test_the_page_shows_images_codes_and_reconstructions(tmp_path):
    rng = np.random.default_rng(0)
    images, again = (rng.integers(0, 200, (5, 32, 32, 3), np.uint8) for _ in range(2))
    codes = rng.integers(0, 64, (5, 4, 4))
    reconstruction_page(
        images,
        codes,
        again,
        tmp_path / "page.png",
        vocab_size=64,
        psnr=[20.0] * 5,
        title="some split",
        columns=2,
        cell=96,
    )
    page = np.asarray(Image.open(tmp_path / "page.png"))
    found = {tuple(colour) for colour in page.reshape(-1, 3).tolist()}
    for pixels in (images, again, code_colours(64)[codes]):
        shown = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
        assert shown <= found  # cells are whole multiples of the image: no colour is mixed
    rows, columns = 3, 2
    assert page.shape[0] > rows * 96 and page.shape[1] > columns * 3 * 96
