"""The page of re-ranking: captions whose first image changes when the best are matched."""

import os
from collections.abc import Sequence

import numpy as np

from vlmo_jax.reports.canvas import GREY, HEAD, INK, MARGIN, Page, shorten

# The side of an image, the space between things, the width of the words beside it, in inches.
_CELL, _GAP, _WORDS = 0.95, 0.14, 2.1
_COLUMNS = 2


def reranking_page(
    captions: Sequence[str],
    images: np.ndarray,
    correct: np.ndarray,
    num_mended: int,
    num_spoiled: int,
    png: str | os.PathLike,
    *,
    title: str = "",
) -> None:
    """Draws captions with the image that vectors put first and the one after matching; the right
    one of each pair is green.

    Args:
        captions: [Q], at least one.
        images: uint8 [Q, 2, S, S, 3].
        correct: bool [Q, 2].
        num_mended, num_spoiled: captions of the whole split that matching turns from wrong to
            right, and back.
        png: the file to write.
        title: a line above all.
    """
    inner = _WORDS + 2 * (_CELL + _GAP)
    rows = -(-len(captions) // _COLUMNS)
    height = 2 * MARGIN + HEAD * (1 + bool(title)) + rows * (_CELL + _GAP)
    page = Page(2 * MARGIN + _COLUMNS * inner, height)
    top = page.title(title)
    said = (
        f"Caption, its first image by vectors, its first after matching: {num_mended:,} are right"
        f" after it alone, {num_spoiled:,} before it alone"
    )
    page.text(MARGIN, top + 0.06, said, fontsize=9, color=GREY)
    top += HEAD
    shown = zip(captions, images, correct, strict=True)
    for number, (caption, pair, right) in enumerate(shown):
        row, column = divmod(number, _COLUMNS)
        left, upper = MARGIN + column * inner, top + row * (_CELL + _GAP)
        text = shorten(caption, 90)
        page.text(left, upper + _CELL / 2, text, wrap=22, fontsize=10, color=INK, va="center")
        for place in range(2):
            start = left + _WORDS + place * (_CELL + _GAP)
            page.image(start, upper, _CELL, pair[place], bool(right[place]))
    page.save(png)
