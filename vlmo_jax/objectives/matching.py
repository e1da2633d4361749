"""Image-text matching (ITM) with hard negatives of the global batch.

Source: VLMo, section 3.2; ALBEF. Official `compute_itm_hardneg`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Draw(NamedTuple):
    """How hard negatives are drawn.

    Attributes:
        easier: similarities are multiplied by 1 less this before a draw.
        groups: consecutive parts of the batch, a divisor of it, within which negatives are drawn;
            0: the whole batch.
    """

    easier: float = 0.0
    groups: int = 0

    def elsewhere(self, rows: jax.Array, columns: jax.Array, size: int) -> jax.Array:
        """Whether rows [b] and columns [c] of a batch are of different groups: [b, c] bool."""
        length = size // max(1, self.groups)
        return rows[:, None] // length != columns[None] // length

    def soften(self, logits: jax.Array) -> jax.Array:
        """The logits that a draw goes by."""
        return (1 - self.easier) * logits if self.easier else logits


WHOLE_BATCH = Draw()


def sample_hard_negatives(
    key: jax.Array, logits: jax.Array, ignored: jax.Array | None = None, how: Draw = WHOLE_BATCH
) -> jax.Array:
    """Draws for each row a column other than its own, likelier the more similar it is.

    The draw is from the softmax of the row with the positive left out, made in log space: no
    temperature, however extreme, makes it NaN or the positive.

    Args:
        key: random key.
        logits: [B, B] float32, B >= 2; row i's positive is column i.
        ignored: [B, B] bool of pairs that are no negatives, or None. A row that has no other
            column left draws among all of its group but its own.
        how: see `Draw`.

    Returns:
        [B] int32.
    """
    excluded = jnp.eye(len(logits), dtype=bool)
    if how.groups:
        rows = jnp.arange(len(logits))
        excluded = excluded | how.elsewhere(rows, rows, len(logits))
    if ignored is not None:
        excluded = excluded | (ignored & ~(ignored | excluded).all(axis=1, keepdims=True))
    logits = jax.lax.stop_gradient(how.soften(logits).astype(jnp.float32))
    logits = jnp.where(excluded, -jnp.inf, jnp.nan_to_num(logits))
    # Sampling reads differences only: with the row's largest at zero, Gumbel noise is never rounded
    # away there.
    logits = logits - logits.max(axis=1, keepdims=True)
    return jax.random.categorical(key, logits, axis=1).astype(jnp.int32)


def matching_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropies of match logits.

    Args:
        logits: [..., 2] float32.
        labels: [...] int, 1 = matched.

    Returns:
        [...] float32.
    """
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1)[..., 0]
