"""Puts an index in place: everything is written beside what is there, then one file is swapped."""

import contextlib
import datetime
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vlmo_jax.search.about import About, DamagedIndexError, Origin, sync_folder
from vlmo_jax.search.building.making import Facts, Making
from vlmo_jax.search.index import GENERATIONS, THUMBNAILS, VECTORS, Index, pack_path
from vlmo_jax.search.pictures import NAME, SCHEMA

_PACK_BYTES = 1 << 28
_MOST_PACKS = 16
_CHUNK = 1 << 24  # bytes of vectors at a time


class Row(NamedTuple):
    """A picture of the index that is put in place.

    Attributes:
        path, real, size, mtime_ns, settled, digest: see `pictures.SCHEMA`.
        caption: that is shown.
    """

    path: str
    real: str | None
    size: int
    mtime_ns: int
    settled: bool
    digest: bytes
    caption: str | None


class Known(NamedTuple):
    """Where the vector of some contents is.

    Attributes:
        facts: of them.
        part: that holds it, None where it is in the index that is there.
        place: its row there.
    """

    facts: Facts
    part: int | None
    place: int


class Contents(NamedTuple):
    """What an index is made of.

    Attributes:
        rows: in the order of the index.
        known: by digest.
        skipped: {path: (why, size, mtime_ns)}.
        old: the index that is there, or None.
        making: what was encoded since.
    """

    rows: Sequence[Row]
    known: Mapping[bytes, Known]
    skipped: Mapping[str, tuple[str, int | None, int | None]]
    old: Index | None
    making: Making


class _Thumbnail(NamedTuple):
    pack: int
    begin: int
    length: int


def publish(
    folder: Path, contents: Contents, *, origin: Origin, pictures: Path, dtype: str, decoder: str
) -> About:
    """Writes an index and makes it the one that readers find.

    Args:
        folder: of it.
        contents: of it.
        origin: of its vectors.
        pictures: the folder that it is of.
        dtype: of its vectors.
        decoder: of its pictures.

    Returns:
        What it says about itself.
    """
    generation = _next(folder / GENERATIONS)
    target = folder / GENERATIONS / generation
    target.mkdir(parents=True)
    thumbnails = _write_packs(folder, contents)
    digest = _write_vectors(target / VECTORS, contents, origin.dimension, np.dtype(dtype))
    _write_pictures(target / NAME, contents, thumbnails, digest)
    sync_folder(target)
    sync_folder(folder / GENERATIONS)
    about = About(
        origin=origin,
        pictures=str(pictures.resolve()),
        beside=os.path.relpath(pictures.resolve(), folder.resolve()),
        rows=len(contents.rows),
        skipped=len(contents.skipped),
        dtype=np.dtype(dtype).name,
        made=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        decoder=decoder,
        generation=generation,
        vectors_sha256=digest,
    )
    about.write(folder)
    remove_others(folder, generation, {one.pack for one in thumbnails.values()})
    return about


def remove_others(folder: Path, generation: str, packs: set[int]) -> None:
    """Removes what no reader that comes now needs; those who have it open read on."""
    for path in (folder / GENERATIONS).iterdir():
        if path.name != generation:
            shutil.rmtree(path, ignore_errors=True)
    kept = {pack_path(folder, number).name for number in packs}
    for path in (folder / THUMBNAILS).glob("*.bin"):
        if path.name not in kept:
            path.unlink(missing_ok=True)


