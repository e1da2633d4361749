"""The page of a visual tokenizer: images, their codes as colours, and what the codes give back."""

import colorsys
import math
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlmo_jax.reports.canvas import GREY, INK

_GAP, _MARGIN, _LINE = 6, 18, 26  # in pixels
_GOLDEN = (math.sqrt(5) - 1) / 2  # multiples of it, modulo 1, spread evenly however many there are


def code_colours(vocab_size: int) -> np.ndarray:
    """Colours that tell codes apart, uint8 [V, 3]: hues by the golden ratio, lightness in four
    steps.
    """
    colours = [
        colorsys.hls_to_rgb(code * _GOLDEN % 1, 0.3 + 0.15 * (code % 4), 0.75)
        for code in range(vocab_size)
    ]
    return np.round(255 * np.array(colours)).astype(np.uint8)


def reconstruction_page(
    images: np.ndarray,
    codes: np.ndarray,
    reconstructions: np.ndarray,
    png: str | os.PathLike,
    *,
    vocab_size: int,
    psnr: Sequence[float],
    title: str = "",
    columns: int = 4,
    cell: int = 96,
) -> None:
    """Draws images, their codes and their reconstructions side by side, in several columns.

    Args:
        images: uint8 [N, S, S, 3].
        codes: int [N, h, w].
        reconstructions: uint8 [N, S, S, 3].
        png: the file to write.
        vocab_size: V, number of codes.
        psnr: [N], in decibels, written beside each.
        title: a line above all.
        columns: triples a row.
        cell: side of a drawn image in pixels.
    """
    colours = code_colours(vocab_size)
    triple, row_height = 3 * (cell + _GAP), cell + _LINE
    columns = max(1, min(columns, len(images)))
    head = _MARGIN + _LINE * (2 if title else 1)
    width = 2 * _MARGIN + columns * triple + (columns - 1) * _MARGIN
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (width, head + rows * row_height + _MARGIN), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    if title:
        draw.text((_MARGIN, _MARGIN - 6), title, fill=INK, font=ImageFont.load_default(18))
    for column in range(columns):
        for place, name in enumerate(("image", "codes", "from codes")):
            left = _MARGIN + column * (triple + _MARGIN) + place * (cell + _GAP)
            draw.text((left, head - _LINE + 4), name, fill=GREY, font=font)
    for number, (image, grid, again) in enumerate(zip(images, codes, reconstructions, strict=True)):
        row, column = divmod(number, columns)
        left, top = _MARGIN + column * (triple + _MARGIN), head + row * row_height
        forms = _resized(image, cell), _in_blocks(colours[grid], cell), _resized(again, cell)
        for place, form in enumerate(forms):
            page.paste(form, (left + place * (cell + _GAP), top))
        below = (left + 2 * (cell + _GAP), top + cell + 2)
        draw.text(below, f"{psnr[number]:.1f} dB", fill=GREY, font=font)
    page.save(png)


def _resized(pixels: np.ndarray, side: int) -> Image.Image:
    """An image [S, S, 3] of another side; no colour is mixed where S divides it."""
    if side % len(pixels) == 0:
        return _in_blocks(pixels, side)
    return _as_image(pixels).resize((side, side), Image.Resampling.BICUBIC)


def _in_blocks(pixels: np.ndarray, side: int) -> Image.Image:
    """An image [S, S, 3] of another side in which every pixel is a block of one colour."""
    return _as_image(pixels).resize((side, side), Image.Resampling.NEAREST)


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels, np.uint8))
