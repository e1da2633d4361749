"""Dense predictions for images that are larger than a model's input: averages over windows."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


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


def resized_logits(logits: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Logits at another height and width: bilinear, corners not aligned, not smoothed.

    Args:
        logits: [B, h, w, K].
        size: height H and width W.

    Returns:
        [B, H, W, K].

    Source: `torch.nn.functional.interpolate`, whose float32 places show in the fifth digit.
    """
    rows, columns = map(_linear_weights, logits.shape[1:3], size)
    return jnp.einsum("yh,xw,bhwk->byxk", rows, columns, logits, precision="highest")


def _linear_weights(size: int, new_size: int) -> np.ndarray:
    """Weights [new_size, size] of linear interpolation, float32; beyond the border stands what
    stands there.
    """
    scale = np.float64(np.float32(size) / np.float32(new_size))
    places = (scale * (np.arange(new_size) + 0.5) - 0.5).clip(0, size - 1).astype(np.float32)
    before = places.astype(np.int64)
    weights = np.zeros((new_size, size), np.float32)
    each = np.arange(new_size)
    weights[each, before] = 1 - (places - before)
    weights[each, np.minimum(before + 1, size - 1)] += places - before
    return weights
