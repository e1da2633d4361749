"""Gradients of a task over a batch: in one piece, or part by part with the update of the whole.

A task is a frozen dataclass with

    prepare(batch, extra) -> (batch, shared)          no gradient; what every part needs of the whole batch
    loss(model, batch, shared, key) -> (loss, metrics)  of the batch or a part: its share of the whole batch's loss
    gradients                                         one of the functions below

The contrastive task of stage 3 has `features`, `contrast`, `negatives` and `fuse` in place of
`loss` (see tasks/pretrain.py): its loss is no sum over examples.
"""

import jax
import jax.numpy as jnp

from vlmo_jax.parallel.sharding import constrain


def summed_gradients(task, build, params, batch, shared, key, parts):
    """Gradients of a loss that is a sum of its parts' shares.

    Args:
        task: see above.
        build: params -> model.
        params: what to differentiate by.
        batch: mapping of [B, ...] arrays.
        shared: of `task.prepare`.
        key: random key.
        parts: how many parts the batch goes through the model in.

    Returns:
        Gradients like `params`, metrics name -> scalar.
    """

    def part_gradients(part, key):
        def loss(params):
            value, metrics = task.loss(build(params), part, shared, key)
            return value, {"loss": value, **metrics}

        grads, metrics = jax.grad(loss, has_aux=True)(params)
        return grads, metrics

    if parts == 1:
        return part_gradients(batch, key)

    def accumulate(grads, inputs):
        part, number = inputs
        part_grads, metrics = part_gradients(part, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, grads, part_grads), metrics

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, metrics = jax.lax.scan(accumulate, zeros, (_split_rows(batch, parts), jnp.arange(parts)))
    return grads, jax.tree.map(lambda x: x.sum(0), metrics)


def cached_gradients(task, build, params, batch, shared, key, parts):
    """Gradients of a task with a contrastive loss over the whole batch; arguments as
    `summed_gradients`.
    """
    model_key, negatives_key = jax.random.split(key)
    model_key = model_key if task.dropout else None
    if parts == 1:
        return _contrastive_gradients(task, build, params, batch, model_key, negatives_key)
    return _cached_gradients(task, build, params, batch, model_key, negatives_key, parts)


def _contrastive_gradients(task, build, params, batch, model_key, negatives_key):
    feature_key, fuse_key = _keys(model_key)

    def loss(params):
        model = build(params)
        contrast, shared, metrics = task.contrast(
            task.features(model, batch, feature_key), batch, negatives_key
        )
        pairs = {**batch, **task.negatives(batch, shared)}
        fused, fused_metrics = task.fuse(model, pairs, shared, len(batch["token_ids"]), fuse_key)
        return contrast + fused, {"loss": contrast + fused, **metrics, **fused_metrics}

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return grads, metrics


def _cached_gradients(task, build, params, batch, model_key, negatives_key, parts):
    """Gradient caching: features of all parts, their gradient from the whole-batch contrast, then
    part by part.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
    """
    batch_size = len(batch["token_ids"])
    numbers = jnp.arange(parts)

    def part_features(params, part, number):
        key, _ = _keys(None if model_key is None else jax.random.fold_in(model_key, number))
        return task.features(build(params), part, key)

    features = jax.lax.map(
        lambda part: part_features(params, *part), (_split_rows(batch, parts), numbers)
    )
    features = jax.tree.map(lambda x: _join_rows(x) if x.ndim > 1 else x[0], features)

    def contrast(features):
        loss, shared, metrics = task.contrast(features, batch, negatives_key)
        return loss, (shared, metrics)

    (contrast_loss, (shared, metrics)), cotangents = jax.value_and_grad(contrast, has_aux=True)(
        features
    )
    # Every part sees the scalar features (temperatures) again: each carries its share of their
    # gradient.
    cotangents = jax.tree.map(
        lambda g: _split_rows(g, parts) if g.ndim else jnp.full((parts,), g / parts), cotangents
    )
    pairs = _split_rows({**batch, **task.negatives(batch, shared)}, parts)

    def accumulate(grads, inputs):
        part, part_cotangents, number = inputs

        def loss(params):
            _, key = _keys(None if model_key is None else jax.random.fold_in(model_key, number))
            fused, fused_metrics = task.fuse(build(params), part, shared, batch_size, key)
            products = jax.tree.map(jnp.vdot, part_features(params, part, number), part_cotangents)
            return fused + sum(jax.tree.leaves(products)), (fused, fused_metrics)

        part_grads, aux = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(jnp.add, grads, part_grads), aux

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, aux = jax.lax.scan(accumulate, zeros, (pairs, cotangents, numbers))
    fused, fused_metrics = jax.tree.map(lambda x: x.sum(0), aux)
    return grads, {"loss": contrast_loss + fused, **metrics, **fused_metrics}


def _split_rows(tree, parts):
    """[B, ...] -> [parts, B / parts, ...], taking every parts-th row, so that each part lies on all
    shards.
    """
    return jax.tree.map(
        lambda x: constrain(x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), None, "batch"), tree
    )


def _join_rows(x):
    """The inverse of `_split_rows` for one array."""
    x = x.swapaxes(0, 1)
    return constrain(x.reshape(-1, *x.shape[2:]), "batch")


def _keys(key):
    return (None, None) if key is None else jax.random.split(key)
