"""The pictures of an index, a row each, in a file of SQLite that nobody changes once it is made."""

import dataclasses
import datetime
import functools
import os
import sqlite3
import threading
import urllib.parse
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np

from vlmo_jax.commands.endings import UserError

NAME = "pictures.sqlite"

SCHEMA = """
CREATE TABLE folders (number INTEGER PRIMARY KEY, path BLOB NOT NULL);
CREATE TABLE pictures (
    row INTEGER PRIMARY KEY,      -- of the vectors, from 0
    id TEXT NOT NULL UNIQUE,
    path BLOB NOT NULL,           -- from the folder of pictures; names of files need be no UTF-8
    folder INTEGER NOT NULL REFERENCES folders,
    real BLOB,                    -- in full, where links lead there
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    settled INTEGER NOT NULL,     -- 0: it was so new that a change may keep size and time
    digest BLOB NOT NULL,         -- SHA-256 of the file
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    taken TEXT,                   -- the day, ISO 8601
    caption TEXT,
    note TEXT,                    -- the caption in the file itself
    pack INTEGER NOT NULL,        -- of its thumbnail
    begin INTEGER NOT NULL,
    length INTEGER NOT NULL
);
CREATE TABLE skipped (
    path BLOB PRIMARY KEY, reason TEXT NOT NULL,
    size INTEGER, mtime_ns INTEGER  -- NULL: try again at the next call
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class NoPictureError(UserError, LookupError):
    """An index has no picture of that id."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of an index.

    Attributes:
        id: 16 hexadecimal digits, which stay as long as its path does.
        path: from the folder of pictures, "/" between its parts. What is no UTF-8 in it is kept as
            `os.fsdecode` does: print it with `datasets.tables.printable`.
        caption: of a captions file, of a text file beside it or of itself; None: it has none.
        taken: the day, as the camera says; None where it does not.
        size: of the file, bytes.
        mtime: when the file was changed, seconds since 1970.
        width, height: in pixels, upright.
        digest: SHA-256 of the file, hexadecimal.
    """

    id: str
    path: str
    caption: str | None
    taken: datetime.date | None
    size: int
    mtime: float
    width: int
    height: int
    digest: str

    @property
    def folder(self) -> str:
        """That it lies in, from the folder of pictures; "" for that itself."""
        return self.path.rpartition("/")[0]


class Whereabouts(NamedTuple):
    """Where the files of a picture are.

    Attributes:
        path: see `Picture`.
        real: in full, where links lead there, else None.
        size: bytes.
        mtime_ns: time of its last change.
        pack, begin, length: of its thumbnail.
    """

    path: str
    real: str | None
    size: int
    mtime_ns: int
    pack: int
    begin: int
    length: int


class Columns(NamedTuple):
    """What filters look at.

    Attributes:
        folder: int32 [N], number in `folders`.
        taken: int32 [N], proleptic ordinal of the day, 0 where it is not known.
        folders: path of each.
    """

    folder: np.ndarray
    taken: np.ndarray
    folders: list[str]


_PICTURE = "id, path, caption, taken, size, mtime_ns, width, height, digest"
_MOST = 500  # values in one statement


class Pictures(Sequence[Picture]):
    """All pictures, by row; read when they are asked for. May be used from several threads.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        # Immutable: nothing is locked or written, so a medium that cannot be written to will do,
        # and it can be read on when the file is removed.
        address = f"file:{_quoted(path)}?mode=ro&immutable=1"
        self._connection = sqlite3.connect(address, uri=True, check_same_thread=False)
        self._close = weakref.finalize(self, self._connection.close)
        self._lock = threading.Lock()
        count, last = self._all("SELECT count(*), max(row) FROM pictures")[0]
        self._count, self.gapless = count, last in (None, count - 1)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> Picture: ...

    @overload
    def __getitem__(self, row: slice) -> list[Picture]: ...

    def __getitem__(self, row: int | slice) -> Picture | list[Picture]:
        if isinstance(row, slice):
            return self.at(range(*row.indices(self._count)))
        if not -self._count <= row < self._count:
            raise IndexError(row)
        return self.at([row % self._count])[0]

    def __iter__(self) -> Iterator[Picture]:
        for begin in range(0, self._count, _MOST):
            yield from self[begin : begin + _MOST]

    def at(self, rows: Iterable[int]) -> list[Picture]:
        """The pictures of some rows, in their order."""
        wanted = [int(row) for row in rows]
        found: dict[int, Picture] = {}
        for begin in range(0, len(wanted), _MOST):
            some = wanted[begin : begin + _MOST]
            marks = ",".join("?" * len(some))
            statement = f"SELECT row, {_PICTURE} FROM pictures WHERE row IN ({marks})"
            found |= {row: _picture(*values) for row, *values in self._all(statement, some)}
        return [found[row] for row in wanted]

    def row_of(self, picture_id: str) -> int:
        """The row of a picture.

        Raises:
            NoPictureError: there is none of that id.
        """
        found = self._all("SELECT row FROM pictures WHERE id = ?", [picture_id])
        if not found:
            raise NoPictureError(
                f"the index has no picture {picture_id[:40]!r}; it may be gone since: search again"
            )
        return found[0][0]

    def whereabouts(self, picture_id: str) -> Whereabouts:
        """Where the files of a picture are.

        Raises:
            NoPictureError: there is none of that id.
        """
        row = self.row_of(picture_id)
        statement = "SELECT path, real, size, mtime_ns, pack, begin, length FROM pictures"
        path, real, *rest = self._all(f"{statement} WHERE row = ?", [row])[0]
        return Whereabouts(os.fsdecode(path), None if real is None else os.fsdecode(real), *rest)

    @functools.cached_property
    def columns(self) -> Columns:
        """What filters look at."""
        rows = self._all("SELECT folder, taken FROM pictures ORDER BY row")
        numbered = self._all("SELECT path FROM folders ORDER BY number")
        return Columns(
            np.array([folder for folder, _ in rows], np.int32),
            np.array([_ordinal(taken) for _, taken in rows], np.int32),
            [os.fsdecode(path) for (path,) in numbered],
        )

    def skipped(self) -> list[tuple[str, str]]:
        """(path, why) of the pictures that could not be used."""
        rows = self._all("SELECT path, reason FROM skipped ORDER BY path")
        return [(os.fsdecode(path), reason) for path, reason in rows]

    def facts(self) -> dict[str, str]:
        """What the file says of itself."""
        return dict(self._all("SELECT name, value FROM facts"))

    def table(self, statement: str) -> list[Any]:
        """The rows of a statement, for those who make the next index of this one."""
        return self._all(statement)

    def close(self) -> None:
        """Closes the file, as happens when nobody has them any more, too."""
        self._close()

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()


def _picture(
    picture_id: str,
    path: bytes,
    caption: str | None,
    taken: str | None,
    size: int,
    mtime_ns: int,
    width: int,
    height: int,
    digest: bytes,
) -> Picture:
    day = None if taken is None else datetime.date.fromisoformat(taken)
    time = mtime_ns / 1e9
    return Picture(
        picture_id, os.fsdecode(path), caption, day, size, time, width, height, digest.hex()
    )


def _ordinal(taken: str | None) -> int:
    return 0 if taken is None else datetime.date.fromisoformat(taken).toordinal()


def _quoted(path: Path) -> str:
    """A path in an address of SQLite's, whatever characters it has."""
    return urllib.parse.quote(os.fsencode(path.absolute()))
