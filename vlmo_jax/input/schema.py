"""What a batch consists of: the columns of each kind of row, described once, without a data set.

Batches of examples, made-up batches for benchmarks and the shapes that a program is compiled for
all follow from the same columns.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np

Batch = dict[str, np.ndarray]

UNUSED = -1  # stands where a row has no hidden patch or masked token to tell of


class Column(NamedTuple):
    """One array of a batch.

    Attributes:
        shape: of one row.
        dtype: numpy type of its values.
        empty: what stands where nothing is written.
    """

    shape: tuple[int, ...]
    dtype: type[np.generic]
    empty: int = 0


# Of an evaluation: which record of the split a row shows, and whether it shows one or is padding.
INDEX_COLUMNS: Mapping[str, Column] = {"index": Column((), np.int32), "valid": Column((), np.bool_)}


class Rows(Protocol):
    """One kind of row: sizes that say what a batch consists of."""

    @property
    def columns(self) -> dict[str, Column]:
        """The arrays of a batch by name."""

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """Returns a made-up batch for benchmarks.

        Args:
            rows: how many.
            rng: source of randomness.
            vocab_size: V, ids of tokens are below it; rows without text do not ask.
            first_row: number of the first row in the batch of all hosts, so that no two have the
                same ids.
        """


def empty_batch(columns: Mapping[str, Column], rows: int) -> Batch:
    """Returns a batch of `rows` rows in which nothing is written yet."""
    return {name: _empty_array(column, rows) for name, column in columns.items()}


def _empty_array(column: Column, rows: int) -> np.ndarray:
    shape = (rows, *column.shape)
    if not column.empty:
        return np.zeros(shape, column.dtype)  # costs nothing before it is written, full() does
    return np.full(shape, column.empty, column.dtype)
