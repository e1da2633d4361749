"""The triplet loss of VSE++ and VSE-infinity.

Source: woodfrog/vse_infty, lib/loss.py, ContrastiveLoss: a sum over the batch, not a mean.
"""

import jax
import jax.numpy as jnp


def triplet_losses(
    scores: jax.Array, margin: float, ignored: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """By how much each query's negatives come within a margin of its right answer.

    Args:
        scores: [B, B] float32 similarities, row = query, the i-th column right for the i-th row.
        margin: by which the right answer should be ahead.
        ignored: [B, B] bool, pairs that are no negatives, or None.

    Returns:
        [B] float32 twice: the sum over all negatives of a query, and the hardest one alone.
    """
    costs = jnp.maximum(margin + scores - jnp.diagonal(scores)[:, None], 0.0)
    no_negative = jnp.eye(len(scores), dtype=bool)
    no_negative = no_negative if ignored is None else no_negative | ignored
    costs = jnp.where(no_negative, 0.0, costs)
    # One of several that are equally hard gets the gradient, as in torch's max over an axis.
    hardest = jnp.take_along_axis(costs, jnp.argmax(costs, axis=1)[:, None], axis=1)[:, 0]
    return costs.sum(axis=1), hardest


def triplet_loss(
    image_to_text: jax.Array,
    text_to_image: jax.Array,
    margin: float,
    *,
    hardest: jax.Array | bool,
    ignored: jax.Array | None = None,
) -> jax.Array:
    """The loss of both ways, summed over the batch.

    Args:
        image_to_text, text_to_image: [B, B] float32 similarities, row = query.
        margin: see `triplet_losses`.
        hardest: scalar bool, whether the hardest negative of each query counts alone; it may be
            traced.
        ignored: [B, B] bool, pairs that are no negatives, symmetric, or None.

    Returns:
        Scalar float32.
    """
    ways = [triplet_losses(scores, margin, ignored) for scores in (image_to_text, text_to_image)]
    everyone, worst = (sum(losses.sum() for losses in kind) for kind in zip(*ways, strict=True))
    return jnp.where(hardest, worst, everyone)
