"""Kind `clip_bpe`: the ids that CLIP's tokenizers give texts."""

from collections.abc import Sequence
from typing import Any

import ftfy
import numpy as np
import tokenizers

from vlmo_jax.input.text.byte_pairs import BEGIN, END, WORDS, BytePairTokenizer, clean
from vlmo_jax.input.text.captions import pack_tokens
from vlmo_jax.input.text.encoding import Encoding
from vlmo_jax.input.text.tokenizer import EMBEDDED
from vlmo_jax.interop.checks.reference import Arrays, Info

LENGTH = 77
# How OpenAI's tokenizer spells the special tokens.
OPENAI = ("<|startoftext|>", "<|endoftext|>")


class OfficialBytePairs(BytePairTokenizer):
    """Our tokenizer, but what spells a special token in a text is that token, as in theirs.

    Args:
        spellings: of begin and end.
    """

    def __init__(self, spellings: Sequence[str] = (BEGIN, END)) -> None:
        super().__init__(EMBEDDED["clip"])
        self._ids = dict(zip(spellings, (self.begin_id, self.end_id), strict=True))
        marks = "|".join(spelling.replace("|", r"\|") for spelling in spellings)
        words = tokenizers.Regex(WORDS.replace("(?i)", f"(?i){marks}|"))
        self._split = tokenizers.pre_tokenizers.Split(words, "removed", invert=True)

    def encode(self, text: str) -> Encoding:
        """See `Tokenizer.encode`; each word is one of a kind."""
        ids: list[int] = []
        for word, _ in self._split.pre_tokenize_str(clean(text)):
            ids += [self._ids[word]] if word in self._ids else super().encode(word).ids
        return Encoding(ids, list(range(len(ids))))


def check_byte_pairs(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares ids of texts in rows of 77 and of other lengths, the merges themselves, and which
    texts are mended before.
    """
    tokenizer, openai = OfficialBytePairs(), OfficialBytePairs(OPENAI)
    merges = {"sha256": tokenizer.fingerprint, "bytes": len(tokenizer.contents)}
    report.compare_equal("merges_file", merges, info["merges_file"])
    lengths = []
    for number, (text, *wanted) in enumerate(info["rows"]):
        lengths.append(2 + len(tokenizer.encode(text).ids))
        row = packed(text, LENGTH, tokenizer)[: min(lengths[-1], LENGTH)]
        report.compare_equal(f"rows/{number}", [lengths[-1], row], wanted)
    cut = sum(length > LENGTH for length in lengths)
    report.compare_equal("rows_cut", cut, info["sensitivity_rows_changed"]["rows_cut"])
    for number, (text, length, wanted) in enumerate(info["short"]):
        report.compare_equal(f"short/{number}", packed(text, length, tokenizer), wanted)
    for number, (text, wanted) in enumerate(info["openai_differs"]):
        row = packed(text, LENGTH, openai)[: len(openai.encode(text).ids) + 2]
        report.compare_equal(f"openai_differs/{number}", row, wanted)
    mended = [text for text, *_ in info["rows"] if ftfy.fix_text(text) != text]
    report.compare_equal("ftfy_changes", mended, info["ftfy_changes"])


def packed(text: str, length: int, tokenizer: BytePairTokenizer) -> list[int]:
    """A text in a row of `length` tokens."""
    token_ids, token_mask = np.zeros(length, np.int32), np.zeros(length, np.bool_)
    pack_tokens(tokenizer.encode(text).ids, tokenizer, token_ids, token_mask)
    return token_ids.tolist()
