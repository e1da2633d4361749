"""What tokenizers give, and what is wrong with files that are none."""

from typing import NamedTuple

from vlmo_jax.datasets.errors import DataError


class TokenizerError(DataError):
    """A file that is no tokenizer, or not one that can be used here."""


class Encoding(NamedTuple):
    """The tokens of one text, without special tokens around them.

    Attributes:
        ids: token ids in [0, vocab_size).
        words: for each token the running number, from 0, of the whole word it belongs to.
    """

    ids: list[int]
    words: list[int]
