"""Batches for evaluation: every record of a split once and in order, the last batch padded."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence

import grain
import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.input.attempts import Report
from vlmo_jax.input.hosts import ALONE, Host
from vlmo_jax.input.pipeline import (
    DEFAULT_LOADING,
    BatchMaker,
    Loading,
    RowMaker,
    close_batches,
    start_batches,
)
from vlmo_jax.input.plain_images import EvalImages, ImageRows
from vlmo_jax.input.schema import INDEX_COLUMNS, Batch, Column, empty_batch
from vlmo_jax.input.text import captions as captions_lib
from vlmo_jax.input.text.tokenizer import Tokenizer, check_text_length, check_vocabulary
from vlmo_jax.input.workers import explaining_workers

_log = logging.getLogger(__name__)


class _EvalBatch(BatchMaker):
    """Batch number to the rows of one host."""

    def __init__(self, maker: RowMaker, batch_size: int, host: Host, num_threads: int) -> None:
        super().__init__(maker, num_threads)
        self._total = len(maker.source)
        self._batch_size, self._host = batch_size, host

    def __call__(self, number: int) -> tuple[Batch, Report]:
        rows = self._host.positions_below(self._total, number, self._batch_size)
        return self.make(self._host.rows_of(self._batch_size), rows, rows)


def image_batches(
    source: Sequence[Record],
    *,
    image_size: int,
    batch_size: int,
    host: Host = ALONE,
    loading: Loading = DEFAULT_LOADING,
) -> Iterator[Batch]:
    """Returns all images of a split in order, resized to squares without regard to their aspect
    ratio.

    Batch k covers rows [k * batch_size, (k + 1) * batch_size) of the split, and each host gets its
    slice of it. Every host gets as many batches; what is missing at the end is padding.

    Args:
        source: the records.
        image_size: S, side of the images in pixels.
        batch_size: rows of a batch over all hosts.
        host: whose slice of each batch is made; b = batch_size / hosts rows.
        loading: by how many processes and threads.

    Returns:
        An iterator of numpy batches: image uint8 [b, S, S, 3], index int32 [b] (row in the split),
        valid bool [b]; padding is
        black, its index 0 and valid False.

    Raises:
        ValueError: an argument is out of range.
        BrokenDataError: (from the iterator) an image is broken.
    """
    maker = EvalImages(source, ImageRows(image_size))
    return split_batches(maker, batch_size=batch_size, host=host, loading=loading)


def split_batches(
    maker: RowMaker,
    *,
    batch_size: int,
    host: Host = ALONE,
    loading: Loading = DEFAULT_LOADING,
) -> Iterator[Batch]:
    """Returns all records of a split in order, as `image_batches` does, in rows of any kind.

    Args:
        maker: has the records as `source`; a row in which it writes nothing is padding.
        batch_size, host, loading: as in `image_batches`.

    Raises:
        ValueError: an argument is out of range.
        BrokenDataError: (from the iterator) a record is broken.
    """
    host.rows_of(batch_size)  # refuses a batch that does not divide over the hosts
    batches = _EvalBatch(maker, batch_size, host, loading.num_threads)
    dataset = grain.MapDataset.range(math.ceil(len(maker.source) / batch_size)).map(batches)
    return _without_reports(dataset, batches, maker.columns, host.rows_of(batch_size), loading)


def _without_reports(
    dataset: grain.MapDataset,
    maker: _EvalBatch,
    columns: Mapping[str, Column],
    rows: int,
    loading: Loading,
) -> Iterator[Batch]:
    iterators = [start_batches(dataset, loading, columns, rows)]
    try:
        while True:
            with explaining_workers():
                made = next(iterators[0], None)
            if made is None:
                return
            yield made[0]
    finally:
        close_batches(iterators, maker, loading.num_workers)


def text_batches(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    text_length: int,
    batch_size: int,
    host: Host = ALONE,
) -> Iterator[Batch]:
    """Returns all texts in order, as `image_batches` does the images.

    Args:
        texts: the texts.
        tokenizer: of `load_tokenizer`.
        text_length: T, tokens of a text with those of its begin and end, at least 3; longer texts
            are cut, and counted in the log.
        batch_size, host: as in `image_batches`.

    Returns:
        An iterator of numpy batches: token_ids int32 [b, T], token_mask bool [b, T], index int32
        [b], valid bool [b]; padding is
        an empty text, its index 0 and valid False.

    Raises:
        ValueError: an argument is out of range.
    """
    host.rows_of(batch_size)  # refuses a batch that does not divide over the hosts
    check_text_length(text_length)
    check_vocabulary(tokenizer)
    if not texts:
        raise ValueError("there are no texts to evaluate; give a split whose records have captions")
    return _text_batches(texts, tokenizer, text_length, batch_size, host)


def _text_batches(
    texts: Sequence[str], tokenizer: Tokenizer, text_length: int, batch_size: int, host: Host
) -> Iterator[Batch]:
    columns = {
        "token_ids": Column((text_length,), np.int32),
        "token_mask": Column((text_length,), np.bool_),
        **INDEX_COLUMNS,
    }
    local, cut = host.rows_of(batch_size), 0
    for number in range(math.ceil(len(texts) / batch_size)):
        rows = host.positions_below(len(texts), number, batch_size)
        batch = empty_batch(columns, local)
        batch["index"][: len(rows)] = rows
        batch["valid"][: len(rows)] = True
        encoded = [captions_lib.encode_cached(tokenizer, texts[row]).ids for row in rows]
        encoded += [[]] * (local - len(rows))
        for row, ids in enumerate(encoded):
            token_ids, token_mask = batch["token_ids"][row], batch["token_mask"][row]
            if captions_lib.pack_tokens(ids, tokenizer, token_ids, token_mask) < len(ids):
                cut += 1
        yield batch
    if cut:
        _log.warning(
            "%d evaluation texts are longer than text_length=%d tokens and were cut",
            cut,
            text_length,
        )
