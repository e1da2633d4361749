"""One picture of several runs: their pages below each other, each run with a line of words."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _MARGIN, _LINE, _TEXT = 1400, 24, 44, 24
_INK, _PAPER, _RULE = (31, 41, 55), (255, 255, 255), (209, 213, 219)


class Section(NamedTuple):
    """A line of words and the picture files below it."""

    title: str
    pages: Sequence[str | os.PathLike]


def summary_page(sections: Sequence[Section], png: str | os.PathLike) -> None:
    """Draws the sections below each other.

    Args:
        sections: what to show; pictures are scaled to the width of the page, small ones are left as
            they are.
        png: the file to write.

    Raises:
        FileNotFoundError: a picture is missing.
    """
    pages = [[_fit(page) for page in section.pages] for section in sections]
    height = _MARGIN + sum(
        _LINE + _MARGIN + sum(page.height + _MARGIN for page in shown) for shown in pages
    )
    canvas = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(_TEXT), _MARGIN
    for section, shown in zip(sections, pages, strict=True):
        draw.line((_MARGIN, top, _WIDTH - _MARGIN, top), fill=_RULE)
        draw.text((_MARGIN, top + (_LINE - _TEXT) // 2), section.title, fill=_INK, font=font)
        top += _LINE + _MARGIN
        for page in shown:
            canvas.paste(page, (_MARGIN, top))
            top += page.height + _MARGIN
    canvas.save(png)


def _fit(path: str | os.PathLike) -> Image.Image:
    """A picture in RGB, no wider than the page."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    width = _WIDTH - 2 * _MARGIN
    if picture.width <= width:
        return picture
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
