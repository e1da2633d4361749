"""Decoding of image files as far as building, checking and measuring data sets need it."""

import io

from PIL import Image


def decode_image(data: bytes) -> Image.Image:
    """Decodes an image file to the last byte.

    Args:
        data: the encoded file.

    Returns:
        The image (of an animation the first frame) as Pillow's RGB.

    Raises:
        ValueError: Pillow cannot decode the file; the message says why.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    # on damaged files Pillow's decoders raise nearly anything, struct.error and SyntaxError too
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
