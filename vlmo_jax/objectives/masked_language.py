"""Masked language modelling (MLM), and masked image modelling (MIM), whose tokens are codes of
patches.

Source: BERT; BEiT; VLMo, section 3.2. Mean over the masked tokens of the batch.
"""

import jax
import jax.numpy as jnp

from vlmo_jax.input.schema import UNUSED


def masked_language_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy at masked places.

    Args:
        logits: [..., M, V] float32, computed at masked places only.
        labels: [..., M] int32 token ids, -1 where a place is unused.

    Returns:
        [..., M] float32, zero where unused.
    """
    used = labels != UNUSED
    log_probs = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probs, jnp.where(used, labels, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(used, -picked, 0.0)


def soft_language_loss(logits: jax.Array, soft: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of predicted tokens with what another model holds probable.

    Args:
        logits, soft: [..., M, V] float32, of the model and of the other one.
        labels: [..., M] int32, UNUSED where a place is not used.

    Returns:
        [..., M] float32, zero where unused.
    """
    losses = -(jax.nn.softmax(soft) * jax.nn.log_softmax(logits)).sum(-1)
    return jnp.where(labels != UNUSED, losses, 0.0)


def masked_language_accuracy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Of the used places of [..., M], which are predicted right: [..., M] float32."""
    return ((jnp.argmax(logits, axis=-1) == labels) & (labels != UNUSED)).astype(jnp.float32)


def count_masked(labels: jax.Array) -> jax.Array:
    """Masked tokens in labels [..., M] as float32, at least 1: what sums over masked tokens are
    divided by.
    """
    return jnp.maximum((labels != UNUSED).sum(), 1).astype(jnp.float32)


def masked_totals(logits: jax.Array, labels: jax.Array, name: str = "mlm") -> dict[str, jax.Array]:
    """Loss and accuracy summed over the masked places of a batch or of a part of one.

    Args:
        logits, labels: as in `masked_language_loss`.
        name: "mlm" or "mim".

    Returns:
        {"<name>_loss", "<name>_accuracy"}, scalars; `count_masked` is what they are divided by.
    """
    return {
        f"{name}_loss": masked_language_loss(logits, labels).sum(),
        f"{name}_accuracy": masked_language_accuracy(logits, labels).sum(),
    }


def masked_counts(labels: jax.Array, name: str = "mlm") -> dict[str, jax.Array]:
    """What `masked_totals` of a whole batch are divided by, given its labels [..., M]."""
    count = count_masked(labels)
    return {f"{name}_loss": count, f"{name}_accuracy": count}


def masked_sums(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Sums over the masked places of each row: [..., 3] float32, losses, right predictions and how
    many places there are.
    """
    values = (
        masked_language_loss(logits, labels),
        masked_language_accuracy(logits, labels),
        labels != UNUSED,
    )
    return jnp.stack([value.astype(jnp.float32).sum(-1) for value in values], axis=-1)
