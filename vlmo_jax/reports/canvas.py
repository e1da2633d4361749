"""What all pictures share: colours, figures, and pages that are measured in inches.

matplotlib is imported when the first picture is drawn, so that it does not slow the start of a run.
"""

import os
import textwrap
import unicodedata
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from vlmo_jax.reports.fonts import families_for

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, GREY, LIGHT, RIGHT = "#1f2937", "#6b7280", "#d1d5db", "#16a34a"
DPI = 110
MARGIN, HEAD = 0.3, 0.38  # around a page, and the height of a heading, in inches


def make_figure(width: float, height: float) -> "Figure":
    """A white figure of that many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def shorten(text: str, width: int, placeholder: str = " [...]") -> str:
    """A text of at most `width` letters, cut between words, or within one that is longer; letters
    of East Asia count twice.
    """
    short = textwrap.shorten(text, width, placeholder=placeholder)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    if not wide and short != placeholder.strip():
        return short
    text = " ".join(text.split())
    room = width - len(placeholder)
    if len(text) + wide <= width:
        return text
    end = 0
    while room > 0 and end < len(text):
        room -= 2 if unicodedata.east_asian_width(text[end]) in "WF" else 1
        end += 1
    return text[:end].rstrip() + placeholder


class Page:
    """A page on which things are put by their distance from its upper left corner, in inches.

    Args:
        width: in inches.
        height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self._figure, self._width, self._height = make_figure(width, height), width, height

    def text(
        self, left: float, top: float, text: str, *, wrap: int = 0, va: str = "top", **style: Any
    ) -> None:
        """Writes a text.

        Args:
            left: of the text.
            top: of the text, or what `va` says of it.
            text: what to write; dollar signs stay what they are.
            wrap: characters a line, 0 for one line.
            va: vertical alignment, as in matplotlib.
            **style: matplotlib's properties of text.
        """
        text = textwrap.fill(text, wrap) if wrap else text
        families = families_for(text)
        if len(families) > 1:
            style["family"] = families
        self._figure.text(
            left / self._width, 1 - top / self._height, text, va=va, parse_math=False, **style
        )

    def title(self, text: str) -> float:
        """Writes the title at the top of the page, if any; returns where the rest starts."""
        if not text:
            return MARGIN
        self.text(MARGIN, MARGIN, text, fontsize=11, color=INK, weight="bold")
        return MARGIN + HEAD

    def image(
        self, left: float, top: float, size: float, pixels: np.ndarray, right: bool = False
    ) -> None:
        """Draws an image.

        Args:
            left: of the image.
            top: of the image.
            size: its side.
            pixels: uint8 [S, S, 3].
            right: whether it is what was looked for, and gets a green frame.
        """
        box = (
            left / self._width,
            1 - (top + size) / self._height,
            size / self._width,
            size / self._height,
        )
        axis = self._figure.add_axes(box)
        interpolation = "lanczos" if pixels.shape[0] < size * DPI else "antialiased"
        axis.imshow(pixels, interpolation=interpolation, aspect="auto")
        axis.set(xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set(color=RIGHT if right else LIGHT, linewidth=3.5 if right else 0.8)

    def save(self, png: str | os.PathLike) -> None:
        """Writes the page to a file."""
        with warnings.catch_warnings():
            # `families_for` has said it once; this is said for every letter.
            warnings.filterwarnings("ignore", r"Glyph \d+.* missing from")
            self._figure.savefig(png, dpi=DPI)
