"""Gradients of a task over a batch: in one piece, or part by part with the update of the whole.

A SummedTask adds up the gradients of the parts. A ContrastiveTask, whose loss
compares each example with all others, goes through gradient caching. See protocols.py for both; a
third kind has a room of its own, encoded_gradients.py.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.parallel.sharding import constrain
from vlmo_jax.tasks.protocols import Build, ContrastiveTask, Metrics, Prepared, SummedTask


def summed_gradients(
    task: SummedTask, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
) -> tuple[Any, Metrics]:
    """Gradients of a loss that is a sum over examples.

    Args:
        task: see protocols.py.
        build: params -> model.
        params: what to differentiate by.
        prepared: of `task.prepare`.
        key: random key.
        parts: how many parts the batch goes through the model in.

    Returns:
        Gradients like `params`, metrics name -> scalar.
    """
    batch, context = prepared.batch, prepared.context
    counts = task.counts(batch)

    def part_gradients(part, key):
        def loss(params):
            sums = task.sums(build(params), part, context, key)
            total = weighted_total(sums, counts, task.weights)
            return total, {"loss": total, **shares(sums, counts)}

        return jax.grad(loss, has_aux=True)(params)

    if parts == 1:
        return part_gradients(batch, key)

    def accumulate(grads, inputs):
        part, number = inputs
        part_grads, metrics = part_gradients(part, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, grads, part_grads), metrics

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, metrics = jax.lax.scan(accumulate, zeros, (split_rows(batch, parts), jnp.arange(parts)))
    return grads, jax.tree.map(lambda x: x.sum(0), metrics)


def contrastive_gradients(
    task: ContrastiveTask, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
) -> tuple[Any, Metrics]:
    """Gradients of a task with a contrastive loss over the whole batch; arguments as
    `summed_gradients`.
    """
    model_key, negatives_key = jax.random.split(key)
    model_key = model_key if task.dropout else None
    if parts == 1:
        return _whole_batch_gradients(task, build, params, prepared, model_key, negatives_key)
    return _cached_gradients(task, build, params, prepared, model_key, negatives_key, parts)


def _whole_batch_gradients(task, build, params, prepared, model_key, negatives_key):
    batch, context = prepared.batch, prepared.context
    feature_key, fuse_key = two_keys(model_key)

    def loss(params):
        model = build(params)
        features = task.features(model, batch, feature_key)
        contrast, negatives, metrics = task.contrast(features, batch, context, negatives_key)
        pairs = task.fused_pairs(batch, negatives)
        sums, counts = task.fused_sums(model, pairs, context, fuse_key), task.counts(pairs)
        total = contrast + weighted_total(sums, counts, task.weights)
        return total, {"loss": total, **metrics, **shares(sums, counts)}

    return jax.grad(loss, has_aux=True)(params)


def _cached_gradients(task, build, params, prepared, model_key, negatives_key, parts):
    """Gradient caching: features of all parts, their gradient from the whole-batch contrast, then
    part by part.

    A part's gradient is that of its fused losses and of <features, their gradient>, which is linear
    in the features with just the slope that the contrastive loss has there.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
    """
    batch, context = prepared.batch, prepared.context
    numbers = jnp.arange(parts)

    def parttwo_keys(number):
        return two_keys(None if model_key is None else jax.random.fold_in(model_key, number))

    def part_features(params, part, number):
        feature_key, _ = parttwo_keys(number)
        return task.features(build(params), part, feature_key)

    rows = split_rows(batch, parts)
    features = jax.lax.map(lambda part: part_features(params, *part), (rows, numbers))
    features = jax.tree.map(lambda x: join_rows(x) if x.ndim > 1 else x[0], features)

    def contrast(features):
        loss, negatives, metrics = task.contrast(features, batch, context, negatives_key)
        return loss, (negatives, metrics)

    (contrast_loss, (negatives, metrics)), slopes = jax.value_and_grad(contrast, has_aux=True)(
        features
    )
    # Every part sees the scalar features (temperatures) again: each carries its share of their
    # gradient.
    slopes = jax.tree.map(
        lambda g: split_rows(g, parts) if g.ndim else jnp.full((parts,), g / parts), slopes
    )
    pairs = task.fused_pairs(batch, negatives)
    counts = task.counts(pairs)

    def accumulate(grads, inputs):
        part, part_pairs, part_slopes, number = inputs

        def loss(params):
            _, fuse_key = parttwo_keys(number)
            sums = task.fused_sums(build(params), part_pairs, context, fuse_key)
            fused = weighted_total(sums, counts, task.weights)
            products = jax.tree.map(jnp.vdot, part_features(params, part, number), part_slopes)
            return fused + sum(jax.tree.leaves(products)), (fused, shares(sums, counts))

        part_grads, aux = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(jnp.add, grads, part_grads), aux

    zeros = jax.tree.map(jnp.zeros_like, params)
    inputs = (rows, split_rows(pairs, parts), slopes, numbers)
    grads, aux = jax.lax.scan(accumulate, zeros, inputs)
    fused, fused_metrics = jax.tree.map(lambda x: x.sum(0), aux)
    return grads, {"loss": contrast_loss + fused, **metrics, **fused_metrics}


def split_rows(tree: Any, parts: int) -> Any:
    """[B, ...] -> [parts, B / parts, ...], taking every parts-th row, so that each part lies on all
    shards.
    """
    return jax.tree.map(
        lambda x: constrain(x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), None, "batch"), tree
    )


def join_rows(x: jax.Array) -> jax.Array:
    """The inverse of `split_rows` for one array."""
    x = x.swapaxes(0, 1)
    return constrain(x.reshape(-1, *x.shape[2:]), "batch")


def two_keys(key: jax.Array | None) -> tuple[jax.Array | None, jax.Array | None]:
    """Two keys of one, or none of none."""
    if key is None:
        return None, None
    first, second = jax.random.split(key)
    return first, second
