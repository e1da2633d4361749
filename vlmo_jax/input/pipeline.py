"""Batches for training, made ahead of their use by Grain in threads or in worker processes.

The unit of work that Grain sees is one batch of one host: a training step is a number, and the
batch a function of it. Within a batch the rows are shared among threads, each writing into the same
preallocated arrays: so all cores work on the batch that is needed next, and no more batches are in
memory than are kept ready.
"""

import concurrent.futures
import dataclasses
import functools
import logging
import math
import operator
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import grain
import numpy as np
from absl import flags

from vlmo_jax.commands.config_errors import require
from vlmo_jax.input import attempts, sampling
from vlmo_jax.input.attempts import BrokenDataError, Report
from vlmo_jax.input.hosts import ALONE, Host
from vlmo_jax.input.schema import Batch, Column, empty_batch
from vlmo_jax.input.workers import (
    begin_worker,
    deaf_to_terminals,
    explaining_workers,
    free_shared_memory,
    refuse_in_worker,
    require_shared_memory,
)

_log = logging.getLogger(__name__)

# A batch is cut into this many tasks a thread, so that one slow image does not leave the other
# threads idle.
_TASKS_PER_THREAD = 4


@dataclasses.dataclass(frozen=True)
class Loading:
    """How batches are made, which changes nothing of what is in them: fields of `config.data`.

    Args:
        num_workers: processes that make batches; 0 makes them in a thread of this one.
        num_threads: threads of each such process that make the rows of a batch.
        prefetch: batches kept ready, at least 1.
        max_broken_fraction: share of broken records above which training stops, 0 to 1. Chance is
            allowed for in small samples: the run stops when more than limit + 3 sqrt(limit) + 3
            records were broken, limit being the share of those read. An evaluation allows none.

    Raises:
        ConfigError: a number is out of range.
    """

    num_workers: int = 0
    num_threads: int = 2
    prefetch: int = 2
    max_broken_fraction: float = 0.001

    def __post_init__(self) -> None:
        require(
            self.num_workers >= 0,
            f"config.data.num_workers={self.num_workers} must be 0 (no processes) or more",
        )
        require(
            self.num_threads >= 1, f"config.data.num_threads={self.num_threads} must be at least 1"
        )
        require(
            self.prefetch >= 1, f"config.data.prefetch={self.prefetch} must be at least 1 batch"
        )
        require(
            0 <= self.max_broken_fraction <= 1,
            f"config.data.max_broken_fraction={self.max_broken_fraction} must be 0 to 1",
        )

    @property
    def most_ready(self) -> int:
        """Batches that may be made, or in the making, before the first of them is asked for."""
        ahead = math.ceil(self.prefetch / max(1, self.num_workers))
        return self.prefetch + max(1, self.num_workers) * (ahead + 1)


DEFAULT_LOADING = Loading()


