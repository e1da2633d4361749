"""The page of questions and statements: what a model says of some images, right and wrong."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vlmo_jax.reports.canvas import GREY, HEAD, INK, MARGIN, RIGHT, Page, shorten

# The side of an image, the space between things, the width of the words beside it, in inches.
_CELL, _GAP, _WORDS = 0.95, 0.14, 2.35
_COLUMNS = 2


class Shown(NamedTuple):
    """One example.

    Attributes:
        images: uint8 [S, S, 3], one or two.
        text: the question, or the statement.
        said: of the model.
        truth: of people, "" where it is not known.
        right: whether the model is; None where it is not known.
    """

    images: Sequence[np.ndarray]
    text: str
    said: str
    truth: str
    right: bool | None


def choose(right: Sequence[bool | None], each: int = 8) -> list[int]:
    """Which examples of a split are shown: up to `each` hits and as many misses, evenly spread, the
    hits first; of a split without truth twice as many.
    """
    hits, misses, unknown = (
        [row for row, value in enumerate(right) if value is wanted]
        for wanted in (True, False, None)
    )
    return _spread(hits, each) + _spread(misses, each) or _spread(unknown, 2 * each)


def _spread(rows: list[int], count: int) -> list[int]:
    if len(rows) <= count:
        return rows
    return [rows[place * len(rows) // count] for place in range(count)]


def hits_and_misses_page(
    examples: Sequence[Shown], png: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws examples with what the model says; right answers are green.

    Args:
        examples: at least one, as many images each.
        png: the file to write.
        title: a line above all.
    """
    width = _WORDS + len(examples[0].images) * (_CELL + _GAP)
    blocks = {
        "Right": [one for one in examples if one.right],
        "Wrong, and what people say": [one for one in examples if one.right is False],
        "What the model says": [one for one in examples if one.right is None],
    }
    blocks = {heading: block for heading, block in blocks.items() if block}
    lines = sum(-(-len(block) // _COLUMNS) for block in blocks.values())
    height = 2 * MARGIN + HEAD * (len(blocks) + bool(title)) + lines * (_CELL + _GAP)
    page = Page(2 * MARGIN + _COLUMNS * width, height)
    top = page.title(title)
    for heading, block in blocks.items():
        page.text(MARGIN, top + 0.06, heading, fontsize=9, color=GREY)
        top += HEAD
        for number, example in enumerate(block):
            line, column = divmod(number, _COLUMNS)
            _draw(page, MARGIN + column * width, top + line * (_CELL + _GAP), example)
        top += -(-len(block) // _COLUMNS) * (_CELL + _GAP)
    page.save(png)


def _draw(page: Page, left: float, top: float, example: Shown) -> None:
    """The images of an example and the words beside them."""
    for image in example.images:
        page.image(left, top, _CELL, image, bool(example.right))
        left += _CELL + _GAP
    text = shorten(example.text, 90, placeholder="…")
    page.text(left, top, text, wrap=31, fontsize=9, color=INK)
    said = shorten(example.said, 28, placeholder="…")
    color, weight = (RIGHT, "bold") if example.right else (INK, "normal")
    page.text(left, top + 0.58, said, fontsize=9, color=color, weight=weight)
    if example.truth and not example.right:
        truth = shorten(example.truth, 24, placeholder="…")
        page.text(left, top + 0.77, f"people: {truth}", fontsize=8.5, color=GREY)
