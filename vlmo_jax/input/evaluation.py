"""Batches for evaluation: every record of a split once and in order, the last batch padded."""

import functools
import logging
import math
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.input import checks
from vlmo_jax.input import pairs as examples
from vlmo_jax.input.attempts import Report
from vlmo_jax.input.pairs import Batch
from vlmo_jax.input.pipeline import BatchMaker, ExampleMaker, close_batches, start_batches
from vlmo_jax.input.text import captions as captions_lib
from vlmo_jax.input.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)


class _EvalBatch(BatchMaker):
    """Batch number to the rows of one host."""

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
        self._rows_of = functools.partial(
            _eval_rows,
            len(maker.source),
            batch_size=batch_size,
            host_index=host_index,
            host_count=host_count,
        )
        self._rows = batch_size // host_count

    def __call__(self, number: int) -> tuple[Batch, Report]:
        rows = self._rows_of(number)
        return self.make(self._rows, rows, rows)


def image_batches(
    source: Sequence[Record],
    *,
    image_size: int,
    batch_size: int,
    host_index: int = 0,
    host_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Returns all images of a split in order, resized to squares without regard to their aspect
    ratio.

    Batch k covers rows [k * batch_size, (k + 1) * batch_size) of the split, and each host gets its
    slice of it. Every host gets as many batches; what is missing at the end is padding.

    Args:
        source: the records.
        image_size: S, side of the images in pixels.
        batch_size: rows of a batch over all hosts.
        host_index, host_count: which of how many equal slices of a batch this host gets; b =
            batch_size / host_count rows.
        num_threads: threads that decode.
        prefetch: batches kept ready, at least 1.

    Returns:
        An iterator of numpy batches: image uint8 [b, S, S, 3], index int32 [b] (row in the split),
        valid bool [b]; padding is
        black, its index 0 and valid False.

    Raises:
        ValueError: an argument is out of range.
        BrokenDataError: (from the iterator) an image is broken.
    """
    checks.check_images(len(source), image_size)
    return split_batches(
        examples.EvalImages(source, image_size),
        batch_size=batch_size,
        host_index=host_index,
        host_count=host_count,
        num_threads=num_threads,
        prefetch=prefetch,
    )


def split_batches(
    maker: ExampleMaker,
    *,
    batch_size: int,
    host_index: int = 0,
    host_count: int = 1,
    num_threads: int = 2,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """Returns all records of a split in order, as `image_batches` does, in rows of any kind.

    Args:
        maker: has the records as `source`; what `empty_batch` gives is padding until `write` fills
            it.
        batch_size, host_index, host_count, num_threads, prefetch: as in `image_batches`.

    Raises:
        ValueError: an argument is out of range.
        BrokenDataError: (from the iterator) a record is broken.
    """
    checks.check_hosts(batch_size, host_index, host_count)
    checks.check_loading(0, num_threads, prefetch)
    batches = _EvalBatch(
        maker,
        batch_size=batch_size,
        host_index=host_index,
        host_count=host_count,
        num_threads=num_threads,
    )
    dataset = grain.MapDataset.range(math.ceil(len(maker.source) / batch_size)).map(batches)
    return _without_reports(dataset, batches, prefetch)


def _without_reports(
    dataset: grain.MapDataset, maker: _EvalBatch, prefetch: int
) -> Iterator[Batch]:
    iterators = [start_batches(dataset, num_workers=0, prefetch=prefetch)]
    try:
        for batch, _ in iterators[0]:
            yield batch
    finally:
        close_batches(iterators, maker)


def text_batches(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    text_length: int,
    batch_size: int,
    host_index: int = 0,
    host_count: int = 1,
) -> Iterator[Batch]:
    """Returns all texts in order, as `image_batches` does the images.

    Args:
        texts: the texts.
        tokenizer: of `load_tokenizer`.
        text_length: T, tokens of a text with [CLS] and [SEP], at least 3; longer texts are cut, and
            counted in the log.
        batch_size, host_index, host_count: as in `image_batches`.

    Returns:
        An iterator of numpy batches: token_ids int32 [b, T], token_mask bool [b, T], index int32
        [b], valid bool [b]; padding is
        an empty text, its index 0 and valid False.

    Raises:
        ValueError: an argument is out of range.
    """
    checks.check_hosts(batch_size, host_index, host_count)
    checks.check_text(text_length, tokenizer)
    if not texts:
        raise ValueError("there are no texts to evaluate; give a split whose records have captions")
    return _text_batches(texts, tokenizer, text_length, batch_size, host_index, host_count)


def _text_batches(
    texts, tokenizer, text_length, batch_size, host_index, host_count
) -> Iterator[Batch]:
    local = batch_size // host_count
    cut = 0
    for number in range(math.ceil(len(texts) / batch_size)):
        rows = _eval_rows(
            len(texts), number, batch_size=batch_size, host_index=host_index, host_count=host_count
        )
        batch = {
            "token_ids": np.empty((local, text_length), np.int32),
            "token_mask": np.empty((local, text_length), np.bool_),
            "index": np.zeros(local, np.int32),
            "valid": np.arange(local) < len(rows),
        }
        batch["index"][: len(rows)] = rows
        for row in range(local):
            ids = (
                captions_lib.encode_cached(tokenizer, texts[rows[row]]).ids
                if row < len(rows)
                else ()
            )
            cut += captions_lib.pack_tokens(
                ids, tokenizer, batch["token_ids"][row], batch["token_mask"][row]
            ) < len(ids)
        yield batch
    if cut:
        _log.warning(
            "%d evaluation texts are longer than text_length=%d tokens and were cut",
            cut,
            text_length,
        )


def _eval_rows(
    total: int, number: int, *, batch_size: int, host_index: int, host_count: int
) -> range:
    """The rows of the split, of `total` rows, that one host has in one batch; fewer or none at the
    end.
    """
    local = batch_size // host_count
    start = number * batch_size + host_index * local
    return range(min(start, total), min(start + local, total))
