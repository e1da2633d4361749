"""Batches for training, made ahead of their use by Grain in threads or in worker processes.

The unit of work that Grain sees is one batch of one host: a training step is a number, and the
batch a function of it. Within a batch the rows are shared among threads, each writing into the same
preallocated arrays: so all cores work on the batch that is needed next, and no more batches are in
memory than are kept ready.
"""

import concurrent.futures
import functools
import logging
import math
import operator
import weakref
from collections.abc import Iterator, Sequence
from typing import Protocol

import grain
import numpy as np
from absl import flags

from vlmo_jax.datasets import Record
from vlmo_jax.input import attempts, checks, sampling
from vlmo_jax.input import pairs as examples
from vlmo_jax.input.attempts import BrokenDataError, Report
from vlmo_jax.input.images import pixels
from vlmo_jax.input.pairs import Batch
from vlmo_jax.input.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

# A batch is cut into this many tasks a thread, so that one slow image does not leave the other
# threads idle.
_TASKS_PER_THREAD = 4


class ExampleMaker(Protocol):
    """Writes training examples into the rows of batches; must be picklable for worker processes.

    Attributes:
        source: the records.
        seed: of everything random in an example.
    """

    source: Sequence
    seed: int

    def empty_batch(self, rows: int) -> Batch:
        """Returns arrays for `rows` examples, not filled."""

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index`, or one in its place if it is broken, into a row, by (seed,
        position, index) alone.
        """


class BatchMaker:
    """Rows of examples to a batch, on a pool of threads that each process has for itself."""

    def __init__(self, maker: ExampleMaker | examples.EvalImages, num_threads: int):
        self._maker = maker
        self._num_threads = num_threads
        self._pool = None

    def __getstate__(self):
        return self.__dict__ | {"_pool": None}

    def make(self, rows: int, positions: range, indices: Sequence[int]) -> tuple[Batch, Report]:
        """Returns a batch of `rows` rows, the first of them written from the given places and
        records, and what was tried.
        """
        batch = self._maker.empty_batch(rows)

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
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class _TrainStep(BatchMaker):
    """Step number to the rows of one host."""

    def __init__(
        self,
        maker: ExampleMaker,
        *,
        batch_size: int,
        host_index: int,
        host_count: int,
        num_threads: int,
    ):
        super().__init__(maker, num_threads)
        self._order = sampling.RecordOrder(len(maker.source), maker.seed)
        self._batch_size = batch_size
        self._rows = batch_size // host_count
        self._first = host_index * self._rows

    def __call__(self, step: int) -> tuple[Batch, Report]:
        start = step * self._batch_size + self._first
        positions = range(start, start + self._rows)
        return self.make(self._rows, positions, [self._order[position] for position in positions])


class TrainBatches(Iterator[Batch]):
    """The batches of consecutive steps; counts and names broken records, and stops when they are
    too many.

    Use as a context manager or call `close()`: worker processes and threads end then.

    Attributes:
        seen: records tried so far, for the batches handed out.
        broken: how many of them could not be used, and were replaced by others.
        truncated: captions that were cut at the text length.
    """

    def __init__(
        self,
        iterator: grain.DatasetIterator,
        maker: _TrainStep,
        *,
        in_shared_memory: bool,
        max_broken_fraction: float,
    ):
        # Closing empties the list: Grain's iterators must be gone before the interpreter takes
        # apart the modules they need.
        self._iterators = [iterator]
        self._close = weakref.finalize(self, close_batches, self._iterators, maker)
        self._in_shared_memory = in_shared_memory
        self._max_broken_fraction = max_broken_fraction
        self._named: dict[str, str] = {}
        self.seen = self.broken = self.truncated = 0

    def __next__(self) -> Batch:
        if not self._iterators:
            raise StopIteration
        batch, report = next(self._iterators[0])
        self.seen += report.seen
        self.broken += len(report.broken)
        self.truncated += report.truncated
        for image_id, reason in report.broken:
            if image_id not in self._named:
                self._named[image_id] = reason
                _log.warning(
                    "Broken training record %r is replaced by another: %s", image_id, reason
                )
        if self.broken > _tolerated(self.seen, self._max_broken_fraction):
            raise BrokenDataError(
                f"{self.broken} of the {self.seen} training records read so far"
                f" ({self.broken / self.seen:.2%}) were broken, more than"
                f" config.data.max_broken_fraction={self._max_broken_fraction:g} allows:"
                f" {attempts.name_broken(list(self._named.items()))}. Repair or leave out the"
                " records that `python -m vlmo_jax.datasets.check DIR` names, or raise"
                " config.data.max_broken_fraction"
            )
        if self._in_shared_memory:
            # Grain unmaps these arrays when Python lets go of them, which at exit is too late, and
            # too soon for arrays on the device that share their memory.
            batch = {key: np.array(value) for key, value in batch.items()}
        return batch

    def close(self) -> None:
        """Ends the threads and processes that make batches; there are no more batches then. Can be
        called twice.
        """
        self._close()

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def close_batches(iterators: list[grain.DatasetIterator], maker: BatchMaker) -> None:
    while iterators:
        iterators.pop().close()
    maker.close()


def _tolerated(seen: int, fraction: float) -> float:
    """How many of `seen` records may be broken: the limit, plus what chance puts on top of it in a
    small sample.

    That is three standard deviations of a Poisson count and three records more, so that neither 1
    of 10 nor a bad stretch of data that keeps the limit stops a run. A limit of 0 has no such
    margin.
    """
    expected = fraction * seen
    return expected + 3 * math.sqrt(expected) + 3 if fraction else 0


def train_batches(
    source: Sequence[Record],
    tokenizer: Tokenizer,
    *,
    image_size: int,
    text_length: int,
    batch_size: int,
    seed: int,
    start_step: int,
    end_step: int,
    host_index: int = 0,
    host_count: int = 1,
    captions: str = "text",
    crop_scale: tuple[float, float] = (0.5, 1.0),
    flip: bool = True,
    randaugment: tuple[int, float] | None = (2, 7),
    randaugment_fill: tuple[int, int, int] = pixels.WHITE,
    color_jitter: tuple[float, float, float, float] | None = None,
    mask_rate: float = 0.15,
    max_masked_tokens: int,
    num_workers: int = 0,
    num_threads: int = 2,
    prefetch: int = 2,
    max_broken_fraction: float = 0.001,
) -> TrainBatches:
    """Returns the training batches of steps start_step to end_step - 1, of which this host gets its
    rows.

    Row r of step s is position s * batch_size + r of an endless stream in which every record comes
    once an epoch, shuffled anew each time. Which record, which view, which caption and which masks
    stand there depends on `seed` and the position alone: not on where the run started, nor on the
    number of hosts, workers or threads.

    Args:
        source: the records; for `num_workers` above 0 they and the tokenizer must be picklable.
        tokenizer: of `load_tokenizer`.
        image_size: S, side of the images in pixels.
        text_length: T, tokens of a text with [CLS] and [SEP], at least 3; longer texts are cut, and
            counted.
        batch_size: B, examples of a step over all hosts.
        seed: 0 to 2**32 - 1.
        start_step, end_step: first step, and the one after the last.
        host_index, host_count: which of how many equal slices of the rows this host gets; b = B /
            host_count rows.
        captions: "text" or "text_and_keywords" (see `captions.draw_caption`).
        crop_scale: smallest and largest share of an image's area that a random crop shows.
        flip: mirror half of the images.
        randaugment: (number of operations, magnitude 0 to 10), or None for no RandAugment.
        randaugment_fill: colour of corners that it uncovers (see `randaugment.rand_augment`).
        color_jitter: strengths of brightness, contrast, saturation and hue (see
            `color_jitter.color_jitter`), or None for none.
        mask_rate: share of the words that are masked.
        max_masked_tokens: M, the most tokens masked in a text.
        num_workers: processes that make batches; 0 makes them in a thread of this one.
        num_threads: threads of each such process that make the rows of a batch.
        prefetch: batches kept ready, at least 1.
        max_broken_fraction: share of broken records above which the run stops, 0 to 1. Chance is
            allowed for in small samples: the run stops when more than limit + 3 sqrt(limit) + 3
            records were broken, limit being the share of those read.

    Returns:
        An iterator of numpy batches: image uint8 [b, S, S, 3]; token_ids int32 and token_mask bool
        [b, T]; mlm_token_ids int32
        [b, T], the masked copy; mlm_positions int32 [b, M], 0 where unused; mlm_labels int32 [b,
        M], -1 where unused; image_id
        uint32 [b], a hash of the record's id; text_id uint32 [b], a hash of the lower-cased
        caption. Making batches begins at once.

    Raises:
        ValueError: an argument is out of range.
        BrokenDataError: (from the iterator) too many records are broken.
    """
    checks.check_images(len(source), image_size)
    checks.check_text(text_length, tokenizer)
    checks.check_captions(captions)
    checks.check_views(crop_scale, randaugment, color_jitter)
    checks.check_masking(mask_rate, max_masked_tokens)
    maker = examples.TrainExamples(
        source=source,
        tokenizer=tokenizer,
        image_size=image_size,
        text_length=text_length,
        seed=seed,
        captions=captions,
        crop_scale=crop_scale,
        flip=flip,
        randaugment=randaugment,
        randaugment_fill=randaugment_fill,
        color_jitter=color_jitter,
        mask_rate=mask_rate,
        max_masked_tokens=max_masked_tokens,
    )
    return stream_batches(
        maker,
        batch_size=batch_size,
        start_step=start_step,
        end_step=end_step,
        host_index=host_index,
        host_count=host_count,
        num_workers=num_workers,
        num_threads=num_threads,
        prefetch=prefetch,
        max_broken_fraction=max_broken_fraction,
    )


def stream_batches(
    maker: ExampleMaker,
    *,
    batch_size: int,
    start_step: int,
    end_step: int,
    host_index: int = 0,
    host_count: int = 1,
    num_workers: int = 0,
    num_threads: int = 2,
    prefetch: int = 2,
    max_broken_fraction: float = 0.001,
) -> TrainBatches:
    """Returns the batches of any kind of training example; see `train_batches` for the order and
    the arguments.

    Args:
        maker: writes one example a row; what it writes depends on its seed, the position and the
            record alone.

    Raises:
        ValueError: an argument is out of range.
    """
    checks.check_hosts(batch_size, host_index, host_count)
    checks.check_stream(start_step, end_step, max_broken_fraction)
    checks.check_loading(num_workers, num_threads, prefetch)
    if len(maker.source) < batch_size:
        _log.warning(
            "batch_size=%d is more than the %d training records: a batch holds some twice",
            batch_size,
            len(maker.source),
        )
    step = _TrainStep(
        maker,
        batch_size=batch_size,
        host_index=host_index,
        host_count=host_count,
        num_threads=num_threads,
    )
    dataset = grain.MapDataset.range(start_step, end_step).map(step)
    iterator = start_batches(dataset, num_workers=num_workers, prefetch=prefetch)
    return TrainBatches(
        iterator, step, in_shared_memory=num_workers > 0, max_broken_fraction=max_broken_fraction
    )


def start_batches(
    dataset: grain.MapDataset, *, num_workers: int, prefetch: int
) -> grain.DatasetIterator:
    """An iterator over a data set of batches that has begun to make the first ones."""
    if not num_workers:
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch)
        iterator = iter(dataset.to_iter_dataset(options))
    else:
        if not flags.FLAGS.is_parsed():
            # Grain reads absl flags when it starts workers; outside absl.app.run nobody has parsed
            # them.
            flags.FLAGS.mark_as_parsed()
        in_worker = dataset.to_iter_dataset(
            grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        )
        ready = math.ceil(prefetch / num_workers)
        iterator = iter(
            in_worker.mp_prefetch(
                grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=ready)
            )
        )
    iterator.start_prefetch()
    return iterator
