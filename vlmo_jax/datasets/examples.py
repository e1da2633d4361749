"""Examples one by one, of records that hold several: the questions of images."""

import itertools
import logging
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from vlmo_jax.datasets import records, sources
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.progress import map_in_order
from vlmo_jax.datasets.record_sources import BrokenRecordError, JoinedSource, RecordSource

_log = logging.getLogger(__name__)


class Example(NamedTuple):
    """One example of a record.

    Attributes:
        record: of a kind with an `examples_field`.
        number: of the example in that field.
    """

    record: Any
    number: int


class ExampleSource(Sequence):
    """The examples of many records, found at random; can be pickled.

    Args:
        records: of a kind with an `examples_field`.
        counts: [records] int, how many examples each has.
        kept: bool [examples], those that are there; None: all.

    Attributes:
        records: the same.
        num_bytes: of all of them, 0 where that is not known.
        num_left_out: examples that `kept` leaves out.
    """

    def __init__(
        self, records: Sequence, counts: np.ndarray, kept: np.ndarray | None = None
    ) -> None:
        counts = np.asarray(counts, np.int64)
        self.records = records
        self.num_bytes = getattr(records, "num_bytes", 0)
        places = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        numbers = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = np.ones(len(places), np.bool_) if kept is None else np.asarray(kept, np.bool_)
        self._places, self._numbers = places[chosen], numbers.astype(np.int32)[chosen]
        self.num_left_out = len(places) - len(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]  # no slices
        place, number = self.find(index)
        return Example(self.records[place], number)

    def find(self, index: int) -> tuple[int, int]:
        """The place of an example's record, and its number in the record."""
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {self!r}")
        return int(self._places[index]), int(self._numbers[index])

    def __repr__(self) -> str:
        return f"ExampleSource({len(self)} examples of {self.records!r})"


def all_examples(
    opened: RecordSource | JoinedSource, kind: records.RecordKind = records.QUESTIONS
) -> ExampleSource:
    """The examples of opened records, for random access.

    How many each record has stands in `examples-SPLIT.npy` beside the shards; where there is no
    such file, all records are read once.

    Args:
        opened: of `sources.open_records`.
        kind: of the records, with an `examples_field`.

    Raises:
        DataError: the file of counts belongs to another data set.
    """
    parts = opened.parts if isinstance(opened, JoinedSource) else (opened,)
    return ExampleSource(opened, np.concatenate([_counts_of(part, kind) for part in parts]))


def keep_examples(
    opened: Sequence, keep: Callable[[Any], Sequence[bool]]
) -> ExampleSource | JoinedSource:
    """The examples of records that satisfy a condition; all records are read once.

    Args:
        opened: records of a kind with an `examples_field`.
        keep: function of a record that says of each of its examples whether it is kept.

    Returns:
        The examples, of joined data sets joined; records that cannot be read have none, and are
        named in the log.
    """
    if isinstance(opened, JoinedSource):
        parts = [keep_examples(part, keep) for part in opened.parts]
        return JoinedSource(parts)  # type: ignore[arg-type]  # of examples

    texts = TextsOnly(opened)

    def flags(index: int) -> Sequence[bool]:
        try:
            return keep(texts[index])
        except BrokenRecordError as error:
            _log.warning("Broken record is left out: %s", error)
            return ()

    found = list(map_in_order(flags, range(len(opened)), unit=" records"))
    kept = np.fromiter(itertools.chain.from_iterable(found), np.bool_)
    return ExampleSource(opened, np.array([len(one) for one in found], np.int64), kept)


def _counts_of(part: RecordSource, kind: records.RecordKind) -> np.ndarray:
    """How many examples each record of an opened split, or of parts of some, has."""
    if not any(part.directory.glob(counts_file("*"))):
        return _read_counts(part, kind)
    sizes = sources.split_sizes(str(part.directory))
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    pieces = tfds.core.ReadInstruction.from_spec(part.split).to_absolute(infos)
    names = {piece.splitname for piece in pieces}
    whole = {name: _stored_counts(part.directory, name, sizes[name]) for name in names}
    if any(counts is None for counts in whole.values()):
        return _read_counts(part, kind)
    sliced = [whole[piece.splitname][piece.from_ : piece.to] for piece in pieces]  # type: ignore[index]
    return np.concatenate(sliced)


def _read_counts(part: Any, kind: records.RecordKind) -> np.ndarray:
    texts = TextsOnly(part)

    def count(index: int) -> int:
        return len(getattr(texts[index], kind.examples_field))

    return np.array(list(map_in_order(count, range(len(part)), unit=" records")), np.int64)


class TextsOnly(Sequence):
    """Records for their texts: without their images where the source can leave them out.

    Args:
        opened: the records.
    """

    def __init__(self, opened: Sequence) -> None:
        self._opened = opened

    def __len__(self) -> int:
        return len(self._opened)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
        return getattr(self._opened, "without_images", self._opened.__getitem__)(index)


def counts_file(split: str) -> str:
    """The name of the file that says how many examples each record of a whole split has."""
    return f"examples-{split}.npy"


def _stored_counts(directory: pathlib.Path, split: str, size: int) -> np.ndarray | None:
    path = directory / counts_file(split)
    if not path.is_file():
        return None
    try:
        counts = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{path} is cut or damaged: {error}; remove it, or build the data set again"
        ) from error
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or len(counts) != size:
        raise DataError(
            f"{path} holds {counts.dtype} {counts.shape}, not the counts of {size} records; remove"
            " it, or build the data set again"
        )
    return counts
