"""Inputs of any number through a function of the model: rows are made in threads, batches have one
of two fixed shapes, and one is on the devices while the next is made.
"""

import collections
import concurrent.futures
import itertools
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from vlmo_jax.inference.inputs import BrokenInputError, Row, RowMaker, make_row
from vlmo_jax.input.attempts import name_broken
from vlmo_jax.input.schema import Batch, Column, empty_batch
from vlmo_jax.parallel import sharding
from vlmo_jax.reports.metrics import progress

# What is done about an input that cannot be used: an error, left out with a warning, or left out
# and told to a function.
OnError: TypeAlias = Literal["raise", "skip"] | Callable[[BrokenInputError], object]

Function = Callable[[Any, dict[str, jax.Array]], Any]  # of parameters and a batch

_AHEAD = 2  # batches whose rows are made ahead
_log = logging.getLogger(__name__)


class Made(NamedTuple):
    """A batch.

    Attributes:
        arrays: by name, padded to its shape.
        usable: bool [b], of the inputs in it: False where there is nothing in a row.
        cut: how many texts were too long.
    """

    arrays: Batch
    usable: np.ndarray
    cut: int


class Collected(NamedTuple):
    """The rows of all inputs.

    Attributes:
        values: tree of numpy arrays [N, ...].
        usable: bool [N], False where an input was left out and its rows mean nothing.
        cut: how many texts were too long.
    """

    values: Any
    usable: np.ndarray
    cut: int


class Batches:
    """Makes batches of inputs, and runs functions of a model on them.

    Args:
        mesh: of the devices that share a batch.
        batch_size: most rows of a batch, a multiple of the devices.
        show_progress: whether a bar is shown once something takes some seconds.
    """

    def __init__(self, mesh: jax.sharding.Mesh, batch_size: int, show_progress: bool) -> None:
        self._mesh, self._show_progress = mesh, show_progress
        # A few inputs need not wait for a whole batch.
        self._sizes = (sharding.num_batch_shards(mesh), batch_size)
        self._num_threads = min(16, os.cpu_count() or 1)

    def make(
        self,
        items: Iterable[Any],
        make: RowMaker,
        columns: Mapping[str, Column],
        on_error: OnError = "raise",
    ) -> Iterator[Made]:
        """Makes the rows of inputs, in order.

        Args:
            items: inputs; a generator is read only a few batches ahead.
            make: gives the row of one.
            columns: of a batch.
            on_error: what to do about an input that cannot be used.

        Raises:
            BrokenInputError: one cannot be used, and `on_error` is "raise".
        """
        if not (callable(on_error) or on_error in ("raise", "skip")):
            raise ValueError(
                f"on_error={on_error!r} is not known; use 'raise', 'skip' or a function"
            )
        skipped: list[BrokenInputError] = []
        if callable(on_error):
            told = on_error
        else:
            told = skipped.append if on_error == "skip" else _raise
        pool = concurrent.futures.ThreadPoolExecutor(self._num_threads)
        try:
            for rows in self._rows(items, make, pool):
                yield self._fill(rows, columns, told)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if skipped:
            pairs = [(f"{error.position}: {error.name}", error.reason) for error in skipped]
            _log.warning("%d inputs were left out: %s", len(skipped), name_broken(pairs))

    def _rows(
        self, items: Iterable[Any], make: RowMaker, pool: concurrent.futures.Executor
    ) -> Iterator[list[Row | BrokenInputError]]:
        numbered = enumerate(items)
        waiting: collections.deque[list[concurrent.futures.Future]] = collections.deque()
        while chunk := list(itertools.islice(numbered, self._sizes[1])):
            waiting.append([pool.submit(make_row, make, *one) for one in chunk])
            if len(waiting) > _AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]

    def _fill(
        self,
        rows: list[Row | BrokenInputError],
        columns: Mapping[str, Column],
        told: Callable[[BrokenInputError], object],
    ) -> Made:
        size = self._sizes[0] if len(rows) <= self._sizes[0] else self._sizes[1]
        batch, usable, cut = empty_batch(columns, size), np.zeros(len(rows), np.bool_), 0
        for number, row in enumerate(rows):
            if isinstance(row, BrokenInputError):
                told(row)
                continue
            for name, value in row.arrays.items():
                batch[name][number] = value
            usable[number], cut = True, cut + row.cut
        return Made(batch, usable, cut)

    def run(
        self,
        function: Function,
        params: Any,
        items: Iterable[Any],
        make: RowMaker,
        columns: Mapping[str, Column],
        *,
        on_error: OnError,
        description: str,
        count: int | None,
    ) -> Collected:
        """Applies a function of the model to all inputs.

        Args:
            function: of the parameters and a batch; gives a tree of arrays [B, ...].
            params: of the model.
            items, make, columns, on_error: as in `make`.
            description: of the bar.
            count: how many inputs there are, None where that is not known.
        """
        total = None if count is None else math.ceil(count / self._sizes[1])
        shown = progress(
            self.make(items, make, columns, on_error),
            total=total,
            description=description,
            unit="batch",
            enabled=self._show_progress,
        )
        parts, usable, cut, waiting = [], [np.zeros(0, np.bool_)], 0, None
        for made in shown:
            arrays = sharding.place_batch(made.arrays, self._mesh)
            with jax.set_mesh(self._mesh):
                result = function(params, arrays)
            if waiting is not None:
                parts.append(_fetch(*waiting))
            waiting = (result, len(made.usable))
            usable.append(made.usable)
            cut += made.cut
        parts.append(self._nothing(function, params, columns) if not waiting else _fetch(*waiting))
        values = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        return Collected(values, np.concatenate(usable), cut)

    def _nothing(self, function: Function, params: Any, columns: Mapping[str, Column]) -> Any:
        """The result of no inputs, without running anything."""
        with jax.set_mesh(self._mesh):
            shapes = jax.eval_shape(function, params, empty_batch(columns, self._sizes[0]))
        return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), shapes)


def with_gaps(found: Collected) -> np.ndarray:
    """The rows in float32, NaN where an input was left out."""
    rows = found.values.astype(np.float32)
    rows[~found.usable] = np.nan
    return rows


def as_answers(found: Collected, answers: Sequence[str]) -> list[list[tuple[str, float]]]:
    """(answer, probability) pairs of what `tasks.vqa.make_answerer` gave, best first; none where an
    input was left out.
    """
    rows = zip(found.values.answer_ids, found.values.probability, found.usable, strict=True)
    return [
        [(answers[n], float(p)) for n, p in zip(numbers, probabilities, strict=True)]
        if usable
        else []
        for numbers, probabilities, usable in rows
    ]


def _fetch(result: Any, rows: int) -> Any:
    return jax.tree.map(lambda array: array[:rows], jax.device_get(result))


def _raise(error: BrokenInputError) -> None:
    raise error
