"""Image-text contrast (ITC).

Source: VLMo, section 3.2; CLIP. Official `compute_itc`, whose gathered features carry no gradient
on several GPUs: its feature gradient is 1/world of the true one. Ours is the true gradient of the
global-batch loss on every mesh, equal to the official one on a single device.
"""

import jax
import jax.numpy as jnp

from vlmo_jax.parallel.sharding import all_gather, constrain


def contrastive_logits(
    image: jax.Array, text: jax.Array, logit_scale: jax.Array | float
) -> tuple[jax.Array, jax.Array]:
    """Scaled similarities of all pairs of the global batch.

    Each modality's features are gathered once over the batch axes of the mesh; the logits stay
    split by rows.

    Args:
        image, text: [B, D] float32 of length 1.
        logit_scale: logarithm of the scale.

    Returns:
        image-to-text and text-to-image logits, each [B, B] float32, row = query.
    """
    highest = jax.lax.Precision.HIGHEST
    scale = jnp.exp(logit_scale)
    image_to_text = scale * jnp.matmul(image, all_gather(text).T, precision=highest)
    text_to_image = scale * jnp.matmul(text, all_gather(image).T, precision=highest)
    return constrain(image_to_text, "batch"), constrain(text_to_image, "batch")


def contrastive_loss(
    image_to_text: jax.Array, text_to_image: jax.Array, ignored: jax.Array | None = None
) -> jax.Array:
    """Mean of both cross-entropies, the i-th text being right for the i-th image.

    Args:
        image_to_text, text_to_image: [B, B] float32 logits.
        ignored: [B, B] bool, pairs that are no negatives (see `duplicate_pairs`), or None.

    Returns:
        Scalar float32, the mean over the batch.
    """
    return 0.5 * (
        _diagonal_cross_entropy(image_to_text, ignored)
        + _diagonal_cross_entropy(text_to_image, ignored)
    )


def _diagonal_cross_entropy(logits, ignored):
    if ignored is not None:
        logits = jnp.where(ignored & ~jnp.eye(len(logits), dtype=bool), -jnp.inf, logits)
    return (jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)).mean()


def duplicate_pairs(image_id: jax.Array, text_id: jax.Array) -> jax.Array:
    """Pairs of rows with the same image or the same caption: false negatives of each other.

    Args:
        image_id, text_id: [B] integers.

    Returns:
        [B, B] bool, symmetric, True on the diagonal.
    """
    same_image = image_id[:, None] == all_gather(image_id)[None]
    return same_image | (text_id[:, None] == all_gather(text_id)[None])


def retrieval_accuracy(logits: jax.Array) -> jax.Array:
    """Share of rows of [B, B] logits whose largest entry is the diagonal one."""
    return (jnp.argmax(logits, axis=1) == jnp.arange(len(logits))).mean(dtype=jnp.float32)
