"""The page of retrieval: what some captions and some images find."""

import os
from collections.abc import Sequence

import numpy as np

from vlmo_jax.reports.canvas import GREY, HEAD, INK, MARGIN, RIGHT, Page, shorten

# A small image, the space after it, and the width of a caption that is a query, in inches.
_CELL, _GAP, _LABEL = 0.86, 0.12, 2.1
_NARROWEST = 3.3  # what an image with the captions it finds needs, in inches


def retrieval_page(
    captions: Sequence[str],
    caption_images: np.ndarray,
    caption_correct: np.ndarray,
    images: np.ndarray,
    image_captions: Sequence[Sequence[str]],
    image_correct: np.ndarray,
    png: str | os.PathLike,
    *,
    title: str = "",
    caption_ranks: Sequence[float] = (),
    image_ranks: Sequence[float] = (),
) -> None:
    """Draws captions with the images they retrieve, and images with the captions they retrieve;
    right ones are green.

    Args:
        captions: [Q] captions as queries.
        caption_images: uint8 [Q, K, S, S, 3], best first.
        caption_correct: bool [Q, K].
        images: uint8 [R, S, S, 3] images as queries.
        image_captions: [R][L], best first.
        image_correct: bool [R, L].
        png: the file to write.
        title: a line above all.
        caption_ranks: [Q], from 1, of the best right image of each caption; (): not shown.
        image_ranks: [R], of the best right caption of each image; (): not shown.
    """
    num_images = caption_images.shape[1] if len(captions) else 5
    num_captions = image_correct.shape[1] if len(images) else 0
    inner = _LABEL + num_images * (_CELL + _GAP)
    per_row = max(1, int(inner // _NARROWEST))
    row_height = max(_CELL, 0.19 * num_captions)
    headings = bool(title) + bool(len(captions)) + bool(len(images))
    height = (
        2 * MARGIN
        + HEAD * headings
        + len(captions) * (_CELL + _GAP)
        + -(-len(images) // per_row) * (row_height + 2 * _GAP)
    )
    page = Page(2 * MARGIN + inner, height)
    top = page.title(title)
    if len(captions):
        top = _heading(page, top, "Caption, and the images it finds (best first)")
        shown = _describe_ranks(caption_ranks, len(captions))
        for caption, rank, found, correct in zip(
            captions, shown, caption_images, caption_correct, strict=True
        ):
            _draw_caption(page, top, caption, found, correct)
            page.text(MARGIN, top + _CELL + _GAP / 2, rank, fontsize=7, color=GREY, va="center")
            top += _CELL + _GAP
    if len(images):
        top = _heading(page, top + _GAP, "Image, and the captions it finds (best first)")
        shown = _describe_ranks(image_ranks, len(images))
        queries = zip(images, image_captions, image_correct, shown, strict=True)
        for number, (image, words, correct, rank) in enumerate(queries):
            row, column = divmod(number, per_row)
            left, upper = MARGIN + column * inner / per_row, top + row * (row_height + 2 * _GAP)
            _draw_image(page, left, upper, row_height, image, words, correct)
            below = upper + (row_height + _CELL) / 2 + _GAP
            page.text(left, below, rank, fontsize=7, color=GREY, va="center")
    page.save(png)


def _describe_ranks(ranks: Sequence[float], count: int) -> list[str]:
    """Hit or miss, and where the best right one comes; nothing where no ranks are known."""
    if not len(ranks):
        return [""] * count
    return ["hit" if r < 2 else f"miss: the right one is no. {round(r):,}" for r in ranks]


def _heading(page: Page, top: float, text: str) -> float:
    page.text(MARGIN, top + 0.06, text, fontsize=9, color=GREY)
    return top + HEAD


def _draw_caption(
    page: Page, top: float, caption: str, images: np.ndarray, correct: np.ndarray
) -> None:
    """A caption and the images [K, S, S, 3] that it finds."""
    text = shorten(caption, 110)
    page.text(MARGIN, top + _CELL / 2, text, wrap=25, fontsize=10, color=INK, va="center")
    for place, (image, right) in enumerate(zip(images, correct, strict=True)):
        page.image(MARGIN + _LABEL + place * (_CELL + _GAP), top, _CELL, image, right)


def _draw_image(
    page: Page,
    left: float,
    top: float,
    height: float,
    image: np.ndarray,
    captions: Sequence[str],
    correct: np.ndarray,
) -> None:
    """An image [S, S, 3] and, in lines over the height, the captions that it finds."""
    page.image(left, top + (height - _CELL) / 2, _CELL, image)
    for line, (caption, right) in enumerate(zip(captions, correct, strict=True)):
        text = shorten(caption, 34, placeholder="…")
        page.text(
            left + _CELL + 0.15,
            top + (line + 0.5) * height / len(captions),
            f"✓ {text}" if right else text,
            fontsize=8.5,
            va="center",
            color=RIGHT if right else GREY,
            weight="bold" if right else "normal",
        )
