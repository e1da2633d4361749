"""Records that cannot be used: in training they give way to others, an evaluation ends at them."""

import contextlib
import dataclasses
import errno
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vlmo_jax.commands.endings import SHORTAGES, UserError
from vlmo_jax.datasets import BrokenRecordError, images
from vlmo_jax.input import sampling
from vlmo_jax.input.schema import Batch

# What says nothing about the record: too many open files, no memory, a lost drive, no permission.
_OF_THE_MACHINE = (*SHORTAGES, errno.EACCES, errno.EPERM)

# So many records in a row are broken only where nearly all are.
_MAX_ATTEMPTS = 64


class BrokenDataError(UserError, RuntimeError):
    """Too many records cannot be used, or one that an evaluation needs."""


class UnusableRecordError(Exception):
    """A record that is skipped: its id and why."""

    def __init__(self, record_id: str, reason: object) -> None:
        super().__init__(record_id, str(reason))


@dataclasses.dataclass(frozen=True)
class Report:
    """What happened to the records of one row, or of several.

    Attributes:
        seen: records tried.
        broken: (record id, reason) of those that could not be used.
        texts: rows that have a text.
        truncated: those of them whose text was cut at the text length.
    """

    seen: int = 0
    broken: tuple[tuple[str, str], ...] = ()
    texts: int = 0
    truncated: int = 0

    def __add__(self, other: "Report") -> "Report":
        return Report(
            self.seen + other.seen,
            self.broken + other.broken,
            self.texts + other.texts,
            self.truncated + other.truncated,
        )


def require_records(source: Sequence) -> None:
    """Raises ValueError unless there are records."""
    if not len(source):
        raise ValueError("the data has no records; give a data set and a split that have some")


def read_record(source: Sequence, index: int) -> Any:
    """Reads one record.

    Raises:
        UnusableRecordError: it is damaged.
        OSError: the machine refuses to read it, as it would refuse any other.
    """
    try:
        return source[index]
    except (BrokenRecordError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            raise
        raise UnusableRecordError(f"record {index}", error) from error


def decode_image(data: bytes, record_id: str, *, min_pixels: float | None = None) -> Image.Image:
    """Decodes an image of a record, as `images.decode_image` does.

    Raises:
        UnusableRecordError: the image is broken.
    """
    try:
        return images.decode_image(data, min_pixels=min_pixels)
    except images.BrokenImageError as error:
        raise UnusableRecordError(record_id, error) from error


@contextlib.contextmanager
def picture_for_views(
    data: bytes, record_id: str, *, min_pixels: float, fast: bool
) -> Iterator[Image.Image]:
    """Opens the image of a record, of which views are drawn inside.

    Args:
        data: the encoded file.
        record_id: for messages.
        min_pixels: as in `images.decode_image`.
        fast: views decode what they need; otherwise all of it is decoded.

    Yields:
        RGB image.

    Raises:
        UnusableRecordError: the image is broken.
    """
    try:
        yield images.open_image(data) if fast else images.decode_image(data, min_pixels=min_pixels)
    except images.BrokenImageError as error:
        raise UnusableRecordError(record_id, error) from error


@contextlib.contextmanager
def needed_record(index: int) -> Iterator[None]:
    """Inside, record `index` of an evaluation must be usable: leaving it out would change the
    result without a word.

    Raises:
        BrokenDataError: it is not.
    """
    try:
        yield
    except UnusableRecordError as error:
        record_id, reason = error.args
        raise BrokenDataError(
            f"record {index} of the evaluation data cannot be used: {record_id!r} ({reason}). An"
            " evaluation needs every record: repair it or build the data set without it"
        ) from error


def write_or_replace(
    write: Callable[[int, np.random.Generator], Report],
    num_records: int,
    *,
    seed: int,
    position: int,
    index: int,
) -> Report:
    """Writes one example; broken records give way to others, drawn from (seed, position, attempt).

    Args:
        write: function of the number of a record and the source of all randomness of the example;
            reads the record and writes the example. Raises UnusableRecordError, and otherwise
            reports what it read.
        num_records: how many records there are.
        seed: of the run.
        position: of the example in the training stream.
        index: of the record that belongs there.

    Returns:
        What was tried.

    Raises:
        BrokenDataError: dozens of records in a row are broken.
    """
    broken: list[tuple[str, str]] = []
    for attempt in range(_MAX_ATTEMPTS):
        rng = sampling.example_rng(seed, position, attempt)
        if attempt:
            index = int(rng.integers(num_records))
        try:
            written = write(index, rng)
        except UnusableRecordError as error:
            broken.append(error.args)
        else:
            return Report(seen=len(broken), broken=tuple(broken)) + written
    raise BrokenDataError(
        f"{_MAX_ATTEMPTS} records drawn for one example were all broken: {name_broken(broken)}. "
        "Look through the data with: python -m vlmo_jax.datasets.check DIR"
    )


class ReplacesBroken:
    """What makes the rows of a training stream of records that may be broken.

    Attributes:
        source: the records.
        seed: of the run.
    """

    source: Sequence
    seed: int

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes one example into a batch; broken records give way to others (see
        `write_or_replace`).

        Args:
            batch: with the columns of this maker.
            row: where to write.
            position: of the example in the training stream.
            index: of the record that belongs there.

        Returns:
            What was tried.

        Raises:
            BrokenDataError: dozens of records in a row are broken.
        """
        return write_or_replace(
            functools.partial(self._write, batch, row),
            len(self.source),
            seed=self.seed,
            position=position,
            index=index,
        )

    def _write(self, batch: Batch, row: int, index: int, rng: np.random.Generator) -> Report:
        """Writes the example of record `index`, or raises UnusableRecordError."""
        raise NotImplementedError


def name_broken(broken: Sequence[tuple[str, str]], limit: int = 5) -> str:
    """Returns the first few broken records in words, each once.

    Args:
        broken: (record id, reason) pairs.
        limit: how many to name.
    """
    reasons = dict(broken)
    named = ", ".join(
        f"{record_id!r} ({reason})" for record_id, reason in list(reasons.items())[:limit]
    )
    return named + (f" and {len(reasons) - limit} more" if len(reasons) > limit else "")
