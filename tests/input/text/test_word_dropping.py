"""Words are hidden, replaced or left out as whole words, at the rates of the original."""

import numpy as np

from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.input.text.word_dropping import WordDropping


def test_rates_are_those_of_the_original():
    tokenizer = load_tokenizer("emoji")
    drop, rng = WordDropping(tokenizer, 0.2), np.random.default_rng(0)
    words = [number // 2 for number in range(2000)]  # two tokens each
    ids = [100] * len(words)
    found = drop(ids, words, rng)
    tokens, kept = np.asarray(found.ids), np.asarray(found.words)
    left_out = 1 - len(set(found.words)) / 1000
    hidden = np.mean(tokens == tokenizer.mask_id) * len(tokens) / len(ids)
    changed = np.mean((tokens != 100) & (tokens != tokenizer.mask_id)) * len(tokens) / len(ids)
    assert abs(left_out - 0.08) < 0.03 and abs(hidden - 0.1) < 0.03 and abs(changed - 0.02) < 0.015
    for word in set(found.words):  # one fate for all tokens of a word
        own = tokens[kept == word]
        assert len(own) == 2 and len(set(own == tokenizer.mask_id)) == 1


def test_some_token_is_always_left():
    drop, rng = WordDropping(load_tokenizer("emoji"), 0.99), np.random.default_rng(0)
    for _ in range(200):
        assert drop([7], [0], rng).ids
    assert drop([], [], rng).ids == []
