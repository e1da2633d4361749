"""The page of texts with blanks."""

import pytest

from tests.reports.pictures import GREEN, count, pixels_of
from vlmo_jax.reports.pages.masked_text import fill_in_page


class Filled:
    """As `evals.masked_text.FillIn`."""

    def __init__(self, right):
        self.parts, self.answers = ["the $x", "sat on the mat"], ["cat"]
        self.guesses = [[("dog", 0.6), ("cat" if right else "hat", 0.2)]]


def test_right_words_in_a_page_of_blanks_are_green(tmp_path):
    green, widths = {}, {}
    for name, columns in {"none": [False], "one": [False, True], "both": [True, True]}.items():
        page = {f"column {i}": [Filled(right)] * 2 for i, right in enumerate(columns)}
        fill_in_page(page, tmp_path / "page.png", title="title")
        pixels = pixels_of(tmp_path / "page.png")
        green[name], widths[name] = count(pixels, GREEN), pixels.shape[1]
    assert (
        green["none"] == 0
        and green["one"] > 20
        and green["both"] == pytest.approx(2 * green["one"], rel=0.1)
    )
    assert widths["none"] < widths["one"] == widths["both"]
