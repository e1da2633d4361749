"""A text in tokens, without masks: the columns of a batch, and writing into a row of it."""

import numpy as np

from vlmo_jax.input.schema import Batch, Column
from vlmo_jax.input.text import captions
from vlmo_jax.input.text.tokenizer import Tokenizer


def text_columns(text_length: int) -> dict[str, Column]:
    """Columns of a text: token_ids int32 [T] and token_mask bool [T]."""
    return {
        "token_ids": Column((text_length,), np.int32),
        "token_mask": Column((text_length,), np.bool_),
    }


def synthetic_texts(
    rows: int, text_length: int, rng: np.random.Generator, vocab_size: int
) -> Batch:
    """Made-up texts for benchmarks, all of full length."""
    shape = (rows, text_length)
    return {
        "token_ids": rng.integers(0, vocab_size, shape).astype(np.int32),
        "token_mask": np.ones(shape, np.bool_),
    }


def write_text(batch: Batch, row: int, text: str, tokenizer: Tokenizer, *, eager: bool) -> bool:
    """Writes the tokens of a text into a row; says whether it has all of them.

    Args:
        batch, row: where to write.
        text: a question or statement.
        tokenizer: of the texts.
        eager: whether the text comes back so often that its tokens are remembered.
    """
    ids = (captions.encode_cached(tokenizer, text) if eager else tokenizer.encode(text)).ids
    token_ids, token_mask = batch["token_ids"][row], batch["token_mask"][row]
    return captions.pack_tokens(ids, tokenizer, token_ids, token_mask) == len(ids)
