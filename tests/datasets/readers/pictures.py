"""Tiny image files."""

import io

from PIL import Image


def picture(level=100, file_format="JPEG", size=(6, 5)):
    """An image file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (level, 0, 255 - level)).save(file, file_format)
    return file.getvalue()


def put(path, level=100, file_format="JPEG"):
    """Writes such a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(level, file_format))
