"""Greedy and beam search for the likeliest text, as one loop of fixed shapes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.input.text.tokenizer import Tokenizer

# Of the latest tokens [B * K], the position behind them and a cache (a tree of arrays): logits
# [B * K, V] at that position, and the cache.
Step = Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
# Of a cache and rows [B * K]: the cache with these rows of it in the place of its own.
Reorder = Callable[[Any, jax.Array], Any]


class Written(NamedTuple):
    """Texts.

    Attributes:
        token_ids: [B, T] int32: begin, words, end, padding.
        score: [B] float32, the sum of logarithms of probabilities, over a power of the length.
    """

    token_ids: jax.Array
    score: jax.Array


class SpecialTokens(NamedTuple):
    """Ids of tokens that a search knows.

    Attributes:
        begin_id, end_id, pad_id: of what a text begins and ends with, and of what fills a row.
        mask_id: of what stands for a hidden token; None: there is none.
        unused: of tokens that no text has; the end is not among them.
    """

    begin_id: int
    end_id: int
    pad_id: int
    mask_id: int | None
    unused: tuple[int, ...]


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """What a search must know of a tokenizer."""
    return SpecialTokens(
        tokenizer.begin_id,
        tokenizer.end_id,
        tokenizer.pad_id,
        tokenizer.mask_id,
        tuple(sorted(set(tokenizer.special_tokens) - {tokenizer.end_id})),
    )


class _State(NamedTuple):
    """position; beams [B, K, T] with their sums [B, K]; the best ended text [B, T], its score [B],
    whether no other can be better [B]; the cache.
    """

    position: jax.Array
    beams: jax.Array
    sums: jax.Array
    best: jax.Array
    score: jax.Array
    done: jax.Array
    cache: Any


def beam_search(
    step: Step,
    reorder: Reorder,
    cache: Any,
    *,
    batch_size: int,
    beams: int,
    length: int,
    length_penalty: float,
    tokens: SpecialTokens,
) -> Written:
    """Searches texts with a high score: the sum of the logarithms of their probabilities, divided
    by (tokens with begin and end) ** length_penalty.

    Each step keeps the K likeliest texts that go on; one that ends while it is among the likeliest
    is kept if it has the best score. A row is done when none that goes on can have a better one,
    or, with one beam, when the likeliest token is the end.

    Args:
        step, reorder: see above.
        cache: of B * K rows, those of an example beside each other.
        batch_size: B.
        beams: K; 1 is greedy search.
        length: T, at which a text ends in any case: T - 2 tokens between begin and end.
        length_penalty: 0 or more; 0: none.
        tokens: special ones.

    Source: BEiT-3's official captioning. There, what reaches the greatest length ends with the
    probability of its last word, here with that of the end.
    """
    first = jnp.full((batch_size, beams, length), tokens.pad_id, jnp.int32)
    start = _State(
        position=jnp.int32(1),
        beams=first.at[:, :, 0].set(tokens.begin_id),
        # At first all beams are the same text: one goes on.
        sums=jnp.full((batch_size, beams), -jnp.inf).at[:, 0].set(0.0),
        best=first[:, 0],
        score=jnp.full((batch_size,), -jnp.inf),
        done=jnp.zeros((batch_size,), jnp.bool_),
        cache=cache,
    )

    def advance(state: _State) -> _State:
        latest = jax.lax.dynamic_index_in_dim(
            state.beams, state.position - 1, axis=2, keepdims=False
        )
        logits, cache = step(latest.reshape(-1), state.position, state.cache)
        log_probs = jax.nn.log_softmax(logits).at[:, list(tokens.unused)].set(-jnp.inf)
        sums = state.sums[:, :, None] + log_probs.reshape(batch_size, beams, -1)
        ends = sums[:, :, tokens.end_id]
        going_on = sums.at[:, :, tokens.end_id].set(-jnp.inf).reshape(batch_size, -1)
        next_sums, chosen = jax.lax.top_k(going_on, beams)
        parents, words = jnp.divmod(chosen, logits.shape[-1])

        is_last = state.position == length - 1
        ends = jnp.where(is_last | (ends >= next_sums[:, -1:]), ends, -jnp.inf)
        scores = ends / (state.position + 1.0) ** length_penalty
        better = (scores.max(axis=1) > state.score) & ~state.done
        ended = _take(state.beams, scores.argmax(axis=1)[:, None])[:, 0]
        ended = ended.at[:, state.position].set(tokens.end_id)
        score = jnp.where(better, scores.max(axis=1), state.score)
        # Sums only fall, and no text is longer than T.
        hopeless = score >= next_sums[:, 0] / float(length) ** length_penalty
        is_found = jnp.isfinite(score) if beams == 1 else hopeless

        rows = (jnp.arange(batch_size)[:, None] * beams + parents).reshape(-1)
        return _State(
            position=state.position + 1,
            beams=_take(state.beams, parents).at[:, :, state.position].set(words),
            sums=next_sums,
            best=jnp.where(better[:, None], ended, state.best),
            score=score,
            done=state.done | is_found,
            cache=reorder(cache, rows) if beams > 1 else cache,
        )

    goes_on = lambda state: (state.position < length) & ~state.done.all()
    found = jax.lax.while_loop(goes_on, advance, start)
    return Written(found.best, found.score)


def _take(beams, numbers):
    """Beams `numbers` [B, N] of [B, K, T]: [B, N, T]."""
    return jnp.take_along_axis(beams, numbers[:, :, None], axis=1)