def _next(folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    names = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    return f"{max(names, default=0) + 1:06d}"


def _write_packs(folder: Path, contents: Contents) -> dict[bytes, _Thumbnail]:
    """The thumbnail of each digest: those that are there stay, unless half of what is there is no
    longer needed, or it has become many files.
    """
    (folder / THUMBNAILS).mkdir(exist_ok=True)
    needed = {row.digest for row in contents.rows}
    found, old = {}, contents.old
    if old is not None:
        table = old.pictures.table("SELECT digest, pack, begin, length FROM pictures")
        found = {digest: _Thumbnail(*rest) for digest, *rest in table if digest in needed}
    packs = _Packs(folder)
    numbers = {one.pack for one in found.values()}
    total = sum(pack_path(folder, number).stat().st_size for number in numbers)
    if old is not None and (
        len(numbers) > _MOST_PACKS or 2 * sum(one.length for one in found.values()) < total
    ):
        for digest, one in found.items():
            found[digest] = packs.add(old.read_pack(*one))
    for _, part in contents.making.parts():
        for seen, thumbnail in zip(part.seen, part.thumbnails, strict=True):
            if seen.digest in needed and seen.digest not in found:
                found[seen.digest] = packs.add(thumbnail)
    packs.close()
    return found


class _Packs:
    """Writes thumbnails one behind the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        numbers = [int(path.stem) for path in (folder / THUMBNAILS).glob("*.bin")]
        self._number, self._end = max(numbers, default=0), _PACK_BYTES
        self._opened = contextlib.ExitStack()

    def add(self, data: bytes) -> _Thumbnail:
        if self._end + len(data) > _PACK_BYTES:
            self.close()
            self._number, self._end = self._number + 1, 0
            self._file = pack_path(self._folder, self._number).open("wb")
            self._opened.callback(_finish, self._file)
        self._file.write(data)
        self._end += len(data)
        return _Thumbnail(self._number, self._end - len(data), len(data))

    def close(self) -> None:
        self._opened.close()


def _finish(file) -> None:
    with file:
        file.flush()
        os.fsync(file.fileno())


def _write_vectors(path: Path, contents: Contents, dimension: int, dtype: np.dtype) -> str:
    """Writes the vectors, in the order of the rows, and returns the digest of the file."""
    old, known = contents.old, [contents.known[row.digest] for row in contents.rows]
    if old is not None and _is_same(old, contents.rows) and old.vectors.dtype == dtype:
        source = old.folder / GENERATIONS / old.about.generation / VECTORS
        with contextlib.suppress(OSError):
            os.link(source, path)
            return old.about.vectors_sha256
    shape = (len(known), dimension)
    out = np.lib.format.open_memmap(path, "w+", dtype, shape) if known else np.empty(shape, dtype)
    places: dict[int | None, list[tuple[int, int]]] = {}
    for row, one in enumerate(known):
        places.setdefault(one.part, []).append((row, one.place))
    if old is not None:
        _copy(out, old.vectors, places.pop(None, []))
    for number, part in contents.making.parts():
        _copy(out, part.vectors, places.pop(number, []))
    if places:
        raise DamagedIndexError(
            f"{path.parents[2]}: parts that were just made are gone or damaged; look at the disk,"
            " and give the same command again"
        )
    if isinstance(out, np.memmap):
        out.flush()
    else:
        np.save(path, out)
    del out
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_same(old: Index, rows: Sequence[Row]) -> bool:
    digests = old.pictures.table("SELECT digest FROM pictures ORDER BY row")
    return [one for (one,) in digests] == [row.digest for row in rows]


def _copy(out: np.ndarray, source: np.ndarray, places: Sequence[tuple[int, int]]) -> None:
    step = max(1, _CHUNK // (4 * out.shape[1]))
    for begin in range(0, len(places), step):
        rows, froms = np.array(places[begin : begin + step]).T
        out[rows] = source[froms]


def _write_pictures(
    path: Path, contents: Contents, thumbnails: Mapping[bytes, _Thumbnail], digest: str
) -> None:
    parents = dict.fromkeys(os.fsencode(row.path.rpartition("/")[0]) for row in contents.rows)
    folders = {parent: number for number, parent in enumerate(parents)}
    connection = sqlite3.connect(path)
    with contextlib.closing(connection), connection:
        connection.executescript("PRAGMA journal_mode = MEMORY;" + SCHEMA)
        connection.executemany(
            "INSERT INTO folders VALUES (?, ?)", [(n, parent) for parent, n in folders.items()]
        )
        connection.executemany(
            f"INSERT INTO pictures VALUES ({','.join('?' * 17)})",
            _values(contents, folders, thumbnails),
        )
        skipped = ((os.fsencode(name), *rest) for name, rest in contents.skipped.items())
        connection.executemany("INSERT INTO skipped VALUES (?, ?, ?, ?)", skipped)
        connection.execute("INSERT INTO facts VALUES ('vectors_sha256', ?)", [digest])


def _values(
    contents: Contents, folders: Mapping[bytes, int], thumbnails: Mapping[bytes, _Thumbnail]
) -> Iterable[tuple]:
    for number, row in enumerate(contents.rows):
        path, facts = os.fsencode(row.path), contents.known[row.digest].facts
        yield (
            number,
            picture_id(row.path),
            path,
            folders[path.rpartition(b"/")[0]],
            None if row.real is None else os.fsencode(row.real),
            row.size,
            row.mtime_ns,
            row.settled,
            row.digest,
            facts.width,
            facts.height,
            facts.taken,
            row.caption,
            facts.note,
            *thumbnails[row.digest],
        )


def picture_id(path: str) -> str:
    """The id of a picture: as long as its path stays, so does this."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
