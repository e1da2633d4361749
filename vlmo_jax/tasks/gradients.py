"""Gradients of a task over a batch: in one piece, or part by part with the update of the whole.

A SummedTask adds up the gradients of the parts. A ContrastiveTask, whose loss
compares each example with all others, goes through gradient caching, and so does an EncodedTask,
whose fused passes go on from what was encoded for the contrast. See protocols.py for all.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vlmo_jax.objectives.means import shares, weighted_total
from vlmo_jax.parallel.sharding import constrain
from vlmo_jax.tasks.protocols import (
    Build,
    ContrastiveTask,
    EncodedTask,
    Metrics,
    Prepared,
    SummedTask,
)


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
    grads, metrics = jax.lax.scan(accumulate, zeros, (_split_rows(batch, parts), jnp.arange(parts)))
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
    feature_key, fuse_key = _keys(model_key)

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

    def part_keys(number):
        return _keys(None if model_key is None else jax.random.fold_in(model_key, number))

    def part_features(params, part, number):
        feature_key, _ = part_keys(number)
        return task.features(build(params), part, feature_key)

    rows = _split_rows(batch, parts)
    features = jax.lax.map(lambda part: part_features(params, *part), (rows, numbers))
    features = jax.tree.map(lambda x: _join_rows(x) if x.ndim > 1 else x[0], features)

    def contrast(features):
        loss, negatives, metrics = task.contrast(features, batch, context, negatives_key)
        return loss, (negatives, metrics)

    (contrast_loss, (negatives, metrics)), slopes = jax.value_and_grad(contrast, has_aux=True)(
        features
    )
    # Every part sees the scalar features (temperatures) again: each carries its share of their
    # gradient.
    slopes = jax.tree.map(
        lambda g: _split_rows(g, parts) if g.ndim else jnp.full((parts,), g / parts), slopes
    )
    pairs = task.fused_pairs(batch, negatives)
    counts = task.counts(pairs)

    def accumulate(grads, inputs):
        part, part_pairs, part_slopes, number = inputs

        def loss(params):
            _, fuse_key = part_keys(number)
            sums = task.fused_sums(build(params), part_pairs, context, fuse_key)
            fused = weighted_total(sums, counts, task.weights)
            products = jax.tree.map(jnp.vdot, part_features(params, part, number), part_slopes)
            return fused + sum(jax.tree.leaves(products)), (fused, shares(sums, counts))

        part_grads, aux = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(jnp.add, grads, part_grads), aux

    zeros = jax.tree.map(jnp.zeros_like, params)
    inputs = (rows, _split_rows(pairs, parts), slopes, numbers)
    grads, aux = jax.lax.scan(accumulate, zeros, inputs)
    fused, fused_metrics = jax.tree.map(lambda x: x.sum(0), aux)
    return grads, {"loss": contrast_loss + fused, **metrics, **fused_metrics}


def encoded_gradients(
    task: EncodedTask, build: Build, params: Any, prepared: Prepared, key: jax.Array, parts: int
) -> tuple[Any, Metrics]:
    """Gradients of a task whose fused passes read what was encoded; arguments as
    `summed_gradients`.

    In parts: all are encoded first, then the contrast and, part by part, the fused passes give the
    slopes of what was encoded, with which each part is encoded once more.
    """
    model_key, negatives_key = jax.random.split(key)
    model_key = model_key if task.dropout else None
    batch, context = prepared.batch, prepared.context
    if parts == 1:
        feature_key, fuse_key = _keys(model_key)

        def loss(params):
            model = build(params)
            encoded = task.features(model, batch, feature_key)
            contrast, negatives, metrics = task.contrast(encoded, batch, context, negatives_key)
            states, rows = task.fused_rows(encoded, batch, negatives)
            sums, counts = (
                task.fused_sums(model, states, rows, context, fuse_key),
                task.counts(rows),
            )
            total = contrast + weighted_total(sums, counts, task.weights)
            return total, {"loss": total, **metrics, **shares(sums, counts)}

        return jax.grad(loss, has_aux=True)(params)

    def part_keys(number):
        return _keys(None if model_key is None else jax.random.fold_in(model_key, number))

    def encode(params, part, number):
        return task.features(build(params), part, part_keys(number)[0])

    inputs = _split_rows(batch, parts), jnp.arange(parts)
    encoded = jax.lax.map(lambda part: encode(params, *part), inputs)
    encoded = jax.tree.map(lambda x: _join_rows(x) if x.ndim > 1 else x[0], encoded)

    def contrast(encoded):
        loss, negatives, metrics = task.contrast(encoded, batch, context, negatives_key)
        return loss, (negatives, metrics)

    (contrast_loss, (negatives, metrics)), slopes = jax.value_and_grad(contrast, has_aux=True)(
        encoded
    )
    states, pull, rows = jax.vjp(
        lambda encoded: task.fused_rows(encoded, batch, negatives), encoded, has_aux=True
    )
    counts = task.counts(rows)

    def fuse(grads, inputs):
        states, rows, number = inputs

        def loss(params, states):
            key = part_keys(number)[1]
            sums = task.fused_sums(build(params), states, rows, context, key)
            return weighted_total(sums, counts, task.weights), shares(sums, counts)

        (loss_of_part, shared), (part_grads, part_slopes) = jax.value_and_grad(
            loss, argnums=(0, 1), has_aux=True
        )(params, states)
        return jax.tree.map(jnp.add, grads, part_grads), (loss_of_part, shared, part_slopes)

    zeros = jax.tree.map(jnp.zeros_like, params)
    passes = _split_rows(states, parts), _split_rows(rows, parts), jnp.arange(parts)
    grads, (fused, fused_metrics, state_slopes) = jax.lax.scan(fuse, zeros, passes)
    (fused_slopes,) = pull(jax.tree.map(_join_rows, state_slopes))
    slopes = jax.tree.map(jnp.add, slopes, fused_slopes)
    slopes = jax.tree.map(
        lambda g: _split_rows(g, parts) if g.ndim else jnp.full((parts,), g / parts), slopes
    )

    def encode_again(grads, inputs):
        part, part_slopes, number = inputs
        products = lambda params: sum(
            jax.tree.leaves(jax.tree.map(jnp.vdot, encode(params, part, number), part_slopes))
        )
        return jax.tree.map(jnp.add, grads, jax.grad(products)(params)), None

    rows_of_parts, numbers = inputs
    grads, _ = jax.lax.scan(encode_again, grads, (rows_of_parts, slopes, numbers))
    fused, fused_metrics = jax.tree.map(lambda x: x.sum(0), (fused, fused_metrics))
    return grads, {"loss": contrast_loss + fused, **metrics, **fused_metrics}


def _split_rows(tree: Any, parts: int) -> Any:
    """[B, ...] -> [parts, B / parts, ...], taking every parts-th row, so that each part lies on all
    shards.
    """
    return jax.tree.map(
        lambda x: constrain(x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), None, "batch"), tree
    )


def _join_rows(x: jax.Array) -> jax.Array:
    """The inverse of `_split_rows` for one array."""
    x = x.swapaxes(0, 1)
    return constrain(x.reshape(-1, *x.shape[2:]), "batch")


def _keys(key: jax.Array | None) -> tuple[jax.Array | None, jax.Array | None]:
    """Two keys of one, or none of none."""
    if key is None:
        return None, None
    first, second = jax.random.split(key)
    return first, second
