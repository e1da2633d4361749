"""Dense predictions for images that are larger than a model's input: averages over windows."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Window(NamedTuple):
    """Pixels top <= y < bottom, left <= x < right."""

    top: int
    bottom: int
    left: int
    right: int


def windows_over(
    size: tuple[int, int], crop: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """The windows that cover an image, row by row; the last one of a row or column is shifted back
    to end where the image does.

    Args:
        size: height and width of the image.
        crop: of a window, which is smaller where the image is.
        stride: from each window to the next.

    Source: mmsegmentation 0.11, EncoderDecoder.slide_inference.
    """
    rows, columns = (_spans(*one) for one in zip(size, crop, stride, strict=True))
    return [Window(*row, *column) for row in rows for column in columns]


def _spans(size: int, crop: int, stride: int) -> list[tuple[int, int]]:
    count = -(-max(size - crop, 0) // stride) + 1
    ends = [min(number * stride + crop, size) for number in range(count)]
    return [(max(end - crop, 0), end) for end in ends]


def average_over_windows(
    predict: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    crop: tuple[int, int],
    stride: tuple[int, int],
) -> jax.Array:
    """Predicts each window, and averages at each pixel over the windows that hold it.

    Args:
        predict: images [B, h, w, C] -> logits [B, h, w, K].
        images: [B, H, W, C].
        crop, stride: as in `windows_over`.

    Returns:
        Logits [B, H, W, K] float32.

    Source: see `windows_over`.
    """
    height, width = images.shape[1:3]
    total: jax.Array | float = 0.0
    count = jnp.zeros((1, height, width, 1))
    for top, bottom, left, right in windows_over((height, width), crop, stride):
        logits = predict(images[:, top:bottom, left:right])
        around = ((0, 0), (top, height - bottom), (left, width - right), (0, 0))
        total += jnp.pad(logits.astype(jnp.float32), around)
        count = count.at[:, top:bottom, left:right].add(1)
    return total / count
