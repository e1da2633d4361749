"""Texts of which some words are hidden, replaced or left out: size augmentation of VSE-infinity."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from vlmo_jax.commands.config_errors import require
from vlmo_jax.input.text.masking import replacement_ids
from vlmo_jax.input.text.tokenizer import Encoding, Tokenizer

_HIDDEN = 0.5  # of the words that are drawn, those whose tokens all become [MASK]
_RANDOM = 0.1  # and those whose tokens become random ones; the rest is left out


def check_dropped(field: str, rate: float) -> None:
    """Raises ConfigError unless so many words, or regions, may be dropped.

    Args:
        field: of `config`, such as "data.dropped_words".
        rate: share of them.
    """
    require(0 <= rate < 1, f"config.{field}={rate} must be in [0, 1); 0: none")


@dataclasses.dataclass(frozen=True)
class WordDropping:
    """Draws what becomes of the words of texts.

    Args:
        tokenizer: of the texts, with a token that stands for a hidden one.
        rate: share of the words that are drawn, each on its own.

    Source: woodfrog/vse_infty, lib/datasets/image_caption.py, process_caption. Ours leaves a text
    as it is of which no token would be left.
    """

    tokenizer: Tokenizer
    rate: float

    @functools.cached_property
    def _random_ids(self) -> np.ndarray:
        return replacement_ids(self.tokenizer.vocab_size, list(self.tokenizer.special_tokens))

    def __call__(
        self, ids: Sequence[int], words: Sequence[int], rng: np.random.Generator
    ) -> Encoding:
        """The tokens of a text and their words, after some of the words were drawn.

        Args:
            ids, words: of an `Encoding`.
            rng: source of randomness.
        """
        tokens, of_word = np.asarray(ids, np.int32), np.asarray(words, np.int64)
        if not len(tokens):
            return Encoding(list(ids), list(words))
        fate = rng.random(int(of_word.max()) + 1)[of_word] / self.rate
        chosen = self._random_ids[rng.integers(len(self._random_ids), size=len(tokens))]
        hidden = self.tokenizer.mask_id
        assert hidden is not None  # see `check_masking_tokenizer`
        shown = np.where(fate < _HIDDEN + _RANDOM, chosen, tokens)
        shown = np.where(fate < _HIDDEN, hidden, shown)
        kept = (fate < _HIDDEN + _RANDOM) | (fate >= 1)
        if not kept.any():
            return Encoding(list(ids), list(words))
        shown = np.where(fate >= 1, tokens, shown)
        return Encoding(shown[kept].tolist(), of_word[kept].tolist())
