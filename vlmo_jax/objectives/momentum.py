"""Contrast with momentum vectors and queues of earlier ones, and soft targets.

Source: ALBEF, sections 3.2 and 3.3, and the official code. There each process has a queue and a
batch of its own; here both are those of the whole job.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vlmo_jax.parallel.sharding import all_gather, constrain


class Similarities(NamedTuple):
    """Rows of queries against the vectors of the batch and those of the queue, which lie apart: the
    first are split by rows, the second by columns.

    Attributes:
        batch: [B, B] float32; row i's positive is column i.
        queue: [B, Q] float32.
    """

    batch: jax.Array
    queue: jax.Array


def similarities(
    queries: jax.Array, vectors: jax.Array, queue: jax.Array, temperature: jax.Array
) -> Similarities:
    """Similarities over a temperature.

    Args:
        queries: [B, D] float32 of length 1.
        vectors: [B, D] of the batch, of the other modality.
        queue: [Q, D] of earlier batches.
        temperature: scalar.
    """
    highest = jax.lax.Precision.HIGHEST
    batch = jnp.matmul(queries, all_gather(vectors).T, precision=highest)
    earlier = jnp.matmul(all_gather(queries), queue.T, precision=highest)
    return Similarities(
        constrain(batch / temperature, "batch"), constrain(earlier / temperature, None, "batch")
    )


def log_probabilities(logits: Similarities) -> Similarities:
    """The logarithm of the softmax over both parts of each row."""
    top = jnp.maximum(logits.batch.max(1), logits.queue.max(1))
    top = jax.lax.stop_gradient(top)[:, None]
    total = sum(jnp.exp(part - top).sum(1, keepdims=True) for part in logits)
    return Similarities(*(part - top - jnp.log(total) for part in logits))


def distilled_targets(momentum: Similarities, alpha: jax.Array | float) -> Similarities:
    """What the momentum towers hold probable, times alpha, and the positive for the rest.

    Args:
        momentum: of queries of the momentum towers.
        alpha: 0 to 1.
    """
    batch, queue = (alpha * jnp.exp(part) for part in log_probabilities(momentum))
    return Similarities(batch + (1.0 - alpha) * jnp.eye(len(batch)), queue)


def soft_contrast(logits: Similarities, targets: Similarities) -> jax.Array:
    """The mean over rows of the cross-entropy with soft targets: scalar float32."""
    found = log_probabilities(logits)
    products = (part * target for part, target in zip(found, targets, strict=True))
    batch, queue = (product.sum(1) for product in products)
    return -(batch + queue).mean()


def enqueue(queue: jax.Array, vectors: jax.Array, pointer: jax.Array) -> jax.Array:
    """A queue of which the rows from `pointer` on hold the newest vectors.

    Args:
        queue: [Q, D].
        vectors: [B, D], B at most Q.
        pointer: int32, 0 to Q - 1; what goes beyond the end goes on at the start.
    """
    # Every shard picks what it needs of the batch, which is small, and keeps its rows of the queue.
    ages = (jnp.arange(len(queue)) - pointer) % len(queue)
    newest = jnp.take(all_gather(vectors), jnp.minimum(ages, len(vectors) - 1), axis=0)
    return constrain(jnp.where((ages < len(vectors))[:, None], newest, queue), "batch")


def moving_average(average: Any, params: Any, momentum: float) -> Any:
    """Of two trees, leaf by leaf: momentum * average + (1 - momentum) * params."""
    return jax.tree.map(lambda old, new: old * momentum + new * (1.0 - momentum), average, params)
