"""The bytes of an image file that can be decoded."""

from pathlib import Path

from vlmo_jax.commands.endings import SHORTAGES
from vlmo_jax.datasets import images
from vlmo_jax.datasets.readers.protocol import LeftOutError


def read_image(path: Path) -> bytes:
    """Reads an image file and decodes it once, by its contents, whatever its name says.

    Returns:
        The file, byte for byte.

    Raises:
        LeftOutError: it is missing or broken.
        OSError: the machine cannot read it, as it could no other.
    """
    try:
        data = path.read_bytes()
        images.decode_image(data)
    except images.BrokenImageError as error:
        raise LeftOutError(f"{path} is broken: {error}") from error
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        raise LeftOutError(f"{path}: {error.strerror or error}") from error
    return data
