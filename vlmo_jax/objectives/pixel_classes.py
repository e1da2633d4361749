"""Segmentation: cross-entropy of the classes of pixels, of which some have no label.

Source: mmsegmentation 0.11 (label 255 left out), as BEiT is trained with.
"""

import jax
import jax.numpy as jnp

from vlmo_jax.datasets.masks import IGNORED


def pixel_losses(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The cross-entropies of all labelled pixels, and how many have their class as the likeliest:
    sums, float32.

    Args:
        logits: [B, H, W, K] float32.
        labels: [B, H, W] integers, classes or IGNORED.
    """
    labels = labels.astype(jnp.int32)
    labelled = labels != IGNORED
    classes = jnp.where(labelled, labels, 0)
    own = jnp.take_along_axis(logits, classes[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - own
    right = labelled & (jnp.argmax(logits, axis=-1) == classes)
    return jnp.where(labelled, losses, 0.0).sum(), right.sum().astype(jnp.float32)
