"""Pictures that questions and statements are about: one drawing, or some on a sheet of paper."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets.images import decode_image

CELL = 64  # pixels a side, those of a drawing
SIDE = 2  # cells a side of a sheet
Place = tuple[int, int]  # row and column
PLACES: tuple[Place, ...] = tuple((row, column) for row in range(SIDE) for column in range(SIDE))
ALONE = (-1, -1)  # the place of a drawing that is the whole picture

WHITE = "white"
# Light enough to leave the colours of what is drawn on them.
PAPERS: Mapping[str, tuple[int, int, int]] = {
    WHITE: (255, 255, 255),
    "grey": (200, 200, 200),
    "red": (255, 170, 165),
    "orange": (255, 205, 140),
    "yellow": (255, 250, 150),
    "green": (165, 240, 165),
    "blue": (165, 200, 255),
    "purple": (215, 175, 255),
}


class Picture(NamedTuple):
    """A picture that is not drawn yet.

    Attributes:
        drawings: place on the sheet -> an encoded file, on white; other places stay empty. One
            drawing alone stands at ALONE, and is the whole picture.
        paper: a name of PAPERS.
    """

    drawings: Mapping[Place, bytes]
    paper: str = WHITE

    def encode(self) -> bytes:
        """Draws it: a sheet of 128 pixels a side, or a drawing alone, on white the same bytes."""
        alone = self.drawings.get(ALONE)
        if alone is not None:
            return alone if self.paper == WHITE else _encode(_pixels(alone), self.paper)
        canvas = np.full((SIDE * CELL, SIDE * CELL, 3), 255, np.uint8)
        for (row, column), drawing in self.drawings.items():
            top, left = row * CELL, column * CELL
            canvas[top : top + CELL, left : left + CELL] = _pixels(drawing)
        return _encode(canvas, self.paper)


def _pixels(drawing: bytes) -> np.ndarray:
    return np.asarray(decode_image(drawing))


def _encode(pixels: np.ndarray, paper: str) -> bytes:
    """A PPM file, which takes no time to write or read; white has the colour of the paper."""
    if paper != WHITE:
        factors = np.asarray(PAPERS[paper], np.uint16)
        pixels = (pixels * factors // 255).astype(np.uint8)
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
