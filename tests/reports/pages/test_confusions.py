"""The page of a classification is drawn, with many classes and with empty ones."""

import numpy as np
from PIL import Image

from vlmo_jax.reports.pages.confusions import confusions_page


def test_a_page_of_the_most_frequent_classes(tmp_path):
    confusion = np.random.default_rng(0).integers(0, 9, (40, 40))
    confusion[3] = 0
    confusions_page([f"class {n}" for n in range(40)], confusion, tmp_path / "a.png", title="x")
    confusions_page(["a", "b"], np.array([[3, 1], [0, 0]]), tmp_path / "b.png")
    large, small = (Image.open(tmp_path / f"{name}.png").size for name in "ab")
    assert large[0] > small[0] and large[1] > small[1]


def test_what_images_are_taken_for_is_shown_though_no_image_is_of_it(tmp_path):
    sizes = []
    for taken_for_b in (0, 1):
        page = tmp_path / f"{taken_for_b}.png"
        confusions_page(["a", "b"], np.array([[3, taken_for_b], [0, 0]]), page)
        sizes.append(Image.open(page).size)
    assert sizes[1][0] > sizes[0][0] and sizes[1][1] == sizes[0][1]
