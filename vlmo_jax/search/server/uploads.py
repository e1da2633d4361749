"""Pictures that clients have uploaded: made small at once, and kept for a while."""

import collections
import io
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.images import decode_image, read_header
from vlmo_jax.search.server.limits import Limits, RefusalError

_THUMBNAIL = 256  # pixels of its longer side


class Upload(NamedTuple):
    """A picture of a client.

    Attributes:
        image: as the model reads it, S x S.
        thumbnail: a JPEG for the page.
    """

    image: Image.Image
    thumbnail: bytes


class _Kept(NamedTuple):
    upload: Upload
    until: float


def read_upload(data: bytes, preprocess: Callable[[Any], np.ndarray], limits: Limits) -> Upload:
    """Decodes a picture that somebody has sent.

    Args:
        data: the file.
        preprocess: that of the model: a picture to uint8 [1, S, S, 3].
        limits: its `upload_pixels` is asked before anything is decoded.

    Raises:
        RefusalError: it is no picture, a broken one, or too large.
    """
    most = f"at most {limits.upload_pixels:,} are taken. Make it smaller first."
    try:
        _, (width, height) = read_header(data)
        if width * height > limits.upload_pixels:
            raise RefusalError(413, f"The picture has {width:,} x {height:,} pixels; {most}")
        picture = decode_image(data)
    except DataError as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise RefusalError(413, f"The picture has too many pixels; {most}") from error
        raise RefusalError(415, f"This is no picture that can be read: {error}") from error
    image = Image.fromarray(preprocess(picture)[0])
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return Upload(image, file.getvalue())


class Uploads:
    """What was uploaded, by ids that cannot be guessed.

    Args:
        limits: how many are kept, and how long.
        clock: in seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._kept: collections.OrderedDict[str, _Kept] = collections.OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, upload: Upload) -> str:
        """Keeps a picture; returns its id."""
        name = secrets.token_urlsafe(12)
        self._keep(name, upload)
        while len(self._kept) > self._limits.uploads:
            self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> Upload:
        """A picture by its id, which is kept longer for it.

        Raises:
            RefusalError: it is not there, or not any more.
        """
        for old in [each for each, kept in self._kept.items() if kept.until < self._clock()]:
            del self._kept[old]
        if name not in self._kept:
            raise RefusalError(
                410,
                "The picture that this search began with is no longer here: pictures are kept for"
                f" {self._limits.upload_seconds / 60:g} minutes, and not when the server stops."
                " Drop it here once more.",
            )
        upload = self._kept.pop(name).upload
        self._keep(name, upload)
        return upload

    def _keep(self, name: str, upload: Upload) -> None:
        self._kept[name] = _Kept(upload, self._clock() + self._limits.upload_seconds)
