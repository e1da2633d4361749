"""Writing captions: which tokens are hidden, and the loss of those that are predicted.

Source: BEiT-3 (arXiv 2208.10442) and its official captioning recipe; UniLM (arXiv 1905.03197).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.input.schema import UNUSED


class HiddenTokens(NamedTuple):
    """Captions with hidden tokens.

    Attributes:
        token_ids: [B, T] int32.
        labels: [B, T] int32, the token that stood at a hidden place, UNUSED at the others.
    """

    token_ids: jax.Array
    labels: jax.Array


def num_hidden(token_mask: jax.Array, rate: float) -> jax.Array:
    """How many tokens of captions are hidden: int32 [B].

    Args:
        token_mask: bool [B, T], True for real tokens.
        rate: share of the tokens behind the first; at least one is hidden where there is one.
    """
    written = token_mask.sum(-1) - 1
    hidden = jnp.round(rate * written).astype(jnp.int32)
    return jnp.clip(hidden, jnp.minimum(written, 1), written)


def hide_tokens(
    token_ids: jax.Array,
    token_mask: jax.Array,
    key: jax.Array,
    *,
    rate: float,
    mask_id: int,
    vocab_size: int,
) -> HiddenTokens:
    """Hides tokens at random: 80 % become the mask token, 10 % another, 10 % stay.

    Args:
        token_ids: int32 [B, T]: begin, words, end, padding. The first is never hidden; the end may
            be, so that a model learns where captions end.
        token_mask: bool [B, T].
        key: random key.
        rate: see `num_hidden`.
        mask_id: of the mask token.
        vocab_size: V, of which random tokens are drawn.
    """
    order_key, kind_key, word_key = jax.random.split(key, 3)
    may = jnp.asarray(token_mask).at[:, 0].set(False)
    drawn = jnp.where(may, jax.random.uniform(order_key, token_ids.shape), jnp.inf)
    rank = jnp.argsort(jnp.argsort(drawn, axis=-1), axis=-1)
    hidden = may & (rank < num_hidden(token_mask, rate)[:, None])
    kind = jax.random.uniform(kind_key, token_ids.shape)
    word = jax.random.randint(word_key, token_ids.shape, 0, vocab_size, token_ids.dtype)
    shown = jnp.where(kind < 0.8, mask_id, jnp.where(kind < 0.9, word, token_ids))
    return HiddenTokens(jnp.where(hidden, shown, token_ids), jnp.where(hidden, token_ids, UNUSED))


def next_tokens(token_ids: jax.Array, token_mask: jax.Array) -> jax.Array:
    """What stands behind each token: labels int32 [B, T], UNUSED behind the last real one."""
    following = jnp.roll(token_ids, -1, axis=1)
    is_real = jnp.roll(token_mask, -1, axis=1).at[:, -1].set(False)
    return jnp.where(is_real & token_mask, following, UNUSED)


def smoothed_losses(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Kullback-Leibler divergence of predicted words from smoothed labels.

    Args:
        logits: [..., V] float32.
        labels: [...] int32, UNUSED where there is none.
        smoothing: probability that is spread evenly over the V - 1 other words; 0: cross-entropy.

    Returns:
        [...] float32, zero where unused.
    """
    used = labels != UNUSED
    log_probs, others = jax.nn.log_softmax(logits), logits.shape[-1] - 1
    right = jnp.take_along_axis(log_probs, jnp.where(used, labels, 0)[..., None], axis=-1)[..., 0]
    losses = -(1 - smoothing) * right
    if smoothing:
        losses -= smoothing / others * (log_probs.sum(-1) - right)
        entropy = (1 - smoothing) * jnp.log1p(-smoothing) + smoothing * jnp.log(smoothing / others)
        losses += entropy
    return jnp.where(used, losses, 0.0)


def leave_out_worst(losses: jax.Array, used: jax.Array, share: jax.Array | float) -> jax.Array:
    """The losses [...] of the used places, 0 at the `share` of them with the largest ones."""
    kept = jnp.floor(used.sum() * (1 - jnp.asarray(share, jnp.float32)) + 1e-4)
    flat = jnp.where(used, losses, jnp.inf).reshape(-1)
    rank = jnp.argsort(jnp.argsort(flat)).reshape(losses.shape)
    return jnp.where(used & (rank < kept), losses, 0.0)
