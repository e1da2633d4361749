"""An index that is open: vectors, pictures, thumbnails, and the files that it is of."""

import datetime
import os
import sqlite3
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.paths import user_path
from vlmo_jax.search import pictures as metadata
from vlmo_jax.search.about import About, DamagedIndexError, NoIndexError, read_about, remake
from vlmo_jax.search.pictures import Pictures

VECTORS = "vectors.npy"
GENERATIONS, THUMBNAILS, MAKING = "generations", "thumbnails", "making"
_TRIES = 5  # each time another index was put in place while this one was opened


class ChangedPictureError(UserError, ValueError):
    """The file of a picture is no longer the one of the index."""


class Index:
    """An index as it was when it was opened: it can be used on while the next one is put in its
    place, also from several threads.

    Args:
        folder: of it.
        about: of it.

    Attributes:
        folder: of it.
        about: model, dimension, number of rows and so on.
        vectors: np.memmap [N, D] of about.dtype, each of length 1.
        pictures: N of them; picture n is that of row n.
        unfinished: whether a command that would have renewed it was stopped.

    Raises:
        DamagedIndexError: its files do not go together.
        FileNotFoundError: it was replaced in between.
    """

    def __init__(self, folder: Path, about: About) -> None:
        self.folder, self.about = folder, about
        generation = folder / GENERATIONS / about.generation
        try:
            self.vectors = np.load(generation / VECTORS, mmap_mode="r")
            _ = (generation / metadata.NAME).stat()
            self.pictures = Pictures(generation / metadata.NAME)
            self._check()
        except (sqlite3.Error, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise DamagedIndexError(
                f"{generation} is cut or damaged: {error}; {remake(folder)}"
            ) from error
        self._packs = self._open_packs()
        self._close_packs = weakref.finalize(self, _close_all, list(self._packs.values()))
        self.unfinished = any((folder / MAKING).glob("*.npz"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.pictures)

    def close(self) -> None:
        """Closes its files, as happens when nobody has it any more, too."""
        self.pictures.close()
        self._close_packs()
        self._packs = {}

    @property
    def root(self) -> Path:
        """The folder of pictures: where it was, or where it is now if it was moved together with
        the index.
        """
        was, beside = Path(self.about.pictures), self.folder / self.about.beside
        return was if was.is_dir() or not beside.is_dir() else beside

    def thumbnail(self, picture_id: str) -> bytes:
        """A small JPEG of a picture, of at most 320 pixels a side.

        Raises:
            NoPictureError: the index has no such picture.
        """
        where = self.pictures.whereabouts(picture_id)
        return self.read_pack(where.pack, where.begin, where.length)

    def read_pack(self, number: int, begin: int, length: int) -> bytes:
        """Bytes of a file of thumbnails."""
        return os.pread(self._packs[number], length, begin)

    def original(self, picture_id: str) -> Path:
        """The file of a picture, in full.

        Raises:
            NoPictureError: the index has no such picture.
            ChangedPictureError: the file is gone, is another one by now, or a link leads elsewhere
                than it did.
        """
        where = self.pictures.whereabouts(picture_id)
        root = self.root.resolve()
        path = root / where.path
        try:
            real = path.resolve(strict=True)
            now = real.stat()
        except (OSError, RuntimeError) as error:
            raise ChangedPictureError(f"{path} is gone; {_AGAIN}") from error
        expected = path if where.real is None else Path(where.real)
        if real != expected:
            raise ChangedPictureError(f"{path} leads elsewhere than it did; {_AGAIN}")
        if (now.st_size, now.st_mtime_ns) != (where.size, where.mtime_ns):
            raise ChangedPictureError(f"{path} has changed; {_AGAIN}")
        return real

    def allowed(
        self,
        folder: str | None = None,
        since: datetime.date | None = None,
        until: datetime.date | None = None,
    ) -> np.ndarray | None:
        """Which rows are left by filters.

        Args:
            folder: only pictures in it and below, from the folder of pictures.
            since, until: only pictures taken on these days and between; those whose day is not
                known are out.

        Returns:
            bool [N], None where all are.
        """
        if folder is None and since is None and until is None:
            return None
        columns = self.pictures.columns
        rows = np.ones(len(self), np.bool_)
        if folder is not None and (wanted := folder.strip("/")) not in ("", "."):
            inside = [one == wanted or one.startswith(f"{wanted}/") for one in columns.folders]
            rows &= np.array(inside, np.bool_)[columns.folder]
        if since is not None:
            rows &= columns.taken >= since.toordinal()
        if until is not None:
            rows &= (columns.taken > 0) & (columns.taken <= until.toordinal())
        return rows

    def _check(self) -> None:
        about, shape = self.about, self.vectors.shape
        if not self.pictures.gapless or not len(self.pictures) == len(self.vectors) == about.rows:
            raise DamagedIndexError(
                f"{self.folder} has {len(self.vectors)} vectors and {len(self.pictures)} pictures"
                f" for {about.rows} rows; {remake(self.folder)}"
            )
        if shape[1:] != (about.origin.dimension,) or self.vectors.dtype != about.dtype:
            raise DamagedIndexError(
                f"{self.folder} has vectors {list(shape)} of {self.vectors.dtype}, and says"
                f" {about.origin.dimension} of {about.dtype}; {remake(self.folder)}"
            )
        if self.pictures.facts().get("vectors_sha256") != about.vectors_sha256:
            raise DamagedIndexError(
                f"the pictures of {self.folder} are not those of its vectors; {remake(self.folder)}"
            )

    def _open_packs(self) -> dict[int, int]:
        """All at once, as they may be removed when the next index is in place."""
        opened: dict[int, int] = {}
        try:
            for (number,) in self.pictures.table("SELECT DISTINCT pack FROM pictures"):
                opened[number] = os.open(pack_path(self.folder, number), os.O_RDONLY)
        except OSError:
            _close_all(opened.values())
            raise
        return opened


def _close_all(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)


_AGAIN = "give the index command again"


def pack_path(folder: Path, number: int) -> Path:
    """The file of some thumbnails."""
    return folder / THUMBNAILS / f"{number:06d}.bin"


def open_index(folder: str | os.PathLike) -> Index:
    """Opens an index.

    Args:
        folder: of it, as `python -m vlmo_jax.search index PICTURES FOLDER` has made it.

    Raises:
        NoIndexError: there is none, or it is not finished.
        DamagedIndexError: its files do not go together.
    """
    path = user_path(folder)
    for attempt in range(_TRIES):
        try:
            about = read_about(path)
        except NoIndexError as error:
            if any((path / MAKING).glob("*.npz")):
                raise NoIndexError(
                    f"{path} is not finished; give its index command again, which goes on where it"
                    " was stopped"
                ) from error
            raise
        try:
            return Index(path, about)
        except FileNotFoundError as error:
            if attempt == _TRIES - 1 or read_about(path) == about:
                raise DamagedIndexError(
                    f"{error.filename or path} is missing; {remake(path)}"
                ) from error
    raise AssertionError("not reached")
