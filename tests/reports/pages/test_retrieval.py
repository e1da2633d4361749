"""The page of what captions and images find."""

import numpy as np
import pytest

from tests.reports.pictures import GREEN, count, pixels_of
from vlmo_jax.reports.pages.retrieval import retrieval_page


def draw_page(png, right, image_right, num_images=4):
    queries, found = right.shape
    retrieval_page(
        ["two $ signs cost $ a caption of many words that must be broken over lines"] * queries,
        np.full((queries, found, 16, 16, 3), 200, np.uint8),
        right,
        np.full((num_images, 16, 16, 3), 100, np.uint8),
        [["word"] * image_right.shape[1]] * num_images,
        image_right,
        png,
        title="drawings",
    )
    return pixels_of(png)


def test_right_images_have_a_green_frame(tmp_path):
    right, none = np.zeros((3, 5), bool), np.zeros((4, 5), bool)
    right[0, 2] = right[2, 4] = True
    one = right & (np.arange(3) == 0)[:, None]
    greens = [
        count(draw_page(tmp_path / "page.png", mask, none), GREEN)
        for mask in (none[:3], one, right)
    ]
    assert (
        greens[0] == 0 and greens[1] > 500 and greens[2] == pytest.approx(2 * greens[1], rel=0.02)
    )


def test_right_captions_are_green(tmp_path):
    none, some = np.zeros((3, 5), bool), np.zeros((4, 5), bool)
    some[1, 2] = True
    assert count(draw_page(tmp_path / "page.png", none, some), GREEN) > 20


def test_pages_without_images_or_captions_as_queries(tmp_path):
    both = draw_page(tmp_path / "page.png", np.zeros((3, 5), bool), np.zeros((4, 5), bool)).shape[0]
    no_images = draw_page(
        tmp_path / "page.png", np.zeros((3, 5), bool), np.zeros((0, 5), bool), num_images=0
    ).shape[0]
    no_captions = draw_page(
        tmp_path / "page.png", np.zeros((0, 5), bool), np.zeros((4, 5), bool)
    ).shape[0]
    assert max(no_images, no_captions) < both
