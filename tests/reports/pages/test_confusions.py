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
