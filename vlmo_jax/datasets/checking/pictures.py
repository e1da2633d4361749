"""By what a picture is known again: its pixels and its looks."""

import hashlib
from typing import NamedTuple

import numpy as np
import scipy.fft
from PIL import Image

from vlmo_jax.datasets import images

_SIDE = 32  # pixels of the small picture that looks are taken from
_LOW = 8  # of its frequencies, and of the sides of its colours
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


class Looks(NamedTuple):
    """What stays when a picture is compressed again or scaled.

    Attributes:
        waves: 64 bits: which of the 8 x 8 lowest frequencies of its grey are above their median.
        colours: uint8 [192]: the mean colours of 8 x 8 fields.
    """

    waves: int
    colours: bytes


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        pixels: digest of its size and pixels.
        looks: its looks.
    """

    pixels: bytes
    looks: Looks


def recognize(data: bytes) -> Picture:
    """Decodes an image file and returns by what the picture is known again.

    Args:
        data: the encoded file.

    Raises:
        BrokenImageError: as `images.decode_image`.
    """
    image = images.decode_image(data)
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=b"%dx%d" % image.size).digest()
    return Picture(digest, looks_of(image))


def looks_of(image: Image.Image) -> Looks:
    """Returns the looks of an RGB image."""
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float32)
    low = scipy.fft.dctn(small @ _GREY, norm="ortho")[:_LOW, :_LOW].ravel()
    bits = np.packbits(low > np.median(low[1:]))  # the first is the mean of the whole picture
    field = _SIDE // _LOW
    colours = small.reshape(_LOW, field, _LOW, field, 3).mean((1, 3))
    return Looks(int.from_bytes(bits.tobytes(), "big"), np.rint(colours).astype(np.uint8).tobytes())
