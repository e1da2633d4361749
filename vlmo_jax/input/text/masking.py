"""Masking of words, or of tokens one by one, for masked language modelling."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from vlmo_jax.commands.config_errors import require
from vlmo_jax.input.schema import UNUSED

NO_WORD = -1
_MASK_SHARE = 0.8
_RANDOM_SHARE = 0.1
# What `config.data.masking` may be: words with all their tokens, or tokens one by one.
WHOLE_WORDS, TOKENS = UNITS = ("whole_words", "tokens")


def check_mask_rate(mask_rate: float) -> None:
    """Raises ConfigError unless `config.data.mask_rate` masks some words and not all."""
    require(0 < mask_rate < 1, f"config.data.mask_rate={mask_rate} must be in (0, 1)")


def replacement_ids(vocab_size: int, special_ids: Sequence[int]) -> np.ndarray:
    """Returns the token ids that may stand in for a masked one: all but the special tokens, int32
    [N].
    """
    return np.setdiff1d(np.arange(vocab_size, dtype=np.int32), np.asarray(special_ids, np.int32))


def mask_whole_words(
    token_ids: np.ndarray,
    words: Sequence[int],
    rng: np.random.Generator,
    *,
    mask_id: int,
    random_ids: np.ndarray,
    mask_rate: float = 0.15,
    max_masked_tokens: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hides whole words of a packed text: all tokens of a word are chosen, or none.

    max(1, round(mask_rate * number of words)) words are drawn without replacement; one whose tokens
    would no longer fit is passed over for the next. Of the chosen tokens 80 % become `mask_id`,
    10 % a random token, 10 % stay as they are.

    Args:
        token_ids: int32 [T], the token of the begin and those of the text first.
        words: for the tokens from position 1 on, the word each belongs to, `NO_WORD` for a special
            token among them; tokens beyond the end of `words` and padding belong to none.
        rng: source of randomness.
        mask_id: id of the token that stands for a hidden one.
        random_ids: ids a random token is drawn from, int32 [N] (see `replacement_ids`).
        mask_rate: share of the words to choose, above 0 and up to 1.
        max_masked_tokens: M, the most tokens that can be chosen.

    Returns:
        The masked copy, int32 [T]; the positions of the chosen tokens in increasing order, int32
        [M], 0 where unused; the
        tokens that stood there, int32 [M], -1 where unused. All unused where no word fits, as in an
        empty text.

    Source: BERT's whole-word masking, as in VLMo section 3.2. The official data collator draws
    among the padding, too, and hides a share of all positions, so that short texts often have
    nothing hidden; and it never asks for a hidden token that is [UNK].
    """
    chosen = _choose_words(words, rng, mask_rate, max_masked_tokens)
    return _hide(token_ids, chosen, rng, mask_id, random_ids, max_masked_tokens)


def mask_tokens(
    token_ids: np.ndarray,
    length: int,
    rng: np.random.Generator,
    *,
    mask_id: int,
    random_ids: np.ndarray,
    mask_rate: float = 0.15,
    max_masked_tokens: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hides single tokens of a packed text, each with the same probability, the token of the end
    among them and that of the begin never.

    Of more than fit a random choice is hidden, and where none is drawn none is.

    Args:
        token_ids, rng, mask_id, random_ids, max_masked_tokens: as of `mask_whole_words`.
        length: tokens of the text, begin and end included; padding behind them is never hidden.
        mask_rate: probability of each token.

    Returns:
        As `mask_whole_words`.

    Source: the official `mask` of ALBEF, whose random tokens may be special ones, too.
    """
    drawn = 1 + np.flatnonzero(rng.random(length - 1) < mask_rate)
    if len(drawn) > max_masked_tokens:
        drawn = np.sort(rng.permutation(drawn)[:max_masked_tokens])
    return _hide(token_ids, drawn.tolist(), rng, mask_id, random_ids, max_masked_tokens)


def _hide(
    token_ids: np.ndarray,
    chosen: list[int],
    rng: np.random.Generator,
    mask_id: int,
    random_ids: np.ndarray,
    max_masked_tokens: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The masked copy, the positions and the labels of chosen tokens."""
    masked = token_ids.copy()
    positions = np.zeros(max_masked_tokens, np.int32)
    labels = np.full(max_masked_tokens, UNUSED, np.int32)
    count = len(chosen)
    if count:
        positions[:count] = chosen
        labels[:count] = token_ids[chosen]
        fate = rng.random(count)
        random_tokens = random_ids[rng.integers(len(random_ids), size=count)]
        shown = np.where(fate < _MASK_SHARE + _RANDOM_SHARE, random_tokens, labels[:count])
        masked[chosen] = np.where(fate < _MASK_SHARE, mask_id, shown)
    return masked, positions, labels


def _choose_words(
    words: Sequence[int], rng: np.random.Generator, mask_rate: float, max_masked_tokens: int
) -> list[int]:
    """Positions, counted from the token of the begin at 0, of all tokens of the drawn words."""
    tokens_of_word = collections.defaultdict(list)
    for position, word in enumerate(words, start=1):
        if word != NO_WORD:
            tokens_of_word[word].append(position)
    groups = list(tokens_of_word.values())
    drawn = (groups[index] for index in rng.permutation(len(groups)))
    return take_words(drawn, max(1, round(mask_rate * len(groups))), max_masked_tokens)


def take_words(words: Iterable[Sequence[int]], num_words: int, max_tokens: int) -> list[int]:
    """Takes words one by one; one whose tokens would no longer fit is passed over for the next.

    Args:
        words: the positions of the tokens of each, in the order in which they are drawn.
        num_words: the most words that are taken.
        max_tokens: the most tokens that are taken.

    Returns:
        The positions of the tokens that were taken, in increasing order.
    """
    chosen: list[int] = []
    for word in words:
        if not num_words:
            break
        if len(chosen) + len(word) <= max_tokens:
            chosen += word
            num_words -= 1
    return sorted(chosen)
