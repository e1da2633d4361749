"""A data set whose records are made when they are asked for."""

import operator
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow_datasets as tfds

from vlmo_jax.datasets.records import RecordKind


class MakesRecords(Protocol):
    """Makes record `number` of a split, always the same one; can be pickled."""

    def __call__(self, split: str, number: int, *, pictured: bool = True) -> Any:
        """Returns the record; without images if it is not `pictured`."""


class MadeDataset(NamedTuple):
    """What such a data set consists of.

    Attributes:
        folder: of what belongs to it; its name is that of the data set.
        kind: of its records.
        sizes: number of records of each split.
        make: makes one.
    """

    folder: pathlib.Path
    kind: RecordKind
    sizes: Mapping[str, int]
    make: MakesRecords

    def open(self, split: str) -> "MadeSource":
        """Opens a split, or a part of one as TFDS writes it.

        Raises:
            ValueError: there is no such split or part.
        """
        infos = {
            name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
            for name, size in self.sizes.items()
        }
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
        numbers = [
            (part.splitname, range(self.sizes[part.splitname])[part.from_ : part.to])
            for part in parts
        ]
        return MadeSource(self, split, numbers)


class MadeSource(Sequence):
    """The records of one split, made when asked for; can be pickled and read from many threads.

    Attributes:
        dataset: that it is of.
        directory: of what belongs to that.
        split: of it, or a part of one.
        num_bytes: 0, since none lie anywhere.
    """

    num_bytes = 0

    def __init__(
        self, dataset: MadeDataset, split: str, numbers: Sequence[tuple[str, range]]
    ) -> None:
        self.dataset, self.directory, self.split = dataset, dataset.folder, split
        self._numbers = list(numbers)

    def __len__(self) -> int:
        return sum(len(numbers) for _, numbers in self._numbers)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
        return self.dataset.make(*self._place(index))

    def without_images(self, index: int) -> Any:
        """Returns a record with no bytes for images, which takes a tenth of the time."""
        return self.dataset.make(*self._place(index), pictured=False)

    def _place(self, index: int) -> tuple[str, int]:
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self!r}")
        for split, numbers in self._numbers:
            if index < len(numbers):
                return split, numbers[index]
            index -= len(numbers)
        raise AssertionError("the parts have as many records as the whole")

    def __repr__(self) -> str:
        return f"MadeSource({self.directory.name!r}, {self.split!r}, {len(self)} records)"
