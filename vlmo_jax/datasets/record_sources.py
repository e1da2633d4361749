"""Records of a split as a sequence, read when they are asked for."""

import bisect
import itertools
import operator
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from vlmo_jax.commands.endings import UserError, machine_error


class BrokenRecordError(UserError, ValueError):
    """A record that cannot be read although its file is whole: its bytes were damaged on disk."""


class RecordSource(Sequence):
    """The records of one split, read when asked for; can be pickled and read from many threads.

    Attributes:
        directory: of the data set.
        split: of it, or a part of one.
        num_bytes: of all records of the splits that it is made of; 0 where that is not known.

    Shards are opened at the first record read from them, by each process for itself.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        split: str,
        data_source: Sequence,
        parser: Callable[[Any], Any],
        num_bytes: int = 0,
    ) -> None:
        self.directory = directory
        self.split = split
        self.num_bytes = num_bytes
        self._data_source = data_source
        self._parser = parser

    def __len__(self) -> int:
        return len(self._data_source)

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self!r}")
        try:
            return self._parser(self._data_source[index])
        except (RuntimeError, ValueError, KeyError) as error:
            if machine := machine_error(error):
                raise machine from error
            where = f"record {index} of split {self.split!r} in {self.directory}"
            raise BrokenRecordError(f"{where} cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"RecordSource({str(self.directory)!r}, {self.split!r}, {len(self)} records)"


class JoinedSource(Sequence):
    """The records of several sources, one after another."""

    def __init__(self, parts: Sequence[RecordSource]) -> None:
        self.parts = tuple(parts)
        self.num_bytes = sum(part.num_bytes for part in self.parts)
        self._ends = list(itertools.accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]  # no slices
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {self!r}")
        part = bisect.bisect_right(self._ends, index)
        return self.parts[part][index - (self._ends[part - 1] if part else 0)]

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.parts))
