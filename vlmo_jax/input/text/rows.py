"""Rows of a fixed number of tokens from texts of any length: long ones in windows, short ones
packed together.

A row reads begin, piece, end, piece, end ... padding: [CLS] piece [SEP] piece [SEP] in the words of
BERT's tokenizers. Pieces are cut between words.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vlmo_jax.input.text.masking import NO_WORD
from vlmo_jax.input.text.tokenizer import Encoding, Tokenizer


def count_fitting(words: Sequence[int], size: int) -> int:
    """Returns how many of the first tokens make up the most whole words that fit into `size`
    tokens.

    Args:
        words: for each token of a text the running number of its word.
        size: 0 or more.
    """
    end = min(size, len(words))
    if end < len(words):
        while end and words[end] == words[end - 1]:
            end -= 1
    return end


def cut_windows(text: Encoding, size: int) -> list[Encoding]:
    """Cuts a text into windows of at most `size` tokens that together are the text.

    Args:
        text: its tokens; a text without any gives no window.
        size: at least 1.

    Returns:
        The windows in order, all but the last as long as whole words allow. A word longer than a
        window is cut.
    """
    windows, ids, words = [], text.ids, text.words
    while len(ids) > size:
        end = count_fitting(words, size) or size
        windows.append(Encoding(ids[:end], words[:end]))
        ids, words = ids[end:], words[end:]
    return [*windows, Encoding(ids, words)] if ids else windows


def fill_row(texts: Iterable[Encoding], room: int) -> Iterator[Encoding]:
    """Yields the texts that fit into the rest of a row one after the other, of the last one as many
    words as fit.

    Args:
        texts: read one by one, only as far as needed; those without tokens are passed over.
        room: tokens left in the row; each text takes one more, for the end after it.
    """
    if room <= 1:
        return
    for text in texts:
        if not text.ids:
            continue
        fitting = count_fitting(text.words, room - 1)
        if fitting:
            yield Encoding(text.ids[:fitting], text.words[:fitting])
        room -= fitting + 1
        if fitting < len(text.ids) or room <= 1:
            return


def pack_rows(texts: Iterable[Encoding], text_length: int) -> Iterator[list[Encoding]]:
    """Packs texts into rows so that each token is in one row.

    Args:
        texts: in the order in which they are packed. What of a text does not fit into a row begins
            the next one.
        text_length: T, at least 3.

    Yields:
        The pieces of a row.
    """
    pieces: list[Encoding] = []
    room = text_length - 1
    for ids, words in texts:
        while ids:
            end = count_fitting(words, room - 1) if room > 1 else 0
            if not end and not pieces:
                end = room - 1  # a word longer than a row
            if end:
                pieces.append(Encoding(ids[:end], words[:end]))
                ids, words, room = ids[end:], words[end:], room - end - 1
            if ids:
                yield pieces
                pieces, room = [], text_length - 1
    if pieces:
        yield pieces


def write_row(
    pieces: Sequence[Encoding], tokenizer: Tokenizer, token_ids: np.ndarray, token_mask: np.ndarray
) -> list[int]:
    """Writes one row of a batch.

    Args:
        pieces: that fit into it; none gives begin and end alone.
        tokenizer: gives the ids of the special tokens.
        token_ids: int32 [T], overwritten.
        token_mask: bool [T], overwritten: False on padding.

    Returns:
        For the tokens from position 1 on the word each belongs to, as `masking.mask_whole_words`
        takes it.
    """
    row, words, next_word = [tokenizer.begin_id], [], 0
    for piece in pieces:
        # The numbers of one piece follow those of the one before it, wherever they began.
        shift = next_word - piece.words[0]
        words += [word + shift for word in piece.words]
        next_word = words[-1] + 1
        words.append(NO_WORD)
        row += [*piece.ids, tokenizer.end_id]
    if not pieces:
        row.append(tokenizer.end_id)
    token_ids[: len(row)] = row
    token_ids[len(row) :] = tokenizer.pad_id
    token_mask[: len(row)] = True
    token_mask[len(row) :] = False
    return words
