"""Rows of text with masked words, for masked language modelling with and without images."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlmo_jax.commands.config_errors import ConfigError, require
from vlmo_jax.input.schema import UNUSED, Batch, Column
from vlmo_jax.input.text import masking
from vlmo_jax.input.text.tokenizer import Tokenizer, check_text_length, check_vocabulary

_NUM_BERT_TOKENS = 5  # made-up tokens are none of them


def check_text_sizes(text_length: int, max_masked_tokens: int) -> None:
    """Raises ConfigError unless some, but not all tokens of a row can be masked.

    Args:
        text_length: `config.model.text_length`.
        max_masked_tokens: `config.data.max_masked_tokens`.
    """
    check_text_length(text_length)
    require(
        1 <= max_masked_tokens <= text_length - 2,
        f"config.data.max_masked_tokens={max_masked_tokens} must be in 1 .. text_length - 2 ="
        f" {text_length - 2}",
    )


def check_masking_tokenizer(tokenizer: Tokenizer) -> None:
    """Raises ConfigError unless a tokenizer has a token for hidden words, and others to hide."""
    check_vocabulary(tokenizer)
    _mask_id_of(tokenizer)


def _mask_id_of(tokenizer: Tokenizer) -> int:
    if tokenizer.mask_id is None:
        raise ConfigError(
            f"config.tokenizer={tokenizer.path} has no token that stands for a hidden one, which"
            " masked language modelling and config.data.dropped_words need; use a SentencePiece or"
            " BERT tokenizer"
        )
    return tokenizer.mask_id


@dataclasses.dataclass(frozen=True)
class TextRows:
    """Sizes of rows of text with masked words.

    Args:
        text_length: T, tokens of a row, those of its begin and end included.
        max_masked_tokens: M, the most tokens masked in a row.

    Raises:
        ConfigError: a size is impossible.
    """

    text_length: int
    max_masked_tokens: int

    def __post_init__(self) -> None:
        check_text_sizes(self.text_length, self.max_masked_tokens)

    @property
    def columns(self) -> dict[str, Column]:
        """token_mask bool [T], False on padding; mlm_token_ids int32 [T], of which some are masked;
        mlm_positions int32 [M], where, 0 where unused; mlm_labels int32 [M], what stood there, -1
        where unused.
        """
        tokens, masked = (self.text_length,), (self.max_masked_tokens,)
        return {
            "token_mask": Column(tokens, np.bool_),
            "mlm_token_ids": Column(tokens, np.int32),
            "mlm_positions": Column(masked, np.int32),
            "mlm_labels": Column(masked, np.int32, empty=UNUSED),
        }

    def synthetic(
        self, rows: int, rng: np.random.Generator, *, vocab_size: int = 0, first_row: int = 0
    ) -> Batch:
        """See `schema.Rows.synthetic`."""
        tokens = rng.integers(_NUM_BERT_TOKENS, vocab_size, (rows, self.text_length), np.int32)
        lengths = rng.integers(3, self.text_length + 1, (rows, 1))
        positions = np.arange(self.max_masked_tokens, dtype=np.int32) + 1
        return {
            "token_mask": np.arange(self.text_length) < lengths,
            "mlm_token_ids": tokens,
            "mlm_positions": np.broadcast_to(positions, (rows, len(positions))),
            "mlm_labels": tokens[:, positions],
        }


@dataclasses.dataclass(frozen=True)
class TextMasker:
    """Masks words of texts, and writes the result into rows.

    Args:
        tokenizer: of the texts.
        sizes: of the rows.
        mask_rate: share of the words that are masked.
        unit: of masking.UNITS.

    Raises:
        ConfigError: the share is impossible, or the tokenizer is not made for masking.
    """

    tokenizer: Tokenizer
    sizes: TextRows
    mask_rate: float
    unit: str = masking.WHOLE_WORDS

    def __post_init__(self) -> None:
        masking.check_mask_rate(self.mask_rate)
        check_masking_tokenizer(self.tokenizer)

    @functools.cached_property
    def _random_ids(self) -> np.ndarray:
        return masking.replacement_ids(
            self.tokenizer.vocab_size, tuple(self.tokenizer.special_tokens)
        )

    def write(
        self,
        batch: Batch,
        row: int,
        token_ids: np.ndarray,
        words: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        """Writes a masked copy of a row, and what was masked.

        Args:
            batch: with the columns of `TextRows`; all but token_mask are written.
            row: where to write.
            token_ids: int32 [T], the row.
            words: as in `masking.mask_whole_words`.
            rng: source of randomness.
        """
        sizes: dict[str, Any] = {
            "mask_id": _mask_id_of(self.tokenizer),
            "random_ids": self._random_ids,
            "mask_rate": self.mask_rate,
            "max_masked_tokens": self.sizes.max_masked_tokens,
        }
        if self.unit == masking.TOKENS:  # those of begin and end stand around the words
            masked = masking.mask_tokens(token_ids, len(words) + 2, rng, **sizes)
        else:
            masked = masking.mask_whole_words(token_ids, words, rng, **sizes)
        for name, values in zip(("token_ids", "positions", "labels"), masked, strict=True):
            batch[f"mlm_{name}"][row] = values
