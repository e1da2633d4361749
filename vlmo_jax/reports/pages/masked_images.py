"""The page of masked image modelling: images in their several forms."""

import os
from collections.abc import Mapping

import numpy as np

from vlmo_jax.reports.canvas import GREY, HEAD, MARGIN, Page

_CELL, _GAP = 1.5, 0.15  # an image and the space after it, in inches


def masked_images_page(
    columns: Mapping[str, np.ndarray], png: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws images side by side in their several forms, a row each.

    Args:
        columns: what a form is -> uint8 [N, S, S, 3]; forms may differ in S.
        png: the file to write.
        title: a line above all.
    """
    rows, step = len(next(iter(columns.values()))), _CELL + _GAP
    headings = 2 if title else 1
    page = Page(2 * MARGIN + len(columns) * step - _GAP, 2 * MARGIN + HEAD * headings + rows * step)
    top = page.title(title)
    for column, (name, images) in enumerate(columns.items()):
        left = MARGIN + column * step
        page.text(left, top + 0.06, name, fontsize=7.5, color=GREY)
        for row, image in enumerate(images):
            page.image(left, top + HEAD + row * step, _CELL, image)
    page.save(png)
