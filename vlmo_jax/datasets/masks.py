"""Masks: pictures whose pixels are numbers of classes, which no conversion may touch."""

import io

import numpy as np
from PIL import Image

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.images import FORMATS

IGNORED = 255  # label of pixels that do not count
_WHOLE = ("1", "L", "P")  # modes whose pixels are numbers below 256


class BrokenMaskError(DataError):
    """The bytes are no mask."""


def decode_mask(data: bytes) -> np.ndarray:
    """Decodes a mask: grey values or places in the palette as they stand, uint8 [H, W].

    Args:
        data: the encoded file, of 8 bits, or of 16 where no value is above 255.

    Raises:
        BrokenMaskError: it is damaged, or has colours, or larger values.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            mode, pixels = image.mode, np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:
        raise BrokenMaskError(
            f"the mask cannot be read: {type(error).__name__}: {error}"
        ) from error
    if mode in _WHOLE:
        return pixels.astype(np.uint8)
    if mode == "I" or mode.startswith("I;16"):
        largest = int(pixels.max(initial=0))
        if largest <= IGNORED:
            return pixels.astype(np.uint8)
        raise BrokenMaskError(f"the mask has label {largest}; labels are 0 to 255")
    raise BrokenMaskError(
        f"the mask has pixels of mode {mode}, not numbers of classes; save it as a PNG of grey"
        " values or with a palette"
    )


def without_other(labels: np.ndarray) -> np.ndarray:
    """Labels of SceneParse150's files (ADE20K), 0 "other" and classes from 1, as classes from 0,
    with `IGNORED` for "other"; same shape, uint8.
    """
    nothing = (labels == 0) | (labels == IGNORED)
    return np.where(nothing, IGNORED, labels.astype(np.int64) - 1).astype(np.uint8)


def read_classes_of_mask(data: bytes, num_classes: int, *, zero_is_other: bool) -> np.ndarray:
    """A mask with classes 0 to K - 1 and `IGNORED`, uint8 [H, W].

    Args:
        data: the encoded file.
        num_classes: K.
        zero_is_other: label 0 is ignored, and the others are one less.

    Raises:
        BrokenMaskError: it cannot be read, or has another label.
    """
    mask = decode_mask(data)
    mask = without_other(mask) if zero_is_other else mask
    known = (mask < num_classes) | (mask == IGNORED)
    if not known.all():
        label = int(mask[~known][0]) + zero_is_other
        allowed = f"{int(zero_is_other)} to {num_classes - 1 + zero_is_other}"
        raise BrokenMaskError(f"the mask has label {label}, and the classes are {allowed}")
    return mask
