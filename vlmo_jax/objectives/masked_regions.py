"""Masked regions: what they are, of soft classes, or what their features were.

Source: ViLBERT, arXiv 1908.02265, section 2.2; the official `BertForMultiModalPreTraining`, where
`visual_target` is 0 for classes and 1 for features.
"""

import jax
import jax.numpy as jnp


def class_losses(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Kullback-Leibler divergences from soft classes to predictions: sum of t (log t - log p).

    Args:
        logits: [..., C] float32.
        classes: [..., C] float32, 0 or more, each region's sum 1; where all are 0 the loss is 0.

    Returns:
        [...] float32.
    """
    entropy = jax.scipy.special.xlogy(classes, classes)
    return (entropy - classes * jax.nn.log_softmax(logits)).sum(-1)


def feature_losses(predicted: jax.Array, features: jax.Array) -> jax.Array:
    """Squared errors, mean over the numbers of a feature.

    Args:
        predicted, features: [..., F] float32.

    Returns:
        [...] float32.
    """
    return jnp.square(predicted - features).mean(-1)


def over_masked(losses: jax.Array, masked: jax.Array) -> jax.Array:
    """Sum of the losses [B, R] of masked regions [B, R] bool: a scalar."""
    return jnp.where(masked, losses, 0.0).sum()


def count_masked_regions(masked: jax.Array) -> jax.Array:
    """Masked regions of [B, R] bool as float32, at least 1: what sums over them are divided by."""
    return jnp.maximum(masked.sum(), 1).astype(jnp.float32)
