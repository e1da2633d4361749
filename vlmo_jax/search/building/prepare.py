"""Reads found pictures in threads: what is known already by its contents, and what is new, decoded
once for the model and for its thumbnail.
"""

import collections
import concurrent.futures
import datetime
import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlmo_jax.commands.endings import SHORTAGES, describe_os_error
from vlmo_jax.datasets.images import BrokenImageError, decode_image, read_header
from vlmo_jax.input.plain_images import ImageForm
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.search.building.notes import read_notes
from vlmo_jax.search.building.walk import FoundFile

THUMBNAIL = 320  # pixels, the longer side
_QUALITY = 85
_LARGEST = 1 << 29  # bytes of a file
_MANY_PIXELS = 1 << 25  # of a picture that is decoded alone
_FRESH = 2_000_000_000  # ns: a change this soon after another may keep size and time
_ONE_LARGE = threading.Lock()


class Seen(NamedTuple):
    """A file as it was read.

    Attributes:
        path: of it.
        size, mtime_ns: of it.
        settled: False where it was so new that a later change may keep both.
        digest: SHA-256.
    """

    path: str
    size: int
    mtime_ns: int
    settled: bool
    digest: bytes


class New(NamedTuple):
    """What a new picture gives.

    Attributes:
        pixels: uint8 [S, S, 3], as the model reads it.
        thumbnail: JPEG.
        width, height: in pixels, upright.
        taken: the day.
        note: the caption in the file.
    """

    pixels: np.ndarray
    thumbnail: bytes
    width: int
    height: int
    taken: datetime.date | None
    note: str | None


class Prepared(NamedTuple):
    """What became of a file.

    Attributes:
        path: of it.
        seen: None where it could not be used.
        new: None where its contents are known already.
        reason: why it could not be used.
        again: whether it may do at the next call though it does not change.
    """

    path: str
    seen: Seen | None = None
    new: New | None = None
    reason: str = ""
    again: bool = False


class Preparer:
    """Prepares files.

    Args:
        root: folder that they are below.
        form: what pictures become for the model.
        is_known: whether there is a vector of a file's contents, by its digest.
    """

    def __init__(self, root: Path, form: ImageForm, is_known: Callable[[bytes], bool]) -> None:
        self._root, self._form, self._is_known = root, form, is_known

    def all(self, files: Iterable[FoundFile]) -> Iterator[Prepared]:
        """Prepares files in threads, in order; a few ahead, so that memory stays bounded."""
        threads = min(8, os.cpu_count() or 1)
        pool = concurrent.futures.ThreadPoolExecutor(threads)
        waiting: collections.deque[concurrent.futures.Future[Prepared]] = collections.deque()
        try:
            for one in files:
                waiting.append(pool.submit(self.prepare, one))
                if len(waiting) > 4 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def prepare(self, found: FoundFile) -> Prepared:
        """Prepares one file."""
        try:
            data, seen = self._read(found)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            reason = describe_os_error(OSError(error.errno, error.strerror))
            return Prepared(found.path, reason=reason, again=True)
        if seen is None:
            reason = "it is being written to; it is taken up at the next call"
            return Prepared(found.path, reason=reason, again=True)
        if data is None:
            reason = f"it has {found.size / 1e6:,.0f} MB, more than a picture may; make it smaller"
            return Prepared(found.path, reason=reason)
        if self._is_known(seen.digest):
            return Prepared(found.path, seen)
        try:
            return Prepared(found.path, seen, self._decode(data))
        except BrokenImageError as error:
            return Prepared(found.path, reason=" ".join(str(error).split()))

    def _read(self, found: FoundFile) -> tuple[bytes | None, Seen | None]:
        """The bytes, None of too many, and what was seen, None while somebody writes to it."""
        for _ in range(2):
            with open(self._root / found.path, "rb") as file:
                before = os.fstat(file.fileno())
                if before.st_size > _LARGEST:
                    return None, Seen(found.path, before.st_size, before.st_mtime_ns, True, b"")
                data = file.read(_LARGEST)
                now, after = time.time_ns(), os.fstat(file.fileno())
            if len(data) == before.st_size == after.st_size and (
                before.st_mtime_ns == after.st_mtime_ns
            ):
                settled = now - before.st_mtime_ns > _FRESH
                digest = hashlib.sha256(data).digest()
                return data, Seen(found.path, len(data), before.st_mtime_ns, settled, digest)
        return data, None

    def _decode(self, data: bytes) -> New:
        _, (width, height) = read_header(data)
        if width * height > _MANY_PIXELS:
            with _ONE_LARGE:
                return self._reduce(data)
        return self._reduce(data)

    def _reduce(self, data: bytes) -> New:
        picture = decode_image(data)
        width, height = picture.size
        batch = empty_batch(self._form.columns, 1)
        self._form.write(batch, 0, picture)
        picture.thumbnail((THUMBNAIL, THUMBNAIL), reducing_gap=2.0)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=_QUALITY, optimize=True)
        return New(batch["image"][0], file.getvalue(), width, height, *read_notes(data))
