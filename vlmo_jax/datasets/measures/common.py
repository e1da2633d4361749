"""What measures of all kinds of records have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vlmo_jax.datasets import images

_MANY_UNKNOWN = 0.05  # of the tokens

# Of a text: tokens with [CLS] and [SEP], and how many of them are unknown.
CountTokens = Callable[[str], tuple[int, int]]


class TextMeasures(NamedTuple):
    """Measures of texts, a row a text.

    Attributes:
        words: int64 [texts].
        tokens: int64 [texts] with [CLS] and [SEP], None without a tokenizer.
        unknown: number of tokens that stand for letters which the tokenizer does not have.
    """

    words: np.ndarray
    tokens: np.ndarray | None
    unknown: int

    @classmethod
    def of(cls, texts: Sequence[str], count_tokens: CountTokens | None) -> "TextMeasures":
        """Measures texts."""
        words = np.array([len(text.split()) for text in texts], np.int64)
        if count_tokens is None:
            return cls(words, None, 0)
        counted = np.array([count_tokens(text) for text in texts], np.int64).reshape(-1, 2)
        return cls(words, counted[:, 0], int(counted[:, 1].sum()))

    def cells(self, text_length: int) -> list[str]:
        """Cells of a table: words, and with a tokenizer tokens, unknown ones, and cut texts."""
        if self.tokens is None:
            return [spread(self.words)]
        return [
            spread(self.words),
            spread(self.tokens),
            share_unknown(self.tokens, self.unknown),
            f"{np.mean(self.tokens > text_length) if len(self.tokens) else 0:.2%}",
        ]

    def warnings(self, split: str) -> list[str]:
        """As of `spelling_warnings`."""
        return spelling_warnings({split: (self.tokens, self.unknown)})

    def header(self, what: str, text_length: int) -> list[str]:
        """Heads of the columns of `cells`."""
        if self.tokens is None:
            return [f"words a {what}"]
        return [f"words a {what}", f"tokens a {what}", "unknown", f"cut at {text_length}"]


def share_unknown(tokens: np.ndarray, unknown: int) -> str:
    """Returns the share of unknown tokens of all, special ones around texts not counted.

    Args:
        tokens: int64 [texts], with special ones.
        unknown: number of unknown ones.
    """
    return f"{unknown / max(1, int(tokens.sum()) - 2 * len(tokens)):.2%}"


def spelling_warnings(measured: Mapping[str, tuple[np.ndarray | None, int]]) -> list[str]:
    """Returns lines about splits of which a tokenizer knows too little, with the cure.

    Args:
        measured: {split: arguments of `share_unknown`, None without a tokenizer}.
    """
    lines = []
    for split, (tokens, unknown) in measured.items():
        if tokens is None or unknown <= _MANY_UNKNOWN * (tokens.sum() - 2 * len(tokens)):
            continue
        lines.append(
            f"WARNING: the tokenizer cannot spell {share_unknown(tokens, unknown)} of the tokens of"
            f" {split}; train one on these texts with: python -m vlmo_jax.input.train_tokenizer"
        )
    return [*lines, ""] if lines else []


def spread(values: np.ndarray) -> str:
    """Returns smallest / median / 95 % / largest of whole numbers, "-" of none."""
    if not len(values):
        return "-"
    smallest, median, high, largest = (
        np.percentile(values, (0, 50, 95, 100), method="nearest").astype(int).tolist()
    )
    return f"{smallest:,} / {median:,} / {high:,} / {largest:,}"


def read_header(data: bytes) -> tuple[str, tuple[int, int] | None]:
    """Returns format and size of an image file, "unreadable" and None if it has none."""
    try:
        return images.read_header(data)
    except images.BrokenImageError:
        return "unreadable", None
