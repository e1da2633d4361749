"""Classification by shares of classes: what mixup, CutMix and label smoothing make of labels.

Source: timm's SoftTargetCrossEntropy and LabelSmoothingCrossEntropy, by which BEiT is fine-tuned:
with smoothed targets both are one.
"""

import jax
import jax.numpy as jnp


def smooth_targets(labels: jax.Array, num_classes: int, smoothing: float) -> jax.Array:
    """Shares of the classes: 1 - smoothing for the label, and `smoothing` spread evenly over all.

    Args:
        labels: [B] int32.
        num_classes: K.
        smoothing: in [0, 1).

    Returns:
        [B, K] float32.
    """
    one_hot = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    return one_hot * (1.0 - smoothing) + smoothing / num_classes


def class_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropies [B] float32 of logits with shares of the classes, both [B, K] float32."""
    return -(targets * jax.nn.log_softmax(logits)).sum(axis=-1)
