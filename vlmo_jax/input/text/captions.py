"""The caption of an example, and its tokens at a fixed length."""

import functools
import zlib
from collections.abc import Sequence

import numpy as np

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets.records import Record
from vlmo_jax.input.text.tokenizer import Encoding, Tokenizer

CAPTION_MODES = ("text", "text_and_keywords")

# Share of the captions of "text_and_keywords" that look like those of evaluation, which are plain
# texts; keywords behind a text teach words that the short texts never use. Keywords without their
# text fit too many images and teach little.
_TEXT_ALONE = 0.8
_SEPARATOR = ", "


class NoCaptionError(UserError, ValueError):
    """A record without a caption."""


def check_captions(captions: str) -> None:
    """Raises ConfigError unless `config.data.captions` is a way to draw captions."""
    require(
        captions in CAPTION_MODES,
        f"config.data.captions={captions!r} is unknown; use one of"
        f" {', '.join(map(repr, CAPTION_MODES))}",
    )


def draw_caption(record: Record, mode: str, rng: np.random.Generator) -> str:
    """Draws one caption of a record.

    Args:
        record: with at least one text, or with keywords in mode "text_and_keywords".
        mode: "text": one of the record's texts. "text_and_keywords": with probability 0.8 one of
            the texts, else one of the texts followed by keywords, joined by commas. The keywords
            are a random subset, of any size from 1 to all with equal probability, in random order.
            A record without the one has the other.
        rng: source of randomness.

    Returns:
        The caption.

    Raises:
        NoCaptionError: the record has no caption of that kind.
    """
    keywords = record.keywords if mode == "text_and_keywords" else ()
    if not record.texts and not keywords:
        raise NoCaptionError(f"it has no caption for captions={mode!r}")
    parts = []
    if record.texts:
        parts.append(record.texts[int(rng.random() * len(record.texts))])
    if keywords and not (record.texts and rng.random() < _TEXT_ALONE):
        size = 1 + int(rng.random() * len(keywords))
        parts += [keywords[i] for i in rng.permutation(len(keywords))[:size]]
    return _SEPARATOR.join(parts)


@functools.lru_cache(maxsize=2**15)
def encode_cached(tokenizer: Tokenizer, text: str) -> Encoding:
    """Returns `tokenizer.encode(text)`, remembered for the latest texts: captions come back every
    epoch.
    """
    return tokenizer.encode(text)


def pack_tokens(
    ids: Sequence[int], tokenizer: Tokenizer, token_ids: np.ndarray, token_mask: np.ndarray
) -> int:
    """Writes a text's tokens between those of its begin and end, then padding, into a row.

    Args:
        ids: tokens of the text, without special ones.
        tokenizer: gives the ids of the special tokens.
        token_ids: int32 [T], overwritten.
        token_mask: bool [T], overwritten: False on padding.

    Returns:
        How many tokens of the text are in the row: all of them, or the first T - 2.
    """
    kept = min(len(ids), len(token_ids) - 2)
    token_ids[0] = tokenizer.begin_id
    token_ids[1 : kept + 1] = ids[:kept]
    token_ids[kept + 1] = tokenizer.end_id
    token_ids[kept + 2 :] = tokenizer.pad_id
    token_mask[: kept + 2] = True
    token_mask[kept + 2 :] = False
    return kept


def text_hash(text: str) -> int:
    """Returns a number below 2**32 that is the same for the same characters in every process."""
    return zlib.crc32(text.encode("utf-8"))
