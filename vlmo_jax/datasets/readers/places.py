"""Where an image lies: in a file, in a tar, in a row of a table; and how it is read there."""

import contextlib
import functools
import os
import pathlib
import stat
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from vlmo_jax.commands.endings import SHORTAGES, UserError, describe_os_error
from vlmo_jax.datasets import images
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.protocol import LeftOutError


class Place(Protocol):
    """Where some bytes lie below a folder; small, and can be pickled."""

    def read(self, folder: pathlib.Path) -> bytes:
        """Returns the bytes.

        Raises:
            LeftOutError: they are not there.
        """


class InFile(NamedTuple):
    """A file of its own.

    Attributes:
        path: relative to the folder.
    """

    path: str

    def read(self, folder: pathlib.Path) -> bytes:
        """See `Place`."""
        full = folder / self.path
        if full.is_symlink() and not full.exists():
            raise LeftOutError(f"a link to {os.readlink(full)}, which is not there")
        if not full.exists():
            raise LeftOutError("there is no such file")
        if not stat.S_ISREG(full.stat().st_mode):
            raise LeftOutError("it is no regular file")
        return full.read_bytes()


class InTar(NamedTuple):
    """A member of a tar.

    Attributes:
        path: of the tar, relative to the folder.
        offset: of the first byte in the tar.
        size: bytes.
    """

    path: str
    offset: int
    size: int

    def read(self, folder: pathlib.Path) -> bytes:
        """See `Place`."""
        with (folder / self.path).open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise LeftOutError(f"{self.path} was cut after it was listed")
        return data


class InParquet(NamedTuple):
    """A row of a Parquet file.

    Attributes:
        path: of the file, relative to the folder.
        group: number of the row group.
        row: number in the group.
        column: name.
    """

    path: str
    group: int
    row: int
    column: str

    def read(self, folder: pathlib.Path) -> bytes:
        """See `Place`."""
        values = _read_group(str(folder / self.path), self.group, self.column)
        return _bytes_of(values[self.row].as_py())


class InArrow(NamedTuple):
    """A row of an Arrow file of record batches.

    Attributes:
        path: of the file, relative to the folder.
        batch: number of the record batch.
        row: number in the batch.
        column: name.
    """

    path: str
    batch: int
    row: int
    column: str

    def read(self, folder: pathlib.Path) -> bytes:
        """See `Place`."""
        values = _read_batch(str(folder / self.path), self.batch).column(self.column)
        return _bytes_of(values[self.row].as_py())


# Rows that follow each other are read one after another: a group, which may hold hundreds of MiB of
# images, once for all.
@functools.lru_cache(maxsize=2)
def _read_group(path: str, group: int, column: str) -> pa.ChunkedArray:
    with naming_damage(path, LeftOutError):
        return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(column)


@functools.lru_cache(maxsize=16)
def _read_batch(path: str, number: int) -> pa.RecordBatch:
    with naming_damage(path, LeftOutError):
        return read_batch(open_arrow(pathlib.Path(path)), number)


def open_arrow(path: pathlib.Path) -> pa.RecordBatchFileReader:
    """Opens an Arrow file of record batches, which are not read before they are asked for.

    Raises:
        DataError: it is no such file, or was cut.
    """
    with naming_damage(path):
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        _ = file.schema.names  # are decoded only now
    return file


def read_batch(file: pa.RecordBatchFileReader, number: int) -> pa.RecordBatch:
    """Reads a record batch and checks that nothing in it points outside.

    Raises:
        pa.ArrowException: it is damaged.
    """
    batch = file.get_batch(number)
    batch.validate(full=True)
    return batch


def open_parquet(path: pathlib.Path) -> pq.ParquetFile:
    """Opens a Parquet file.

    Raises:
        DataError: it is no such file, or was cut.
    """
    with naming_damage(path):
        file = pq.ParquetFile(path)
        _ = file.schema_arrow.names  # are decoded only now
    return file


@contextlib.contextmanager
def naming_damage(
    path: pathlib.Path | str, kind: Callable[[str], Exception] = DataError
) -> Iterator[None]:
    """Inside, what Arrow raises about the contents of a file is an error of the given kind."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, UserError) or isinstance(error, OSError) and error.errno is not None:
            raise
        first_line = str(error).split("\n")[0].rstrip(". ")
        raise kind(
            f"{path} was cut, is damaged, or is no table of its kind: {first_line}; copy it again"
        ) from error


def _bytes_of(value: Any) -> bytes:
    if not isinstance(value, bytes) or not value:
        raise LeftOutError("its row holds no image")
    return value


def load_image_file(folder: pathlib.Path, path: str) -> bytes:
    """As `load_image` of a file; what a LeftOutError says begins with its path.

    Args:
        folder: that the path is below.
        path: of the file.
    """
    try:
        return load_image(folder, InFile(path))
    except LeftOutError as error:
        raise LeftOutError(f"{path}: {error}") from error


def load_image(folder: pathlib.Path, place: Place) -> bytes:
    """Returns the bytes of an image file, which were decoded once to see that they can be.

    Args:
        folder: that places are below.
        place: of the image; what the file is called does not matter.

    Raises:
        LeftOutError: it is missing, cannot be read, or is no image.
        OSError: the machine refuses to read it, as it would refuse any other.
    """
    try:
        data = place.read(folder)
        images.decode_image(data)
    except images.BrokenImageError as error:
        raise LeftOutError(" ".join(str(error).split())) from error
    except OSError as error:
        if error.errno in SHORTAGES:
            raise
        raise LeftOutError(describe_os_error(error)) from error
    return data
