"""The page of records of a data set: pictures with what is said about them."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from vlmo_jax.reports.canvas import GREY, HEAD, INK, MARGIN, Page, shorten

_CELL, _GAP, _WORDS = 1.3, 0.15, 0.75  # an image, the space after it, and below it, in inches
_WRAP, _LETTERS = 24, 96


def records_page(
    splits: Mapping[str, Sequence[tuple[Sequence[np.ndarray], str]]],
    png: str | os.PathLike,
    *,
    title: str = "",
) -> None:
    """Draws records side by side, a row a split.

    Args:
        splits: heading of a split -> its records: one or several uint8 [S, S, 3], and a text.
        png: the file to write.
        title: a line above all.
    """
    wide = [sum(max(1, len(images)) for images, _ in members) for members in splits.values()]
    height = HEAD + _CELL + _WORDS
    headings = HEAD if title else 0
    page = Page(
        2 * MARGIN + max(wide) * (_CELL + _GAP) - _GAP, 2 * MARGIN + headings + len(wide) * height
    )
    top = page.title(title)
    for heading, members in splits.items():
        page.text(MARGIN, top + 0.06, heading, fontsize=8.5, color=INK, weight="bold")
        left = MARGIN
        for images, text in members:
            for i, image in enumerate(images):
                page.image(left + i * _CELL, top + HEAD, _CELL, image)
            wrap, letters = _WRAP * len(images), _LETTERS * len(images)
            page.text(
                left,
                top + HEAD + _CELL + 0.05,
                shorten(text, letters),
                wrap=wrap,
                fontsize=6.5,
                color=GREY,
            )
            left += len(images) * (_CELL + _GAP)
        top += height
    page.save(png)
