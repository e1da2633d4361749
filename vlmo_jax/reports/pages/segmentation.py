"""The page of segmentation: images, their classes, and those that a model gives their pixels."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vlmo_jax.reports.canvas import GREY, INK
from vlmo_jax.reports.pages.reconstruction import code_colours

_GAP, _MARGIN, _LINE, _LEGEND = 6, 18, 22, 170  # in pixels
_NONE = (255, 255, 255)  # of what has no label


def segmentation_page(
    examples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    png: str | os.PathLike,
    *,
    title: str = "",
    columns: int = 3,
    cell: int = 128,
) -> None:
    """Draws images, their true classes and the predicted ones side by side, and what the colours
    mean.

    Args:
        examples: (image uint8 [h, w, 3], truth uint8 [h, w], prediction uint8 [h, w]); what is no
            class, such as pixels without a label, stays white.
        classes: names by number.
        png: the file to write.
        title: a line above all.
        columns: triples a row.
        cell: longest side of a drawn image in pixels.
    """
    colours = np.full((256, 3), _NONE, np.uint8)
    colours[: len(classes)] = code_colours(len(classes))
    columns = max(1, min(columns, len(examples)))
    triple, rows = 3 * (cell + _GAP), -(-len(examples) // columns)
    head = _MARGIN + 2 * _LINE
    used = _used(examples, len(classes))
    per_row = max(1, columns * (triple + _MARGIN) // _LEGEND)
    legend = head + rows * (cell + _GAP) + _LINE
    size = 2 * _MARGIN + columns * (triple + _MARGIN), legend + _LINE * -(-len(used) // per_row)
    page = Image.new("RGB", (size[0], size[1] + _MARGIN), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    draw.text((_MARGIN, _MARGIN - 6), title, fill=INK, font=ImageFont.load_default(18))
    for number, (image, truth, prediction) in enumerate(examples):
        row, column = divmod(number, columns)
        left, top = _MARGIN + column * (triple + _MARGIN), head + row * (cell + _GAP)
        forms = image, colours[truth], colours[prediction]
        for place, form in enumerate(forms):
            shown = Image.fromarray(np.ascontiguousarray(form))
            shown.thumbnail((cell, cell), Image.Resampling.NEAREST)
            at = left + place * (cell + _GAP)
            page.paste(shown, (at, top))
            if row == 0:
                name = ("image", "truth", "prediction")[place]
                draw.text((at, head - _LINE + 2), name, fill=GREY, font=font)
    for number, label in enumerate(used):
        row, column = divmod(number, per_row)
        left, top = _MARGIN + column * _LEGEND, legend + row * _LINE
        draw.rectangle((left, top + 3, left + 12, top + 15), fill=tuple(colours[label].tolist()))
        draw.text((left + 18, top), classes[label][:20], fill=INK, font=font)
    page.save(png)


def _used(
    examples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], num_classes: int
) -> list[int]:
    """The classes that are seen on the page."""
    seen = {int(n) for _, truth, prediction in examples for n in np.unique([truth, prediction])}
    return sorted(label for label in seen if label < num_classes)
