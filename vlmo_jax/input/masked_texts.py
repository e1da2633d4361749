"""Examples of masked language modelling on text alone (stage 2), of training and of evaluation."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from vlmo_jax.datasets import TextRecord
from vlmo_jax.input import sampling
from vlmo_jax.input.attempts import (
    Report,
    UnusableRecordError,
    needed_record,
    read_record,
    write_or_replace,
)
from vlmo_jax.input.hosts import ALONE, Host
from vlmo_jax.input.schema import INDEX_COLUMNS, Batch, Column, empty_batch
from vlmo_jax.input.text import captions, masking
from vlmo_jax.input.text import rows as text_rows
from vlmo_jax.input.text.masked_rows import TextMasker, TextRows, check_masking_tokenizer
from vlmo_jax.input.text.tokenizer import Encoding, Tokenizer


@dataclasses.dataclass(frozen=True)
class MaskedTextExamples:
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    A row begins with the record that stands at its position and goes on with the records that
    follow it in its data set, until it is full. Thus each record begins a row once an epoch, and
    what a row cuts at its end is whole in another row. A record too long for a row is seen in
    windows, another one each epoch: after as many epochs as it has windows every word of it was
    there. What a row holds and which words of it are masked depend on (seed, position, index)
    alone.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        rows: sizes.
        seed: 0 to 2**32 - 1.
        mask_rate: share of the words that are masked.
        packing: False leaves the rest of a row empty.
        order: of the stream, which knows the sets that are mixed and their epochs; None: all
            records are one set.

    Raises:
        ConfigError: an argument is out of range.

    Source: VLMo, section 3.3, stage 2; packing as RoBERTa's FULL-SENTENCES.
    """

    source: Sequence[TextRecord]
    tokenizer: Tokenizer
    rows: TextRows
    seed: int
    mask_rate: float = 0.15
    packing: bool = True
    order: sampling.Order | None = None

    def __post_init__(self) -> None:
        masking.check_mask_rate(self.mask_rate)
        check_masking_tokenizer(self.tokenizer)

    @functools.cached_property
    def _masker(self) -> TextMasker:
        return TextMasker(self.tokenizer, self.rows, self.mask_rate)

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `TextRows`."""
        return self.rows.columns

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes one row; broken records that should begin it give way to others, broken ones
        further on are passed over.

        Args:
            batch: with the columns of this maker.
            row: where to write.
            position: of the row in the training stream.
            index: of the record that begins it.

        Returns:
            Records read, those of them that are broken, and as `truncated` 1 if the row begins with
            a window of a longer text.

        Raises:
            BrokenDataError: dozens of records in a row are broken.
        """
        further = _Further(self.source, self.tokenizer)
        begun = write_or_replace(
            functools.partial(self._write, batch, row, position, further),
            len(self.source),
            seed=self.seed,
            position=position,
            index=index,
        )
        return begun + further.report()

    def _write(
        self,
        batch: Batch,
        row: int,
        position: int,
        further: "_Further",
        index: int,
        rng: np.random.Generator,
    ) -> Report:
        record, text_length = read_record(self.source, index), self.rows.text_length
        text = captions.encode_cached(self.tokenizer, record.text)
        windows = text_rows.cut_windows(text, text_length - 2)
        if not windows:
            raise UnusableRecordError(record.text_id, "it has no tokens")
        # Where a text begins its round of windows differs from text to text, or the first epoch
        # would see beginnings only.
        begin = captions.text_hash(f"{self.seed} {index}")
        number = (self._epoch(position) + begin) % len(windows)
        pieces = [windows[number]]
        if self.packing and number == len(windows) - 1:
            used = 1 + len(pieces[0].ids) + 1  # with the tokens of the begin and of the end
            following = further.texts(index, self._records_with(index))
            pieces += text_rows.fill_row(following, text_length - used)
        _write_masked(batch, row, pieces, self._masker, rng)
        return Report(seen=1, texts=1, truncated=1 if len(windows) > 1 else 0)

    def _epoch(self, position: int) -> int:
        return self.order.epoch(position) if self.order else position // len(self.source)

    def _records_with(self, index: int) -> range:
        return self.order.records_with(index) if self.order else range(len(self.source))


