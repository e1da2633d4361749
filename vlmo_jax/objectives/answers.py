"""Losses of heads that answer: scores of many answers (VQA), true or false (NLVR2).

Source: VLMo's official code, `compute_vqa` and `compute_nlvr2`.
"""

import jax
import jax.numpy as jnp
import optax


def dense_scores(answer_ids: jax.Array, scores: jax.Array, num_answers: int) -> jax.Array:
    """Scores of all answers from those that have one.

    Args:
        answer_ids: [B, N] int32, -1 where unused.
        scores: [B, N] float32 in [0, 1].
        num_answers: A.

    Returns:
        [B, A] float32.
    """
    one_hot = jax.nn.one_hot(answer_ids, num_answers, dtype=jnp.float32)
    return jnp.sum(one_hot * scores[..., None], axis=1)


def answer_losses(logits: jax.Array, scores: jax.Array) -> jax.Array:
    """Binary cross-entropies summed over the answers: the official mean over questions and answers
    times the number of answers is their mean over questions.

    Args:
        logits: [B, A] float32.
        scores: [B, A] float32 in [0, 1].

    Returns:
        [B] float32.
    """
    return optax.sigmoid_binary_cross_entropy(logits, scores).sum(-1)


def chosen_scores(logits: jax.Array, scores: jax.Array) -> jax.Array:
    """The scores of the likeliest answers, [B] float32; arguments as of `answer_losses`."""
    best = jnp.argmax(logits, axis=-1)
    return jnp.take_along_axis(scores, best[:, None], axis=1)[:, 0]


def truth_losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropies of whether statements are true.

    Args:
        logits: [B, 2] float32, false and true.
        labels: [B] int32, 1 true.

    Returns:
        [B] float32.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
