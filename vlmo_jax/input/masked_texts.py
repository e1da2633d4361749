"""Examples of masked language modelling on text alone (stage 2), for training and for evaluation."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from vlmo_jax.datasets import TextRecord
from vlmo_jax.input import checks, sampling
from vlmo_jax.input.attempts import (
    BrokenDataError,
    Report,
    UnusableRecordError,
    read_record,
    write_or_replace,
)
from vlmo_jax.input.pairs import Batch
from vlmo_jax.input.text import captions, masking
from vlmo_jax.input.text import rows as text_rows
from vlmo_jax.input.text.tokenizer import Encoding, Tokenizer


@dataclasses.dataclass(frozen=True)
class TrainTexts:
    """Makes the rows of the training stream, for `pipeline.stream_batches`.

    A row begins with the record that stands at its position and goes on with the records that
    follow it in the data set, until it is full. Thus each record begins a row once an epoch, and
    what a row cuts at its end is whole in another row. A record too long for a row is seen in
    windows, another one each epoch: after as many epochs as it has windows every word of it was
    there. What a row holds and which words of it are masked depend on (seed, position, index)
    alone.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        text_length: T, tokens of a row, at least 3.
        seed: 0 to 2**32 - 1.
        mask_rate: share of the words that are masked.
        max_masked_tokens: M, the most tokens masked in a row.
        packing: False leaves the rest of a row empty.

    Raises:
        ValueError: an argument is out of range.

    Source: VLMo, section 3.3, stage 2; packing as RoBERTa's FULL-SENTENCES.
    """

    source: Sequence[TextRecord]
    tokenizer: Tokenizer
    text_length: int
    seed: int
    mask_rate: float
    max_masked_tokens: int
    packing: bool = True

    def __post_init__(self):
        checks.check_text(self.text_length, self.tokenizer)
        checks.check_masking(self.mask_rate, self.max_masked_tokens)

    @functools.cached_property
    def _masker(self) -> "_Masker":
        return _Masker(self.tokenizer, self.mask_rate, self.max_masked_tokens)

    def empty_batch(self, rows: int) -> Batch:
        """Returns arrays for `rows` rows, not filled: token_ids, token_mask, mlm_token_ids [rows,
        T], mlm_positions, mlm_labels [rows, M] and text_id [rows], a hash of the id of the record
        that begins the row.
        """
        return self._masker.empty_batch(rows, self.text_length) | {
            "text_id": np.empty(rows, np.uint32)
        }

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes one row; broken records that should begin it give way to others, broken ones
        further on are passed over.

        Args:
            batch: of `empty_batch`.
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
        write = functools.partial(self._write, batch, row, position, further)
        return (
            write_or_replace(
                write, _Numbered(self.source), seed=self.seed, position=position, index=index
            )
            + further.report()
        )

    def _write(
        self,
        batch: Batch,
        row: int,
        position: int,
        further: "_Further",
        numbered: tuple[int, TextRecord],
        rng: np.random.Generator,
    ) -> int:
        index, record = numbered
        windows = text_rows.cut_windows(
            captions.encode_cached(self.tokenizer, record.text), self.text_length - 2
        )
        if not windows:
            raise UnusableRecordError(record.text_id, "it has no tokens")
        # Where a text begins its round of windows differs from text to text, or the first epoch
        # would see beginnings only.
        begin = captions.text_hash(f"{self.seed} {index}")
        number = (position // len(self.source) + begin) % len(windows)
        pieces = [windows[number]]
        if self.packing and number == len(windows) - 1:
            room = self.text_length - 1 - (len(pieces[0].ids) + 1)
            pieces += text_rows.fill_row(further.texts(index), room)
        self._masker.write(batch, row, pieces, rng)
        batch["text_id"][row] = captions.text_hash(record.text_id)
        return int(len(windows) > 1)


class _Numbered:
    """Records with their numbers."""

    def __init__(self, source: Sequence[TextRecord]):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> tuple[int, TextRecord]:
        return index, self._source[index]


class _Further:
    """The texts that fill a row after the one that begins it, and what was read for them."""

    def __init__(self, source: Sequence[TextRecord], tokenizer: Tokenizer):
        self._source, self._tokenizer = source, tokenizer
        self._seen, self._broken = 0, []

    def texts(self, index: int) -> Iterator[Encoding]:
        """The texts after record `index`, round the end of the data set, but not the record itself
        again.
        """
        for offset in range(1, len(self._source)):
            self._seen += 1
            try:
                record = read_record(self._source, (index + offset) % len(self._source))
            except UnusableRecordError as error:
                self._broken.append(error.args)
            else:
                yield captions.encode_cached(self._tokenizer, record.text)

    def report(self) -> Report:
        return Report(self._seen, tuple(self._broken))


class MaskedTexts:
    """All texts of a split in rows with fixed masks, each token in one row: what an evaluation
    scores.

    Args:
        source: the records; all of them are read and kept as rows.
        tokenizer, text_length, mask_rate, max_masked_tokens: as in `TrainTexts`.
        packing: False begins a row with each text; a long one takes several.
        seed: of the masks, which depend on it and on the number of the row alone.

    Raises:
        ValueError: an argument is out of range, or there are no tokens.
        BrokenDataError: a record cannot be read.
    """

    def __init__(
        self,
        source: Sequence[TextRecord],
        tokenizer: Tokenizer,
        *,
        text_length: int,
        mask_rate: float,
        max_masked_tokens: int,
        packing: bool = True,
        seed: int = 0,
    ):
        checks.check_text(text_length, tokenizer)
        checks.check_masking(mask_rate, max_masked_tokens)
        self._masker, self._text_length = (
            _Masker(tokenizer, mask_rate, max_masked_tokens),
            text_length,
        )
        encodings = (
            tokenizer.encode(_read_whole(source, index).text) for index in range(len(source))
        )
        if packing:
            rows = list(text_rows.pack_rows(encodings, text_length))
        else:
            rows = [
                [window]
                for text in encodings
                for window in text_rows.cut_windows(text, text_length - 2)
            ]
        if not rows:
            raise ValueError("there are no texts to evaluate; give a split that has some")
        self._rows = self._masker.empty_batch(len(rows), text_length)
        for number, pieces in enumerate(rows):
            self._masker.write(self._rows, number, pieces, sampling.example_rng(seed, number))

    def __len__(self) -> int:
        return len(self._rows["token_ids"])

    def batches(
        self, batch_size: int, *, host_index: int = 0, host_count: int = 1
    ) -> Iterator[Batch]:
        """Returns the rows in order, every host as many batches.

        Args:
            batch_size: rows of a batch over all hosts.
            host_index, host_count: which of how many equal slices of a batch this host gets; b =
                batch_size / host_count rows.

        Yields:
            The arrays of a training batch but text_id, index int32 [b] and valid bool [b]. Rows
            that are missing at the end are
            empty texts with no label, their index 0 and valid False.

        Raises:
            ValueError: an argument is out of range.
        """
        checks.check_hosts(batch_size, host_index, host_count)
        local = batch_size // host_count
        for start in range(
            host_index * local, -(-len(self) // batch_size) * batch_size, batch_size
        ):
            rows = range(min(start, len(self)), min(start + local, len(self)))
            batch = self._masker.empty_batch(local, self._text_length)
            for name, values in batch.items():
                values[: len(rows)] = self._rows[name][rows.start : rows.stop]
            for row in range(len(rows), local):
                self._masker.write(batch, row, [], sampling.example_rng(0, 0))
            index = np.zeros(local, np.int32)
            index[: len(rows)] = rows
            yield batch | {"index": index, "valid": np.arange(local) < len(rows)}


class _Masker:
    """Pieces of text to the arrays of one row."""

    def __init__(self, tokenizer: Tokenizer, mask_rate: float, max_masked_tokens: int):
        self._tokenizer = tokenizer
        self._options = dict(
            mask_id=tokenizer.mask_id,
            random_ids=masking.replacement_ids(tokenizer.vocab_size, tokenizer.special_ids),
            mask_rate=mask_rate,
            max_masked_tokens=max_masked_tokens,
        )

    def empty_batch(self, rows: int, text_length: int) -> Batch:
        tokens, masked = (rows, text_length), (rows, self._options["max_masked_tokens"])
        return {
            "token_ids": np.empty(tokens, np.int32),
            "token_mask": np.empty(tokens, np.bool_),
            "mlm_token_ids": np.empty(tokens, np.int32),
            "mlm_positions": np.empty(masked, np.int32),
            "mlm_labels": np.empty(masked, np.int32),
        }

    def write(
        self, batch: Batch, row: int, pieces: Sequence[Encoding], rng: np.random.Generator
    ) -> None:
        token_ids = batch["token_ids"][row]
        words = text_rows.write_row(pieces, self._tokenizer, token_ids, batch["token_mask"][row])
        batch["mlm_token_ids"][row], batch["mlm_positions"][row], batch["mlm_labels"][row] = (
            masking.mask_whole_words(token_ids, words, rng, **self._options)
        )


def _read_whole(source: Sequence[TextRecord], index: int) -> TextRecord:
    try:
        return read_record(source, index)
    except UnusableRecordError as error:
        raise BrokenDataError(
            f"{error.args[0]} of the evaluation data cannot be used ({error.args[1]}). An"
            " evaluation needs every record: build the data set anew"
        ) from error