class RowMaker(Protocol):
    """Writes records into the rows of batches; must be picklable for worker processes."""

    @property
    def source(self) -> Sequence:
        """The records, of any kind."""

    @property
    def columns(self) -> Mapping[str, Column]:
        """The arrays of a batch by name."""

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index`, which stands at a position of the stream or split, into a row."""


class ExampleMaker(RowMaker, Protocol):
    """Writes training examples: `write` takes another record for one that is broken, and what it
    writes depends on (seed, position, index) alone.
    """

    @property
    def seed(self) -> int:
        """Of everything random in an example, 0 to 2**32 - 1."""


class BatchMaker:
    """Rows to a batch, on a pool of threads that each process has for itself."""

    def __init__(self, maker: RowMaker, num_threads: int) -> None:
        self._maker = maker
        self._num_threads = num_threads
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}

    def make(
        self, rows: int, positions: Sequence[int], indices: Sequence[int]
    ) -> tuple[Batch, Report]:
        """Returns a batch of `rows` rows, the first of them written from the given places and
        records, and what was tried.
        """
        batch = empty_batch(self._maker.columns, rows)

        def write(some_rows: range) -> Report:
            written = (
                self._maker.write(batch, row, positions[row], indices[row]) for row in some_rows
            )
            return functools.reduce(operator.add, written, Report())

        if self._num_threads <= 1:
            return batch, write(range(len(positions)))
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(
                self._num_threads, thread_name_prefix="vlmo-input"
            )
        step = max(1, math.ceil(len(positions) / (self._num_threads * _TASKS_PER_THREAD)))
        tasks = [
            range(start, min(start + step, len(positions)))
            for start in range(0, len(positions), step)
        ]
        return batch, functools.reduce(operator.add, self._pool.map(write, tasks), Report())

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class TrainStep(BatchMaker):
    """Step number to the rows of one host."""

    def __init__(
        self,
        maker: RowMaker,
        order: sampling.Order,
        batch_size: int,
        host: Host,
        num_threads: int,
    ) -> None:
        super().__init__(maker, num_threads)
        self._order, self._batch_size, self._host = order, batch_size, host

    def __call__(self, step: int) -> tuple[Batch, Report]:
        """Returns this host's rows of a step, and what was tried for them."""
        positions = self._host.positions(step, self._batch_size)
        indices = [self._order[position] for position in positions]
        return self.make(len(positions), positions, indices)

    @property
    def maker(self) -> RowMaker:
        """Writes its rows."""
        return self._maker

    def on_one_thread(self) -> "TrainStep":
        """The same in the thread that asks."""
        return TrainStep(self._maker, self._order, self._batch_size, self._host, num_threads=1)


class TrainBatches(Iterator[Batch]):
    """The batches of consecutive steps; counts and names broken records, and stops when they are
    too many.

    Use as a context manager or call `close()`: worker processes and threads end then.

    Attributes:
        step: makes the batch of a step by its number.
        loading: by how many processes and threads.
        seen: records tried so far, for the batches handed out.
        broken: how many of them could not be used, and were replaced by others.
        texts: rows with a text that were handed out.
        truncated: how many of these texts were longer than a row, and were cut.
    """

    def __init__(self, iterator: grain.DatasetIterator, step: TrainStep, loading: Loading) -> None:
        self.step, self.loading = step, loading
        # Closing empties the list: Grain's iterators must be gone before the interpreter takes
        # apart the modules they need.
        self._iterators = [iterator]
        self._close = weakref.finalize(
            self, close_batches, self._iterators, step, loading.num_workers
        )
        self._max_broken_fraction = loading.max_broken_fraction
        self._named: dict[str, str] = {}
        self.seen = self.broken = self.texts = self.truncated = 0

    def __next__(self) -> Batch:
        if not self._iterators:
            raise StopIteration
        with explaining_workers():
            batch, report = next(self._iterators[0])
        self.seen += report.seen
        self.broken += len(report.broken)
        self.texts += report.texts
        self.truncated += report.truncated
        for record_id, reason in report.broken:
            if record_id not in self._named:
                self._named[record_id] = reason
                _log.warning(
                    "Broken training record %r is replaced by another: %s", record_id, reason
                )
        if self.broken > _tolerated(self.seen, self._max_broken_fraction):
            raise BrokenDataError(
                f"{self.broken} of the {self.seen} training records read so far"
                f" ({self.broken / self.seen:.2%}) were broken, more than"
                f" config.data.max_broken_fraction={self._max_broken_fraction:g} allows:"
                f" {attempts.name_broken(list(self._named.items()))}. Repair or leave out such"
                " records (`python -m vlmo_jax.datasets.check DIR` names all that cannot be read),"
                " or raise config.data.max_broken_fraction"
            )
        return batch

    def close(self) -> None:
        """Ends the threads and processes that make batches; there are no more batches then. Can be
        called twice.
        """
        self._close()

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def close_batches(
    iterators: list[grain.DatasetIterator], maker: BatchMaker, num_workers: int
) -> None:
    """Ends all that makes batches, in threads or in so many processes, and empties the list."""
    while iterators:
        iterators.pop().close()
    maker.close()
    if num_workers:
        free_shared_memory()


def _tolerated(seen: int, fraction: float) -> float:
    """How many of `seen` records may be broken: the limit, plus what chance puts on top of it in a
    small sample.

    That is three standard deviations of a Poisson count and three records more, so that neither 1
    of 10 nor a bad stretch of data that keeps the limit stops a run. A limit of 0 has no such
    margin.
    """
    expected = fraction * seen
    return expected + 3 * math.sqrt(expected) + 3 if fraction else 0


def stream_batches(
    maker: ExampleMaker,
    *,
    batch_size: int,
    start_step: int,
    end_step: int,
    host: Host = ALONE,
    loading: Loading = DEFAULT_LOADING,
    order: sampling.Order | None = None,
) -> TrainBatches:
    """Returns the training batches of steps start_step to end_step - 1, of which this host gets its
    rows.

    Row r of step s is position s * batch_size + r of an endless stream. What stands there depends
    on the maker, its seed, the order and the position alone: not on where the run started, nor on
    the number of hosts, workers or threads.

    Args:
        maker: writes the examples; for `num_workers` above 0 it must be picklable.
        batch_size: B, examples of a step over all hosts.
        start_step, end_step: first step, and the one after the last.
        host: whose rows are made; b = B / hosts rows.
        loading: by how many processes and threads.
        order: which record stands where; None: every record once an epoch, shuffled anew each time
            by the maker's seed.

    Returns:
        An iterator of numpy batches: the maker's columns, [b, ...]. Making batches begins at once.

    Raises:
        ValueError: an argument is out of range.
        BrokenDataError: (from the iterator) too many records are broken.
    """
    host.rows_of(batch_size)  # refuses a batch that does not divide over the hosts
    if not 0 <= start_step <= end_step:
        raise ValueError(f"start_step={start_step} must be 0 to end_step={end_step}")
    order = order or sampling.RecordOrder(len(maker.source), maker.seed)
    step = TrainStep(maker, order, batch_size, host, loading.num_threads)
    if len(maker.source) < batch_size:
        _log.warning(
            "batch_size=%d is more than the %d training records: a batch holds some twice",
            batch_size,
            len(maker.source),
        )
    dataset = grain.MapDataset.range(start_step, end_step).map(step)
    iterator = start_batches(dataset, loading, maker.columns, host.rows_of(batch_size))
    return TrainBatches(iterator, step, loading)


def start_batches(
    dataset: grain.MapDataset, loading: Loading, columns: Mapping[str, Column], rows: int
) -> grain.DatasetIterator:
    """Returns an iterator over a data set of (batch, report), which begins to make them at once.

    Args:
        dataset: of (batch, report).
        loading: by how many processes and threads.
        columns: the arrays of a batch.
        rows: of a batch on this host.

    Raises:
        WorkerError: there is no room for the batches of workers.
    """
    refuse_in_worker()
    if loading.num_workers:
        return _start_workers(dataset, loading, columns, rows)
    options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=loading.prefetch)
    iterator = iter(dataset.to_iter_dataset(options))
    iterator.start_prefetch()
    return iterator


def _start_workers(
    dataset: grain.MapDataset, loading: Loading, columns: Mapping[str, Column], rows: int
) -> grain.DatasetIterator:
    if not flags.FLAGS.is_parsed():
        # Grain reads absl flags when it starts workers; outside absl.app.run nobody has parsed
        # them.
        flags.FLAGS.mark_as_parsed()
    in_worker = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    ready = math.ceil(loading.prefetch / loading.num_workers)
    workers = grain.MultiprocessingOptions(loading.num_workers, per_worker_buffer_size=ready)
    require_shared_memory(columns, rows, loading.num_workers * (ready + 1))
    with deaf_to_terminals():
        iterator = iter(in_worker.mp_prefetch(workers, begin_worker).map(_own_arrays))
        iterator.start_prefetch()
    return iterator


def _own_arrays(made: tuple[Batch, Report]) -> tuple[Batch, Report]:
    """Copies a batch out of the memory that a worker shares: Grain unmaps it when Python lets go of
    the arrays, which at exit is too late, and too soon for arrays on the device that share it.
    """
    batch, report = made
    return {name: np.array(values) for name, values in batch.items()}, report