class _Further:
    """The texts that fill a row after the one that begins it, and what was read for them."""

    def __init__(self, source: Sequence[TextRecord], tokenizer: Tokenizer) -> None:
        self._source, self._tokenizer = source, tokenizer
        self._seen = 0
        self._broken: list[tuple[str, str]] = []

    def texts(self, index: int, records: range) -> Iterator[Encoding]:
        """The texts after record `index` among `records`, round their end, but not the record
        itself again.
        """
        for offset in range(1, len(records)):
            self._seen += 1
            place = (index - records.start + offset) % len(records)
            try:
                record = read_record(self._source, records[place])
            except UnusableRecordError as error:
                self._broken.append(error.args)
            else:
                yield captions.encode_cached(self._tokenizer, record.text)

    def report(self) -> Report:
        return Report(self._seen, tuple(self._broken))


class EvalMaskedTexts:
    """All texts of a split in rows with fixed masks, each token in one row: what an evaluation
    scores.

    Args:
        source: the records; all of them are read and kept as rows.
        tokenizer: of `load_tokenizer`.
        rows: sizes.
        mask_rate: share of the words that are masked.
        packing: False begins a row with each text; a long one takes several.
        seed: of the masks, which depend on it and on the number of the row alone.

    Raises:
        ConfigError: an argument is out of range.
        ValueError: there are no tokens.
        BrokenDataError: a record cannot be read.
    """

    def __init__(
        self,
        source: Sequence[TextRecord],
        tokenizer: Tokenizer,
        rows: TextRows,
        *,
        mask_rate: float = 0.15,
        packing: bool = True,
        seed: int = 0,
    ) -> None:
        self.columns: dict[str, Column] = {**rows.columns, **INDEX_COLUMNS}
        self._masker = TextMasker(tokenizer, rows, mask_rate)
        packed = list(_rows_of_texts(_encodings(source, tokenizer), rows.text_length, packing))
        if not packed:
            raise ValueError("there are no texts to evaluate; give a split that has some")
        self._rows = empty_batch(rows.columns, len(packed))
        for number, pieces in enumerate(packed):
            rng = sampling.example_rng(seed, number)
            _write_masked(self._rows, number, pieces, self._masker, rng)

    def __len__(self) -> int:
        return len(self._rows["token_mask"])

    def batches(self, batch_size: int, host: Host = ALONE) -> Iterator[Batch]:
        """Returns the rows in order, every host as many batches.

        Args:
            batch_size: rows of a batch over all hosts.
            host: whose slice of each batch is made; b = batch_size / hosts rows.

        Yields:
            The columns of `TextRows`, index int32 [b] and valid bool [b]. Rows that are missing at
            the end are empty texts with no label, their index 0 and valid False.

        Raises:
            ValueError: the batch does not divide over the hosts.
        """
        local = host.rows_of(batch_size)
        for batch_number in range(math.ceil(len(self) / batch_size)):
            rows = host.positions_below(len(self), batch_number, batch_size)
            batch = empty_batch(self.columns, local)
            for name, values in self._rows.items():
                batch[name][: len(rows)] = values[rows.start : rows.stop]
            for row in range(len(rows), local):
                _write_masked(batch, row, [], self._masker, sampling.example_rng(0, 0))
            batch["index"][: len(rows)] = rows
            batch["valid"][: len(rows)] = True
            yield batch


def _encodings(source: Sequence[TextRecord], tokenizer: Tokenizer) -> Iterator[Encoding]:
    for index in range(len(source)):
        with needed_record(index):
            text = read_record(source, index).text
        yield tokenizer.encode(text)


def _rows_of_texts(
    encodings: Iterator[Encoding], text_length: int, packing: bool
) -> Iterator[list[Encoding]]:
    """The pieces of each row."""
    if packing:
        yield from text_rows.pack_rows(encodings, text_length)
        return
    for text in encodings:
        for window in text_rows.cut_windows(text, text_length - 2):
            yield [window]


def _write_masked(
    batch: Batch,
    row: int,
    pieces: Sequence[Encoding],
    masker: TextMasker,
    rng: np.random.Generator,
) -> None:
    """Writes one row of pieces of text, with some of their words masked."""
    token_ids = np.empty(masker.sizes.text_length, np.int32)
    words = text_rows.write_row(pieces, masker.tokenizer, token_ids, batch["token_mask"][row])
    masker.write(batch, row, token_ids, words, rng)
