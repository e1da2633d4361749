"""What a task's sums and counts mean."""

import jax

from vlmo_jax.objectives.means import shares, weighted_total


def mean_losses(task, model, part, batch, seed=0):
    """The share that a part has in the loss of its batch, and in the metrics."""
    sums, counts = task.sums(model, part, (), jax.random.key(seed)), task.counts(batch)
    return weighted_total(sums, counts, task.weights), shares(sums, counts)
