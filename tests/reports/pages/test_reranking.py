"""The page of re-ranking."""

import numpy as np

from tests.reports.pictures import GREEN, count, pixels_of
from vlmo_jax.reports.pages.reranking import reranking_page


def draw(png, correct):
    images = np.full((len(correct), 2, 16, 16, 3), 200, np.uint8)
    captions = ["a $ caption of $ many words that goes on and on"] * len(correct)
    reranking_page(captions, images, np.array(correct), 3, 1, png, title="drawings")
    return pixels_of(png)


def test_the_right_one_of_each_pair_is_green(tmp_path):
    none, one, two = (
        draw(tmp_path / "page.png", [[False, first], [False, second]])
        for first, second in ((False, False), (False, True), (True, True))
    )
    greens = [count(page, GREEN) for page in (none, one, two)]
    assert greens[0] == 0 and 0 < 1.9 * greens[1] < greens[2]


def test_captions_stand_two_in_a_row(tmp_path):
    heights = [draw(tmp_path / "page.png", [[True, False]] * n).shape[0] for n in (1, 2, 3)]
    assert heights[0] == heights[1] < heights[2]
