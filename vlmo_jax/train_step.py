"""One update: (state, batch) -> (state, metrics), jitted once over the mesh.

A step is a pure function of the state and the batch. Its randomness is keyed by (seed, step), so a
restart needs no random state beside the step.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from vlmo_jax.sharding import batch_sharding, constrain, param_shardings, replicated


@flax.struct.dataclass
class TrainState:
    """Everything that an update reads and writes.

    `params` and the moments in `opt_state` are pure nested dicts of float32 arrays. `extra` has
    room for other state, such as averaged parameters or feature queues.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    extra: Any


def abstract_model(make_model):
    """Shapes of a model without its memory.

    Args:
      make_model: function of nnx.Rngs that returns the module.

    Returns:
      graphdef, and the nnx.State whose Variables carry shapes and logical axes.
    """
    graphdefs = []

    def split():
        with nnx.use_eager_sharding(False):
            graphdef, state = nnx.split(make_model(nnx.Rngs(0)))
        graphdefs.append(graphdef)
        return state

    # Not nnx.eval_shape: under a mesh it reads our logical axes as mesh axes.
    abstract_state = jax.eval_shape(split)
    return graphdefs[-1], abstract_state


def state_shardings(abstract_params, optimizer, mesh):
    """Shardings of a TrainState: moments lie where their parameters lie, the rest is replicated.

    Args:
      abstract_params: nnx.State from `abstract_model`.
      optimizer: optax transformation.
      mesh: the mesh.
    """
    params = param_shardings(abstract_params, mesh)
    by_path = {tuple(map(str, path)): s for path, s in nnx.traversals.flatten_mapping(params).items()}
    opt_state = jax.eval_shape(optimizer.init, nnx.to_pure_dict(abstract_params))

    def sharding_of(path, leaf):
        keys = tuple(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
        return by_path.get(keys, replicated(mesh))

    moments = jax.tree_util.tree_map_with_path(sharding_of, opt_state)
    return TrainState(step=replicated(mesh), params=params, opt_state=moments, extra={})


def init_state(make_model, optimizer, seed, shardings):
    """Initialises a TrainState directly in its shards; the same values on every mesh."""

    def init():
        with nnx.use_eager_sharding(False):
            params = nnx.to_pure_dict(nnx.state(make_model(nnx.Rngs(seed))))
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), {})

    return jax.jit(init, out_shardings=shardings)()


def make_train_step(task, graphdef, optimizer, schedule, *, seed, mesh, shardings, dropout=True, accumulation=1):
    """Builds the jitted step.

    Args:
      task: has `features`, `contrast`, `negatives` and `fuse` (see tasks/pretrain.py).
      graphdef: of the model.
      optimizer, schedule: see optimizer.py.
      seed: of dropout, drop-path and hard negatives.
      mesh: the mesh; the jitted function must run inside `jax.set_mesh(mesh)`.
      shardings: TrainState of shardings; the state is donated.
      dropout: whether dropout and drop-path draw anything.
      accumulation: parts in which the batch goes through the model; the update is that of the
        whole batch, with the contrastive loss and the negatives over all of it.

    Returns:
      (TrainState, batch of [B, ...] arrays) -> (TrainState, metrics name -> scalar).
    """

    def step(state, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        model_key, negatives_key = jax.random.split(key)
        model_key = model_key if dropout else None
        if accumulation == 1:
            grads, metrics = _gradients(task, graphdef, state.params, batch, model_key, negatives_key)
        else:
            grads, metrics = _accumulated_gradients(
                task, graphdef, state.params, batch, model_key, negatives_key, accumulation
            )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics["grad_norm"] = optax.tree.norm(grads)
        metrics["learning_rate"] = schedule(state.step)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state, state.extra), metrics

    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def _gradients(task, graphdef, params, batch, model_key, negatives_key):
    feature_key, fuse_key = _keys(model_key)

    def loss(params):
        model = nnx.merge(graphdef, params)
        contrast, shared, metrics = task.contrast(task.features(model, batch, feature_key), batch, negatives_key)
        pairs = {**batch, **task.negatives(batch, shared)}
        fused, fused_metrics = task.fuse(model, pairs, shared, len(batch["token_ids"]), fuse_key)
        return contrast + fused, {"loss": contrast + fused, **metrics, **fused_metrics}

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return grads, metrics


def _accumulated_gradients(task, graphdef, params, batch, model_key, negatives_key, parts):
    """Gradient caching: features of all parts, their gradient from the whole-batch contrast, then part by part.

    Source: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
    """
    batch_size = len(batch["token_ids"])
    numbers = jnp.arange(parts)

    def part_features(params, part, number):
        key, _ = _keys(None if model_key is None else jax.random.fold_in(model_key, number))
        return task.features(nnx.merge(graphdef, params), part, key)

    features = jax.lax.map(lambda part: part_features(params, *part), (_split_rows(batch, parts), numbers))
    features = jax.tree.map(lambda x: _join_rows(x) if x.ndim > 1 else x[0], features)

    def contrast(features):
        loss, shared, metrics = task.contrast(features, batch, negatives_key)
        return loss, (shared, metrics)

    (contrast_loss, (shared, metrics)), cotangents = jax.value_and_grad(contrast, has_aux=True)(features)
    # Every part sees the scalar features (temperatures) again: each carries its share of their gradient.
    cotangents = jax.tree.map(
        lambda g: _split_rows(g, parts) if g.ndim else jnp.full((parts,), g / parts), cotangents
    )
    pairs = _split_rows({**batch, **task.negatives(batch, shared)}, parts)

    def accumulate(grads, inputs):
        part, part_cotangents, number = inputs

        def loss(params):
            _, key = _keys(None if model_key is None else jax.random.fold_in(model_key, number))
            fused, fused_metrics = task.fuse(nnx.merge(graphdef, params), part, shared, batch_size, key)
            products = jax.tree.map(jnp.vdot, part_features(params, part, number), part_cotangents)
            return fused + sum(jax.tree.leaves(products)), (fused, fused_metrics)

        part_grads, aux = jax.grad(loss, has_aux=True)(params)
        return jax.tree.map(jnp.add, grads, part_grads), aux

    zeros = jax.tree.map(jnp.zeros_like, params)
    grads, aux = jax.lax.scan(accumulate, zeros, (pairs, cotangents, numbers))
    fused, fused_metrics = jax.tree.map(lambda x: x.sum(0), aux)
    return grads, {"loss": contrast_loss + fused, **metrics, **fused_metrics}


def _split_rows(tree, parts):
    """[B, ...] -> [parts, B / parts, ...], taking every parts-th row, so that each part lies on all shards."""
    return jax.tree.map(
        lambda x: constrain(x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), None, "batch"), tree
    )


def _join_rows(x):
    """The inverse of `_split_rows` for one array."""
    x = x.swapaxes(0, 1)
    return constrain(x.reshape(-1, *x.shape[2:]), "batch")


def _keys(key):
    return (None, None) if key is None else jax.random.split(key)
