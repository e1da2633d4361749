"""Kind `bert_wordpiece`: BERT's word pieces, rows of them, and whole words that are hidden."""

import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlmo_jax.input.text.captions import pack_tokens
from vlmo_jax.input.text.masking import take_words
from vlmo_jax.input.text.tokenizer import Tokenizer, WordPieceTokenizer
from vlmo_jax.interop.checks.reference import Arrays, Info


class OfficialWordPiece(WordPieceTokenizer):
    """Our tokenizer, but what spells a special token in a text is that token, as in the official
    one.

    Args:
        path: the vocabulary, a ".txt" file.

    Raises:
        ValueError: the vocabulary lacks a special token.
    """

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__(path)
        self._tokenizer.add_special_tokens(list(self.special_tokens.values()))


def check_wordpiece(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares tokens, ids and whole words of each text, rows of a fixed length, and which words
    are hidden when they are drawn in the order that is given.
    """
    vocabulary = info["vocabulary"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "vocab.txt"
        path.write_bytes("\n".join([*vocabulary, ""]).encode("utf-8"))
        tokenizer = OfficialWordPiece(path)
    for number, (text, *wanted) in enumerate(info["rows"]):
        encoding = tokenizer.encode(text)
        tokens = [vocabulary[token] for token in encoding.ids]
        row = [tokenizer.begin_id, *encoding.ids, tokenizer.end_id]
        ours = [tokens, row, whole_words(row, encoding.words, tokenizer)]
        report.compare_equal(f"rows/{number}", ours, wanted)
    for number, (text, length, wanted) in enumerate(info["truncated"]):
        token_ids, _, _ = packed_row(text, length, tokenizer)
        report.compare_equal(f"truncated/{number}", token_ids, wanted)
    for number, mask in enumerate(info["masks"]):
        _check_mask(f"masks/{number}", mask, tokenizer, report)


def _check_mask(name: str, mask: Info, tokenizer: Tokenizer, report: Any) -> None:
    token_ids, token_mask, words = packed_row(mask["text"], mask["max_length"], tokenizer)
    report.compare_equal(f"{name}/ids", token_ids, mask["ids"])
    report.compare_equal(f"{name}/attention_mask", token_mask, mask["attention_mask"])
    drawn = mask["words_in_drawn_order"]
    report.compare_equal(f"{name}/words", whole_words(token_ids, words, tokenizer), sorted(drawn))
    most = max(1, round(len(token_ids) * mask["probability"]))
    chosen = take_words(drawn, num_words=len(drawn), max_tokens=most)
    report.compare_equal(f"{name}/chosen", chosen, mask["chosen"])
    labelled = [i for i in chosen if token_ids[i] not in tokenizer.special_tokens]
    report.compare_equal(f"{name}/labelled", labelled, mask["labelled"])


def packed_row(
    text: str, length: int, tokenizer: Tokenizer
) -> tuple[list[int], list[bool], list[int]]:
    """A text in a row of `length` tokens: their ids, False on padding, and the number of each one's
    word, of all from position 1 on. The end and each padding is a word of its own.
    """
    encoding = tokenizer.encode(text)
    token_ids, token_mask = np.zeros(length, np.int32), np.zeros(length, np.bool_)
    kept = pack_tokens(encoding.ids, tokenizer, token_ids, token_mask)
    words = encoding.words[:kept]
    first = words[-1] + 1 if words else 0
    words = [*words, *range(first, first + length - 1 - kept)]
    return token_ids.tolist(), token_mask.tolist(), words


def whole_words(row: Sequence[int], words: Sequence[int], tokenizer: Tokenizer) -> list[list[int]]:
    """The positions in a row of the tokens of each word, begin and end being none.

    Args:
        row: ids of tokens, the begin first.
        words: for the tokens from position 1 on, the number of the word each belongs to.
        tokenizer: gives the ids of begin and end.
    """
    positions: dict[int, list[int]] = {}
    for position, word in enumerate(words, start=1):
        if row[position] not in (tokenizer.begin_id, tokenizer.end_id):
            positions.setdefault(word, []).append(position)
    return list(positions.values())
