"""An image looked at by windows of one size, at several scales, mirrored or not: what is cut, and
how predictions for the windows become those of the image.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from vlmo_jax.evals.sliding_windows import Window, windows_over
from vlmo_jax.input.images.masked_views import resized_size
from vlmo_jax.layers.grids import linear_weights


@dataclasses.dataclass(frozen=True)
class Looking:
    """How images are looked at.

    Args:
        side: S, pixels of a window.
        stride: from each window to the next.
        scales: of the shorter side, in windows; below 1 it is still a window.
        flip: look at the mirror image of each, too.
    """

    side: int
    stride: int
    scales: Sequence[float] = (1.0,)
    flip: bool = False


class LookedAt:
    """One image, its windows, and what is predicted for them so far.

    Args:
        image: RGB.
        looking: how it is looked at.

    Attributes:
        size: (height, width).
        waiting: windows without a prediction.
    """

    def __init__(self, image: Image.Image, looking: Looking) -> None:
        self.size = image.size[::-1]
        self._image, self._side = image, looking.side
        mirrored = (False, True) if looking.flip else (False,)
        # A longer side has its limit, and no side is below a window.
        self._sizes = [self._resized(scale) for scale in looking.scales]
        self._places = [
            windows_over(size[::-1], (looking.side,) * 2, (looking.stride,) * 2)
            for size in self._sizes
        ]
        self._views = [(number, flip) for number in range(len(self._sizes)) for flip in mirrored]
        self._left = [len(self._places[number]) for number, _ in self._views]
        self._logits: dict[int, np.ndarray] = {}
        self._counts: dict[int, np.ndarray] = {}
        self._mean: np.ndarray | float = 0.0
        self.waiting = sum(self._left)

    def _resized(self, scale: float) -> tuple[int, int]:
        short = max(scale, 1.0) * self._side
        width, height = resized_size(*self._image.size, short)
        return max(width, self._side), max(height, self._side)

    def windows(self) -> Iterator[tuple[int, Window, np.ndarray]]:
        """Yields of each window the number of its view, its place, and its pixels uint8
        [S, S, 3].
        """
        for view, (number, flip) in enumerate(self._views):
            image = self._image.resize(self._sizes[number], Image.Resampling.BILINEAR)
            pixels = np.asarray(image)
            pixels = pixels[:, ::-1] if flip else pixels
            for place in self._places[number]:
                yield view, place, pixels[place.top : place.bottom, place.left : place.right]

    def add(self, view: int, place: Window, logits: np.ndarray) -> None:
        """Takes the prediction for a window: logits [h, w, K] float32 of any resolution."""
        number, flip = self._views[view]
        width, height = self._sizes[number]
        if view not in self._logits:
            self._logits[view] = np.zeros((height, width, logits.shape[-1]), np.float32)
            self._counts[view] = np.zeros((height, width, 1), np.float32)
        inside = slice(place.top, place.bottom), slice(place.left, place.right)
        self._logits[view][inside] += resized(logits, (self._side, self._side))
        self._counts[view][inside] += 1
        self._left[view] -= 1
        self.waiting -= 1
        if not self._left[view]:
            whole = self._logits.pop(view) / self._counts.pop(view)
            whole = whole[:, ::-1] if flip else whole
            whole = resized(whole, self.size)
            if len(self._views) > 1:
                whole = np.exp(whole - whole.max(axis=-1, keepdims=True))
                whole /= whole.sum(axis=-1, keepdims=True)
            self._mean = self._mean + whole / len(self._views)

    def classes(self) -> np.ndarray:
        """The likeliest class of each pixel at the size of the image, uint8 [height, width]; of
        several views by the mean of their probabilities.
        """
        assert not self.waiting
        return np.asarray(self._mean).argmax(axis=-1).astype(np.uint8)


def resized(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`grids.resize_bilinear` of one grid [h, w, C] on the host, float32."""
    if x.shape[:2] == tuple(size):
        return x
    rows, columns = map(linear_weights, x.shape[:2], size)
    y = (rows @ x.reshape(len(x), -1)).reshape(size[0], *x.shape[1:])
    return np.matmul(columns, y)
