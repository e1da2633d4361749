"""The one decoder of image files: what training and evaluation can read is what building, checking
and measuring data sets let pass.
"""

import io
import math
import re
import struct
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vlmo_jax.datasets.contents import describe_contents
from vlmo_jax.datasets.errors import DataError

WHITE = (255, 255, 255)

# Naming the formats keeps Pillow from trying forty readers on each file, and from starting
# Ghostscript on a stray .eps.
_WANTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF")
Image.init()
FORMATS = tuple(name for name in _WANTED_FORMATS if name in Image.OPEN)


class BrokenImageError(DataError):
    """The bytes are no image that can be decoded."""


def decode_image(data: bytes, *, min_pixels: float | None = None) -> Image.Image:
    """Decodes an image file to RGB, upright as its EXIF orientation says and laid over white where
    it is transparent.

    Args:
        data: the encoded file, in one of `FORMATS`; of an animation the first frame is taken.
        min_pixels: pixels below which a JPEG must not be shrunk; given, its decoder may drop to
            1/2, 1/4 or 1/8 a side.

    Returns:
        An image of mode "RGB".

    Raises:
        BrokenImageError: the file is damaged, empty, of another format or of a kind of pixels that
            has no fixed range.
    """
    try:
        image = _open(data)
        if min_pixels is not None and image.format == "JPEG":
            shrink = max(1.0, math.sqrt(image.width * image.height / min_pixels))
            image.draft(None, (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(data, error) from error


def open_image(data: bytes) -> Image.Image:
    """Opens an image file as `decode_image` decodes it, but leaves the pixels of a JPEG that is RGB
    and upright as it lies to `decode_at`.

    Args:
        data: see `decode_image`.

    Returns:
        An image of mode "RGB".

    Raises:
        BrokenImageError: see `decode_image`.
    """
    try:
        image = _open(data)
        if image.format == "JPEG" and image.mode == "RGB" and _is_upright(image):
            return image
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(data, error) from error


def decode_at(image: Image.Image, shrink: float) -> Image.Image:
    """Decodes what `open_image` has opened, a JPEG with sides of 1/2, 1/4 or 1/8 where that is not
    less than 1 / `shrink`: cheaper, and smoothed by the decoder.

    Raises:
        BrokenImageError: the file is damaged.
    """
    try:
        image.draft(None, (math.ceil(image.width / shrink), math.ceil(image.height / shrink)))
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(b"JPEG", error) from error
    return image


def _is_upright(image: Image.Image) -> bool:
    return image.getexif().get(ExifTags.Base.Orientation, 1) == 1


def upright_rgb(image: Image.Image) -> Image.Image:
    """An open picture as `decode_image` gives it; the picture itself stays as it is.

    Args:
        image: of any mode whose pixels have a fixed range.

    Raises:
        BrokenImageError: its file is damaged, or its pixels have no fixed range.
    """
    try:
        return _to_rgb(ImageOps.exif_transpose(image))
    except MemoryError:
        raise
    except Exception as error:
        raise BrokenImageError(f"{type(error).__name__}: {error}") from error


def read_header(data: bytes) -> tuple[str, tuple[int, int]]:
    """Reads the beginning of an image file, without decoding its pixels.

    Args:
        data: the encoded file.

    Returns:
        The format as Pillow names it, and (width, height) in pixels.

    Raises:
        BrokenImageError: it is no image in one of `FORMATS`.
    """
    try:
        with _open(data) as image:
            return image.format or "unknown", image.size
    except MemoryError:
        raise
    except Exception as error:
        raise _broken(data, error) from error


_PNG = b"\x89PNG\r\n\x1a\n"
_NOTES = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")  # chunks of a PNG that change no pixel here


def _open(data: bytes) -> Any:
    image = _open_any(data)
    image.decodermaxblock = max(image.decodermaxblock, len(data))  # read at once, copied once
    return image


def _open_any(data: bytes) -> Any:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except ValueError:
        # Pillow refuses colour profiles and texts of more than a MiB, as if they were attacks.
        bare = _without_notes(data)
        if bare == data:
            raise
        return Image.open(io.BytesIO(bare), formats=FORMATS)


def _without_notes(data: bytes) -> bytes:
    """A PNG without colour profile and texts; anything else as it is."""
    if not data.startswith(_PNG):
        return data
    kept, start = [_PNG], len(_PNG)
    while start + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if name not in _NOTES:
            kept.append(data[start:end])
        start = end
    return b"".join(kept)


# On damaged files Pillow's readers raise nearly anything, struct.error and SyntaxError too.
def _broken(data: bytes, error: Exception) -> BrokenImageError:
    if not data:
        return BrokenImageError("the file is empty")
    if isinstance(error, UnidentifiedImageError):
        what = describe_contents(data[:4096]) or (
            f"no picture in one of the formats {', '.join(FORMATS)}, or one whose beginning is"
            " damaged; convert or download it again"
        )
        return BrokenImageError(f"UnidentifiedImageError: cannot identify a picture, it is {what}")
    if isinstance(error, Image.DecompressionBombError):
        return BrokenImageError(
            f"DecompressionBombError: it has too many pixels: {error} Make it smaller, training"
            " sees a few hundred a side"
        )
    text = re.sub(r"<[\w.]+ object at 0x[0-9a-f]+>", "the file", str(error))
    return BrokenImageError(f"{type(error).__name__}: {text}")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError(
            "pixels are floating point numbers, whose range is unknown; save the image with 8 or 16"
            " bits"
        )
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow would clip 16-bit greys at 255 instead of scaling them.
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, WHITE)
        canvas.paste(image, mask=image)
        return canvas
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()
    return image
