"""The page of hits and misses."""

import numpy as np

from tests.reports.pictures import GREEN, count, pixels_of
from vlmo_jax.reports.pages.hits_and_misses import Shown, choose, hits_and_misses_page


def draw(png, rights, images=1):
    picture = np.full((16, 16, 3), 200, np.uint8)
    examples = [
        Shown(
            [picture] * images, "a $ question of $ many words that goes on and on", "yes", "no", r
        )
        for r in rights
    ]
    hits_and_misses_page(examples, png, title="drawings")
    return pixels_of(png)


def test_hits_are_green(tmp_path):
    greens = [
        count(draw(tmp_path / "page.png", rights), GREEN)
        for rights in (
            [False] * 4,
            [None] * 4,
            [True, False, False, False],
            [True, True, False, False],
        )
    ]
    assert greens[0] == greens[1] == 0 and 0 < 1.9 * greens[2] < greens[3]


def test_two_images_take_their_place(tmp_path):
    one, two = (draw(tmp_path / "page.png", [True] * 3, images).shape for images in (1, 2))
    assert one[0] == two[0] and one[1] < two[1]


def test_hits_and_misses_are_spread_over_the_split():
    right = [True] * 90 + [False] * 10
    rows = choose(right)
    assert rows[:8] == [n * 90 // 8 for n in range(8)] and rows[8:] == [
        90 + n * 10 // 8 for n in range(8)
    ]
    assert choose([True, False]) == [0, 1] and choose([None] * 5) == [0, 1, 2, 3, 4]
